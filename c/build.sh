#!/usr/bin/env bash
# Builds libazure_dps_c.a and installs it, with the header, a CMake package and a pkg-config file.
#
#   c/build.sh [--target TRIPLE] [--features LIST] [--fast | --recipe] [--prefix DIR]
#
#   --target TRIPLE   Rust's name of the target. Default: this machine. Tested targets:
#                       thumbv6m-none-eabi           Cortex-M0, M0+
#                       thumbv7m-none-eabi           Cortex-M3
#                       thumbv7em-none-eabi          Cortex-M4, M7; soft floats (-mfloat-abi=soft or softfp)
#                       thumbv7em-none-eabihf        Cortex-M4F, M7F; -mfloat-abi=hard
#                       thumbv8m.main-none-eabi      Cortex-M33, M35P; soft floats
#                       thumbv8m.main-none-eabihf    Cortex-M33, M35P; -mfloat-abi=hard
#                       riscv32imc-unknown-none-elf  ESP32-C3 and others; -mabi=ilp32
#                       riscv32imac-unknown-none-elf ESP32-C6, H2 and others; -mabi=ilp32
#                       x86_64-unknown-linux-gnu, x86_64-unknown-linux-musl, aarch64-unknown-linux-gnu
#   --features LIST   features, separated by commas: tpm, csr, lookup. Default: all three. "" enables none, which
#                     makes firmware smaller.
#   --fast            Unrolls SHA-256: 6.8 KB more flash, 0.8 times the instructions. Default on Linux.
#   --recipe          Compiles SHA-256 with opt-level z: the smallest build. See docs/evidence/cost.md.
#   --prefix DIR      Installs into this directory. Default: c/target/prefix/TRIPLE. If CARGO_TARGET_DIR is set, all
#                     files are in that directory instead of c/target.
#
#   c/build.sh                                                  # for this machine
#   c/build.sh --target thumbv7em-none-eabihf                   # for a Cortex-M4F
#   c/build.sh --target thumbv7m-none-eabi --features "" --recipe --prefix sysroot
#   cc main.c $(PKG_CONFIG_PATH=DIR/lib/pkgconfig pkg-config --cflags --libs azure_dps_c)
#   cmake -DCMAKE_PREFIX_PATH=DIR …                             # find_package(azure_dps_c)
#
# Needs Rust from rustup, and ar. Run `rustup target add TRIPLE` once. As root, the script runs it for you.
set -euo pipefail

usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
wrong() { printf '%s\n' "$*" >&2; exit 2; }

target="" features="tpm,csr,lookup" build="" prefix=""
while [ $# -gt 0 ]; do
    case "$1" in
        --target | --features | --prefix) [ $# -gt 1 ] || wrong "$1 needs a value; see --help" ;;&
        --target) target="$2"; shift ;;
        --features) features="$2"; shift ;;
        --prefix) prefix="$2"; shift ;;
        --fast) build=fast ;;
        --recipe) build=recipe ;;
        --help | -h) usage; exit 0 ;;
        *) wrong "unknown: $1; see --help" ;;
    esac
    shift
done
[[ "$features" != *[[:space:]]* ]] || wrong "features are separated by commas, without spaces"
for feature in ${features//,/ }; do
    case "$feature" in
        tpm | csr | lookup) ;;
        *) wrong "unknown feature $feature: the features are tpm, csr and lookup" ;;
    esac
done
for tool in cargo rustc; do
    command -v "$tool" >/dev/null || wrong "$tool is missing: install Rust, see https://rustup.rs"
done
command -v ar >/dev/null || wrong "ar is missing: install binutils"

[ -z "$prefix" ] || { mkdir -p "$prefix" && prefix="$(cd "$prefix" && pwd)"; }
[ -z "${CARGO_TARGET_DIR:-}" ] || { mkdir -p "$CARGO_TARGET_DIR" && CARGO_TARGET_DIR="$(cd "$CARGO_TARGET_DIR" && pwd)"; }
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
target="${target:-$(rustc -vV | sed -n 's/^host: //p')}"
grep -qx "$target" <<<"$(rustc --print target-list)" || wrong "Rust has no target $target; see --help"
case "$target" in
    *-none-*) build="${build:-small}" ;;
    *) build="${build:-fast}" ;;
esac
prefix="${prefix:-$CARGO_TARGET_DIR/prefix/$target}"

# --- The compiler for the target ------------------------------------------------------------

# shellcheck source=../ci/packages
source ../ci/packages
cargo_bare_metal=(cargo) build_std_flags=()
case "$target" in
    *-none-*)
        # Also knows Debian's compiler, if rustup has none for the target.
        # shellcheck disable=SC2034 # The file that is sourced reads it.
        bare_metal_target="$target"
        # shellcheck source=../ci/toolchain-bare-metal
        source ../ci/toolchain-bare-metal
        ;;
    *)
        has_target "$target" || [ "$(rustc -vV | sed -n 's/^host: //p')" = "$target" ] ||
            { [ "$(id -u)" = 0 ] && rustup target add "$target" >/dev/null 2>&1; } ||
            wrong "Rust cannot build for $target: rustup target add $target"
        ;;
esac

# --- The library ----------------------------------------------------------------------------

# Another run for the same target, with other options, would replace this archive with its own.
mkdir -p "$CARGO_TARGET_DIR"
if command -v flock >/dev/null; then
    exec 8>"$CARGO_TARGET_DIR/azure-dps-c.lock"
    flock 8
fi

flags="${RUSTFLAGS:-}"
config=()
[ "$build" = fast ] || flags+=' --cfg sha2_backend_soft="compact"'
[ "$build" != recipe ] || config=(--config 'profile.release.package.sha2.opt-level="z"')
RUSTFLAGS="$flags" "${cargo_bare_metal[@]}" rustc --quiet --locked --release --crate-type staticlib --target "$target" \
    --features "panic-handler${features:+,$features}" "${config[@]}" "${build_std_flags[@]}"

# Link-time optimisation leaves one object with the library's code. The others in rustc's archive are Rust's own
# memcpy and arithmetic, which the C library and libgcc have too, and smaller.
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
whole="$CARGO_TARGET_DIR/$target/release/libazure_dps_c.a"
mapfile -t members < <(ar t "$whole" | grep '^azure_dps_c-.*\.o$')
[ ${#members[@]} = 1 ] || wrong "$whole: ${#members[@]} objects with the library's code, not one"
(cd "$work" && ar x "$whole" "${members[0]}" && mv "${members[0]}" azure_dps.o && ar rcsD libazure_dps_c.a azure_dps.o)

# --- What is installed ----------------------------------------------------------------------

version="$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)"
bits="$(rustc --print cfg --target "$target" | sed -n 's/^target_pointer_width="\(.*\)"$/\1/p')"
pointer_size=$((bits / 8))
fill_in() {
    sed -e "s/@VERSION@/$version/g" -e "s/@TARGET@/$target/g" -e "s/@FEATURES@/$features/g" \
        -e "s/@POINTER_SIZE@/$pointer_size/g" "$1"
}
fill_in cmake/azure_dps_c-config.cmake.in >"$work/azure_dps_c-config.cmake"
fill_in cmake/azure_dps_c-config-version.cmake.in >"$work/azure_dps_c-config-version.cmake"
fill_in cmake/azure_dps_c.pc.in >"$work/azure_dps_c.pc"

# place FILE DIRECTORY: a file that did not change keeps its time, so that nothing is linked again.
place() {
    mkdir -p "$prefix/$2"
    cmp -s "$1" "$prefix/$2/$(basename "$1")" || install -m 644 "$1" "$prefix/$2/"
}
place "$work/libazure_dps_c.a" lib
place include/azure_dps.h include
place "$work/azure_dps_c-config.cmake" lib/cmake/azure_dps_c
place "$work/azure_dps_c-config-version.cmake" lib/cmake/azure_dps_c
place "$work/azure_dps_c.pc" lib/pkgconfig
echo "azure_dps_c $version for $target, $build, with ${features:-no features}: $prefix"
