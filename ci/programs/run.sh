#!/usr/bin/env bash
# Compiles the programs of firmware for a Cortex-M3. (Those for Linux are in `cargo test --test programs`.)
# What must not build without a feature must fail for that reason.
set -euo pipefail
cd "$(dirname "$0")/bare-metal"
build_std=core
bare_metal_target=thumbv7m-none-eabi
cd ../../.. && source ci/toolchain-bare-metal && cd ci/programs/bare-metal
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../../../target/programs}
if [ "${1-}" = --lint ]; then
    cargo fmt --check
    exit
fi
check=("${cargo_bare_metal[@]}" check --quiet --target "$bare_metal_target" "${build_std_flags[@]}")
"${check[@]}"
echo "the programs build for $bare_metal_target"
refused=$("${check[@]}" --features look-up-without-the-feature 2>&1) && {
    echo "a look-up builds without the feature lookup" >&2
    exit 1
}
grep -q "no associated function or constant named \`lookup\`\|no function or associated item named \`lookup\`" <<<"$refused" || {
    printf 'it does not build for another reason:\n%s\n' "$refused" >&2
    exit 1
}
echo "a look-up does not build without the feature lookup"
