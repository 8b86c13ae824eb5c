#!/usr/bin/env bash
# shellcheck disable=SC2317 # Functions are called by name.
# Lets the linker prove that the library cannot panic, in Rust and in C.
#
#   ci/no-panic/run.sh              both
#   ci/no-panic/run.sh rust         the entry points of azure-dps: one image for each file in src/bin
#   ci/no-panic/run.sh c            the functions of azure_dps.h: one image for each function
#   ci/no-panic/run.sh --paths ...  also prints the call path to each place in `argued`
#
# Each image is built for thumbv7m, in release mode with link-time optimization. The panic handler calls a function
# that is not defined. So an image that links contains no call to a panic, for any input.
#
# Some images do not link because of code in other crates. For these images, `argued` below lists each call to a panic
# and why the call cannot happen. sites.py then searches the image: each listed call must occur once, and no other.
#
# Needs a toolchain for thumbv7m-none-eabi, gcc, python3 and Debian's binutils-arm-none-eabi. On Debian, as root, the
# script installs what is missing.
set -euo pipefail
shown=() parts=()
for argument; do
    case "$argument" in
        --paths) shown=(--print) ;;
        rust | c) parts+=("$argument") ;;
        *) sed -n '3,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
[ ${#parts[@]} -gt 0 ] || parts=(rust c)
cd "$(dirname "$0")"
source ../toolchain-bare-metal
for tool in gcc python3; do want "$tool" command -v "$tool"; done
want binutils-arm-none-eabi command -v arm-none-eabi-objdump
install_wanted

# httparse 1.10.1. `offsetnz` ends in `unreachable!()` after a loop over the bytes of a word that is not zero.
# `parse_headers_iter_uninit` cuts a value after its last byte that is not white space, which it has just found.
httparse="core::panicking::panic<httparse::simd::swar::offsetnz \
core::slice::index::slice_index_fail<httparse::parse_headers_iter_uninit"

# The images that do not link. Each call is written as PANIC-FUNCTION<CALLER.
declare -A argued=(
    [http_response]="$httparse"
    [blocking]="$httparse"
    # An `async fn` panics if it is polled after it has ended. No executor does this.
    [asynch]="$httparse core::panicking::panic<azure_dps::transport::asynch::serve::{{closure}}"
    # serde-json-core 0.7.0. `extend_from_slice` compares the lengths before it stores the bytes one by one. A `u32`
    # has no more digits than `serialize_u32` has room for. (The documentation of `with_serialized` lists the types for
    # which serde-json-core panics by design.)
    [with_serialized]="core::panicking::panic_bounds_check<serde_json_core::ser::Serializer::push_unchecked \
core::panicking::panic_bounds_check<serde_json_core::ser::Serializer::serialize_u32"
    [azure_dps_http_received]="$httparse"
    [azure_dps_run]="$httparse"
    # These two show that the proof can fail.
    [control]="core::panicking::panic_bounds_check<control::proof"
    [azure_dps_control]="core::panicking::panic_bounds_check<azure_dps_control"
)

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
failed=0 proven=0 images=()

# prove LINK IMAGE WHAT: `LINK IMAGE` links it, `LINK IMAGE --with-panics` links it with the handler defined, with
# relocations. Either writes $work/log and sets $elf.
prove() {
    local link="$1" image="$2" what="$3" places
    images+=("$image")
    if "$link" "$image"; then
        if [ -n "${argued[$image]:-}" ]; then
            echo "LINKS, remove it from argued: $what"
            failed=1
        else
            echo "cannot panic: $what"
            proven=$((proven + 1))
        fi
        return
    elif ! grep -q a_panic_is_reachable "$work/log" ||
        grep -E "undefined (reference|symbol)" "$work/log" | grep -qv a_panic_is_reachable; then
        cat "$work/log" >&2
        exit 1
    fi
    "$link" "$image" --with-panics
    read -ra places <<<"${argued[$image]:-}"
    if python3 sites.py "${shown[@]}" "$elf" "${places[@]}"; then
        echo "argued:       $what: ${places[*]#*<}"
    else
        echo "MAY PANIC:    $what"
        failed=1
    fi
}

# --- Rust: an image is a program ---------------------------------------------------------------

build_rust() {
    "${cargo_bare_metal[@]}" build --quiet --release --target thumbv7m-none-eabi "${build_std_flags[@]}" "$@"
}

link_rust() {
    if [ $# = 1 ]; then
        CARGO_TARGET_DIR="$target" build_rust --bin "$1" 2>"$work/log"
    else
        elf="$target/sites/thumbv7m-none-eabi/release/$1"
        # With line tables, so that sites.py sees inlined functions.
        RUSTFLAGS="-C link-arg=--defsym=a_panic_is_reachable=0 -C link-arg=--emit-relocs" CARGO_PROFILE_RELEASE_DEBUG=1 \
            CARGO_TARGET_DIR="$target/sites" build_rust --bin "$1" 2>"$work/log"
    fi
}

prove_rust() {
    local source target="${CARGO_TARGET_DIR:-target}"
    # All images at once, to use all processors. Some do not link.
    CARGO_TARGET_DIR="$target" build_rust --bins --keep-going >/dev/null 2>&1 || true
    for source in src/bin/*.rs; do
        # shellcheck disable=SC2016 # The backquote is part of the pattern.
        prove link_rust "$(basename "$source" .rs)" "$(sed -n '1s/^\/\/! `\{0,1\}\([^`]*\)`\{0,1\}\.$/\1/p' "$source")"
    done
}

# --- C: an image is one function of the archive -----------------------------------------------

link_c() {
    local options=()
    elf="$work/image"
    [ $# = 1 ] || options=(--defsym=a_panic_is_reachable=0 --emit-relocs)
    arm-none-eabi-ld --gc-sections --require-defined="$1" --entry="$1" -o "$elf" "${options[@]}" "$archive" 2>"$work/log"
}

prove_c() {
    local function functions archive target="${CARGO_TARGET_DIR:-$PWD/../../c/target}"
    archive="$target/thumbv7m-none-eabi/release/libno_panic.a"
    (cd c && RUSTFLAGS="${RUSTFLAGS:-} --cfg sha2_backend_soft=\"compact\"" CARGO_TARGET_DIR="$target" build_rust --locked)
    mapfile -t functions < <(../c-api/functions)
    [ ${#functions[@]} -gt 0 ] || { echo "no functions in the header" >&2; exit 1; }
    for function in "${functions[@]}" azure_dps_control; do
        prove link_c "$function" "$function"
    done
}

for part in "${parts[@]}"; do "prove_$part"; done
if [ ${#parts[@]} = 2 ]; then
    for image in "${!argued[@]}"; do
        [[ " ${images[*]} " = *" $image "* ]] || { echo "no such image: $image"; failed=1; }
    done
fi
echo "$proven of ${#images[@]} images cannot panic: they link. argued has the reasons for the others"
exit "$failed"
