#!/usr/bin/env bash
# The linker proves that the entry points of azure-dps cannot panic: each is linked into an
# image of its own (thumbv7m, release, LTO) whose panic handler calls what is defined nowhere.
# An image that links holds no way to a panic, whatever the input.
#
#   tests/no-panic/run.sh           all of them
#   tests/no-panic/run.sh --paths   and for those that are known not to link, where they panic
#
# Needs a toolchain for thumbv7m-none-eabi (`rustup target add thumbv7m-none-eabi`), on Debian,
# as root, it is installed; --paths needs python3 and arm-none-eabi-objdump too.
set -euo pipefail
paths=false
case "${1:-}" in
    --paths) paths=true ;;
    "") ;;
    *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
cd "$(dirname "$0")"
source ../../.ci/toolchain-bare-metal
target="${CARGO_TARGET_DIR:-target}"

# Those that cannot link, with the reason. Whoever frees one takes it off the list.
declare -A panics=(
    [control]="panics on purpose, to show that this proof can fail"
    [http_response]="httparse 1.10"
    [embedded_io]="httparse 1.10, through the reading of an answer"
    [embedded_io_async]="httparse 1.10, through the reading of an answer; a future that is polled after its end"
    [errors_debug]="core::fmt, which escapes a text within {:?}"
    [payload_as]="serde-json-core 0.7"
    [with_serialized]="serde-json-core 0.7"
)

# link IMAGE LOG
link() {
    "${cargo_bare_metal[@]}" build --quiet --release --target thumbv7m-none-eabi "${build_std_flags[@]}" \
        --bin "$1" >/dev/null 2>"$2"
}

failed=0
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
for source in src/bin/*.rs; do
    image="$(basename "$source" .rs)"
    what="$(sed -n '1s/^\/\/! `\{0,1\}\([^`]*\)`\{0,1\}\.$/\1/p' "$source")"
    if CARGO_TARGET_DIR="$target" link "$image" "$log"; then
        if [ -n "${panics[$image]:-}" ]; then
            echo "links after all, take it off the list: $what"
            failed=1
        else
            echo "cannot panic: $what"
        fi
    elif ! grep -q a_panic_is_reachable "$log"; then
        cat "$log" >&2
        exit 1
    elif [ -n "${panics[$image]:-}" ]; then
        echo "may panic:    $what: ${panics[$image]}"
    else
        echo "MAY PANIC:    $what"
        failed=1
    fi
    if $paths && [ -n "${panics[$image]:-}" ]; then
        RUSTFLAGS="-C link-arg=--defsym=a_panic_is_reachable=0" CARGO_PROFILE_RELEASE_DEBUG=1 \
            CARGO_TARGET_DIR="$target/paths" link "$image" "$log"
        python3 path.py "$target/paths/thumbv7m-none-eabi/release/$image"
    fi
done
exit "$failed"
