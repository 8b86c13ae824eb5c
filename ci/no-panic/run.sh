#!/usr/bin/env bash
# The linker proves that the entry points of azure-dps cannot panic: each is linked into an
# image of its own (thumbv7m, release, LTO) whose panic handler calls what is defined nowhere.
# An image that links holds no way to a panic, whatever the input.
#
#   ci/no-panic/run.sh           all of them
#   ci/no-panic/run.sh --paths   and how the few places are reached that the linker leaves
#
# Where other crates keep what only looks like a way to a panic, the image is linked all the
# same, and its code searched: each place that is argued below is there once, and there is no other.
#
# Needs a toolchain for thumbv7m-none-eabi (`rustup target add thumbv7m-none-eabi`), python3 and
# Debian's binutils-arm-none-eabi. On Debian, as root, it installs what is missing.
set -euo pipefail
shown=()
case "${1:-}" in
    --paths) shown=(--print) ;;
    "") ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
cd "$(dirname "$0")"
source ../../ci/toolchain-bare-metal
want binutils-arm-none-eabi command -v arm-none-eabi-objdump
install_wanted
target="${CARGO_TARGET_DIR:-target}"

# httparse 1.10.1. `offsetnz` ends in `unreachable!()` behind a loop over the bytes of a word that
# is not zero; `parse_headers_iter_uninit` cuts a value behind the last byte that is no white
# space, which it has just found in there. Neither can happen.
httparse="core::panicking::panic<httparse::simd::swar::offsetnz \
core::slice::index::slice_index_fail<httparse::parse_headers_iter_uninit"

# The images that do not link, with what is argued: the machinery that is called, and from which function.
declare -A argued=(
    [http_response]="$httparse"
    [blocking]="$httparse"
    # Every `async fn` panics if it is polled after its end, which no executor does.
    [asynch]="$httparse core::panicking::panic<azure_dps::transport::asynch::serve::{{closure}}"
    # serde-json-core 0.7.0. `extend_from_slice` has compared the lengths before it stores the
    # bytes one by one; no `u32` has more digits than `serialize_u32` has room for. (On what it
    # panics by design, the documentation of `with_serialized` has a list: types, not contents.)
    [with_serialized]="core::panicking::panic_bounds_check<serde_json_core::ser::Serializer::push_unchecked \
core::panicking::panic_bounds_check<serde_json_core::ser::Serializer::serialize_u32"
    # Shows that this proof can fail.
    [control]="core::panicking::panic_bounds_check<control::proof"
)

# link IMAGE LOG
link() {
    "${cargo_bare_metal[@]}" build --quiet --release --target thumbv7m-none-eabi "${build_std_flags[@]}" \
        --bin "$1" >/dev/null 2>"$2"
}

# All images, on all processors. Those that do not link are looked at below, one by one.
CARGO_TARGET_DIR="$target" "${cargo_bare_metal[@]}" build --quiet --release --target thumbv7m-none-eabi \
    "${build_std_flags[@]}" --bins --keep-going >/dev/null 2>&1 || true

failed=0
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
for source in src/bin/*.rs; do
    image="$(basename "$source" .rs)"
    # shellcheck disable=SC2016 # The backquote is the source's.
    what="$(sed -n '1s/^\/\/! `\{0,1\}\([^`]*\)`\{0,1\}\.$/\1/p' "$source")"
    if CARGO_TARGET_DIR="$target" link "$image" "$log"; then
        if [ -n "${argued[$image]:-}" ]; then
            echo "LINKS AFTER ALL, take it off the list: $what"
            failed=1
        else
            echo "cannot panic: $what"
        fi
        continue
    elif ! grep -q a_panic_is_reachable "$log"; then
        cat "$log" >&2
        exit 1
    fi
    # With line tables and relocations, and the handler defined.
    RUSTFLAGS="-C link-arg=--defsym=a_panic_is_reachable=0 -C link-arg=--emit-relocs" CARGO_PROFILE_RELEASE_DEBUG=1 \
        CARGO_TARGET_DIR="$target/sites" link "$image" "$log"
    read -ra places <<<"${argued[$image]:-}"
    if python3 sites.py "${shown[@]}" "$target/sites/thumbv7m-none-eabi/release/$image" "${places[@]}"; then
        echo "argued:       $what: ${places[*]#*<}"
    else
        echo "MAY PANIC:    $what"
        failed=1
    fi
done
for image in "${!argued[@]}"; do
    [ -f "src/bin/$image.rs" ] || { echo "no such image: $image"; failed=1; }
done
exit "$failed"
