#!/usr/bin/env bash
# The linker proves that the functions of the C library cannot panic. All are compiled into one archive
# (thumbv7m, release, LTO) whose panic handler calls what is defined nowhere. Then each function is linked
# by itself: an image that links holds no way to a panic, whatever C passes.
#
#   ci/no-panic-c/run.sh           all functions of the header
#   ci/no-panic-c/run.sh --paths   and how the few places are reached that the linker leaves
#
# Where another crate keeps what only looks like a way to a panic, the image is linked all the same, and its
# code searched: each place that is argued below is there once, and there is no other.
#
# Needs a toolchain for thumbv7m-none-eabi (`rustup target add thumbv7m-none-eabi`), python3, gcc and
# Debian's binutils-arm-none-eabi. On Debian, as root, it installs what is missing.
set -euo pipefail
shown=()
case "${1:-}" in
    --paths) shown=(--print) ;;
    "") ;;
    *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
cd "$(dirname "$0")"
source ../../ci/toolchain-bare-metal
for tool in gcc python3; do want "$tool" command -v "$tool"; done
want binutils-arm-none-eabi command -v arm-none-eabi-ld
install_wanted
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../../c/target}"

# httparse 1.10.1, as in ci/no-panic/run.sh: `offsetnz` ends in `unreachable!()` behind a loop over the bytes
# of a word that is not zero; `parse_headers_iter_uninit` cuts a value behind the last byte that is no white
# space, which it has just found in there. Neither can happen.
httparse="core::panicking::panic<httparse::simd::swar::offsetnz \
core::slice::index::slice_index_fail<httparse::parse_headers_iter_uninit"

# The functions that do not link, with what is argued: the machinery that is called, and from which function.
declare -A argued=(
    [azure_dps_http_received]="$httparse"
    [azure_dps_run]="$httparse"
    # Shows that this proof can fail.
    [control]="core::panicking::panic_bounds_check<control"
)

RUSTFLAGS="${RUSTFLAGS:-} --cfg sha2_backend_soft=\"compact\"" "${cargo_bare_metal[@]}" build --quiet --locked --release \
    --target thumbv7m-none-eabi "${build_std_flags[@]}"
archive="$CARGO_TARGET_DIR/thumbv7m-none-eabi/release/libno_panic.a"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# link FUNCTION [OPTION…]
link() { arm-none-eabi-ld --gc-sections --require-defined="$1" --entry="$1" -o "$work/image" "${@:2}" "$archive" 2>"$work/log"; }

gcc -fsyntax-only -aux-info "$work/declared" ../../c/include/azure_dps.h
mapfile -t functions < <(sed -n '/azure_dps\.h:/{/ static /!s/.*\b\(azure_dps_[a-z0-9_]*\) (.*/\1/p}' "$work/declared" | sort)
[ ${#functions[@]} -gt 0 ] || { echo "no functions in the header" >&2; exit 1; }

failed=0 proven=0
for function in "${functions[@]}" control; do
    if link "$function"; then
        if [ -n "${argued[$function]:-}" ]; then
            echo "LINKS AFTER ALL, take it off the list: $function"
            failed=1
        else
            echo "cannot panic: $function"
            proven=$((proven + 1))
        fi
        continue
    elif ! grep -q a_panic_is_reachable "$work/log" || grep -E "undefined (reference|symbol)" "$work/log" | grep -qv a_panic_is_reachable; then
        cat "$work/log" >&2
        exit 1
    fi
    # With relocations, and the handler defined.
    link "$function" --defsym=a_panic_is_reachable=0 --emit-relocs
    read -ra places <<<"${argued[$function]:-}"
    if python3 ../../ci/no-panic/sites.py "${shown[@]}" "$work/image" "${places[@]}"; then
        echo "argued:       $function: ${places[*]#*<}"
    else
        echo "MAY PANIC:    $function"
        failed=1
    fi
done
for function in "${!argued[@]}"; do
    grep -qx "$function" <<<"$(printf '%s\n' "${functions[@]}" control)" || { echo "no such function: $function"; failed=1; }
done
echo "$proven of ${#functions[@]} functions cannot panic, by the linker; the places of the others are argued"
exit "$failed"
