#!/usr/bin/env bash
# Provisions once on an emulated Cortex-M3, and once as a program of this Linux machine (x86-64). After each step,
# searches all memory and registers from outside for remains of the keys: the keys, their base64, the intermediate
# values of HMAC (both pads, the message schedule, the state of SHA-256), and the signatures.
#
# Covers MQTT and HTTP, three optimization levels, and SHA-256 in software, also with the recipe for small firmware
# (ci/cost/recipe) and with the profile of the example firmwares. On Linux, also covers the processor's SHA-256
# instructions, if it has them. On each machine, the search must find the keys of control builds. A control build leaves
# a key in memory and in a register, and computes an HMAC without wiping.
#
# Then does the same through the C API on both machines: c/main.c with the library of c/build.sh.
#
# Needs gcc, arm-none-eabi-gcc with newlib, qemu-system-arm, python3, and a toolchain for thumbv7m-none-eabi (`rustup
# target add thumbv7m-none-eabi`). On Debian, as root, all but python3 are installed.
set -euo pipefail
cd "$(dirname "$0")"
source ../toolchain-bare-metal
want qemu-system-arm command -v qemu-system-arm
want gcc gcc --version
want gcc-arm-none-eabi arm-none-eabi-gcc --version
want libnewlib-arm-none-eabi test -e /usr/lib/arm-none-eabi/newlib/libc.a
install_wanted
c_target_dir="${CARGO_TARGET_DIR:-}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

# search MACHINE LEVEL BACKEND FEATURES
search() {
    local flags="" length=4 features="$4" config=() target=thumbv7m-none-eabi cargo=("${cargo_bare_metal[@]}") build_std=("${build_std_flags[@]}")
    : >"$log"
    case "$3" in
        small*) flags='--cfg sha2_backend_soft="compact"' ;;
        soft) flags='--cfg sha2_backend="soft"' ;;
    esac
    case "$3" in
        *+z) config=(--config 'profile.release.package.sha2.opt-level = "z"') ;;
        # The flags in the environment replace the flags in the file.
        *+recipe) config=(--config ../../ci/cost/recipe/config.toml) features+=,recipe flags+=" -C link-arg=--icf=all" ;;
        *+example)
            sed -n '/^\[profile\./,/^$/p' ../../examples/firmware/Cargo.toml >"$CARGO_TARGET_DIR/example.toml"
            config=(--config "$CARGO_TARGET_DIR/example.toml")
            ;;
    esac
    if [ "$1" = linux ]; then
        # Random data on Linux contains any four bytes by chance.
        target=x86_64-unknown-linux-gnu cargo=(cargo) build_std=() length=5
    else
        flags="-C link-arg=-L../../ci/cost -C link-arg=-Tlink.x $flags"
        # The stack is up to 60 bytes deeper. It keeps words of SHA-256's state and of its result, out of order.
        [ "$2 $3" != "z small" ] || length=8
    fi
    CARGO_PROFILE_RELEASE_OPT_LEVEL="$2" RUSTFLAGS="$flags" \
        "${cargo[@]}" build --quiet --release --target "$target" "${build_std[@]}" "${config[@]}" --features "$features" &&
        python3 search.py "$CARGO_TARGET_DIR/$target/release/azure-dps-ram-search" "$length" >"$log"
}

# search_c MACHINE
search_c() {
    local target=thumbv7m-none-eabi length=4 options=(--features "")
    local cc=(arm-none-eabi-gcc -mcpu=cortex-m3 -mthumb -nostartfiles -T c/link.ld "-Wl,-z,noexecstack")
    if [ "$1" = linux ]; then
        # Binds symbols at the start. Otherwise the dynamic linker saves the vector registers on the stack during the
        # run.
        target=x86_64-unknown-linux-gnu length=5 options=() cc=("${CC:-gcc}" "-Wl,-z,now")
    fi
    local prefix="$CARGO_TARGET_DIR/c/$target"
    # The library in c/target is not compiled again.
    CARGO_TARGET_DIR="$c_target_dir" ../../c/build.sh --target "$target" "${options[@]}" --prefix "$prefix" >/dev/null &&
        "${cc[@]}" -std=c99 -O2 -Wall -Wextra -Werror -I "$prefix/include" c/main.c \
            "$prefix/lib/libazure_dps_c.a" -o "$prefix/ram-search" &&
        python3 search.py "$prefix/ram-search" "$length" c >"$log"
}

failed=0
while read -r machine level backend protocol; do
    if [ "$machine" = linux ] && [ "$(uname -sm)" != "Linux x86_64" ]; then
        echo "linux, opt-level $level, $backend, $protocol: skipped, this machine is not Linux on x86-64"
        continue
    fi
    outcome=0
    if [ "$protocol" = c ]; then
        : >"$log"
        search_c "$machine" || outcome=$?
    else
        search "$machine" "$level" "$backend" "${protocol/mqtt/}" || outcome=$?
    fi
    if [ "$protocol" = control ] && grep -q 'LEFT: .* at .*group key$' "$log" && grep -q 'LEFT: .* at .*state' "$log" &&
        tail -n 2 "$log" | grep -qE ' in (r10|the vector registers): group key$'; then
        echo "$machine, the control: $(tail -n 1 "$log"), as expected"
    elif [ "$protocol" != control ] && [ "$outcome" = 0 ]; then
        echo "$machine, opt-level $level, $backend, $protocol: $(tail -n 1 "$log")"
    else
        echo "$machine, opt-level $level, $backend, $protocol:"
        cat "$log"
        failed=1
    fi
done <<'VARIANTS'
cortex-m3 s small mqtt
cortex-m3 s fast http
cortex-m3 3 fast mqtt
cortex-m3 s small+z http
cortex-m3 s small+recipe mqtt
cortex-m3 s fast+recipe http
cortex-m3 z small http
cortex-m3 z small+example mqtt
cortex-m3 z small+example http
cortex-m3 s small control
linux s native mqtt
linux 3 native http
linux 3 soft mqtt
linux s native control
cortex-m3 s small c
linux s fast c
VARIANTS
exit "$failed"
