#!/usr/bin/env bash
# Measures which lines of the library the tests and the fuzz targets run, and lists those that none
# of them does. Fails below 95 %.
#
#   ci/line-coverage/run.sh
#
# The fuzz targets run their seeds and, if there is one, the corpus in fuzz/corpus/. Documentation
# tests run too, but are not counted.
#
# Needs cargo-llvm-cov and cargo-fuzz (`cargo install`), and LLVM's tools in the version of rustc's:
# `rustup component add llvm-tools`, or, as on Debian, LLVM_COV and LLVM_PROFDATA that name them.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target/line-coverage}"

# What it says is for those who look for a fault.
quietly() {
    local said
    said="$("$@" 2>&1)" || { printf '%s\n' "$said" >&2; return 1; }
}

settings="$(cargo llvm-cov show-env --sh --no-cfg-coverage)"
eval "$settings"
cargo llvm-cov clean --workspace
# Tests run these.
cargo build --quiet --workspace --examples --bins
quietly cargo test --package azure-dps

# Where the report looks for programs.
options=(-s none --target-dir "$CARGO_TARGET_DIR/debug/fuzz")
quietly cargo fuzz build "${options[@]}"
for target in http_response json mqtt_message payload_as record registration_result; do
    mkdir -p "fuzz/corpus/$target"
    quietly cargo fuzz run "${options[@]}" "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- -runs=0
done

cargo llvm-cov report --show-missing-lines --fail-under-lines 95 \
    --ignore-filename-regex '/(emulator|examples|tests|fuzz)/'
