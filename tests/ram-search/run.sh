#!/usr/bin/env bash
# Provisions once on an emulated Cortex-M3 and searches all of its RAM, after each step and from
# outside, for what is left of the keys: the keys themselves, their base64, what HMAC makes of them
# (with either pad, as message schedule, as state of SHA-256), and the signatures.
#
# Over MQTT and HTTP, at three levels of optimisation; and an image that leaves a key behind on
# purpose must be found out.
#
# Needs qemu-system-arm, python3, and a toolchain for thumbv7m-none-eabi (`rustup target add
# thumbv7m-none-eabi`); on Debian, as root, that toolchain is installed.
set -euo pipefail
cd "$(dirname "$0")"
source ../../.ci/toolchain-bare-metal
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

# search LEVEL BACKEND FEATURES
search() {
    local backend="" length=4
    # The stack is a hundred bytes deeper there, where single words of SHA-256's state are left.
    [ "$1" != z ] || length=8
    [ "$2" = fast ] || backend='--cfg sha2_backend_soft="compact"'
    CARGO_PROFILE_RELEASE_OPT_LEVEL="$1" RUSTFLAGS="-C link-arg=-L../../benches/cortex-m3 -C link-arg=-Tlink.x $backend" \
        "${cargo_bare_metal[@]}" build --quiet --release "${build_std_flags[@]}" --features "$3" &&
        python3 search.py "$CARGO_TARGET_DIR/thumbv7m-none-eabi/release/azure-dps-ram-search" "$length" >"$log"
}

failed=0
while read -r level backend protocol; do
    outcome=0
    search "$level" "$backend" "${protocol/mqtt/}" || outcome=$?
    if [ "$protocol" = control ] && grep -q 'LEFT: *64 bytes.*group key$' "$log"; then
        echo "the control: $(tail -n 1 "$log"), as it must be"
    elif [ "$protocol" != control ] && [ "$outcome" = 0 ]; then
        echo "opt-level $level, $backend, $protocol: $(tail -n 1 "$log")"
    else
        echo "opt-level $level, $backend, $protocol:"
        cat "$log"
        failed=1
    fi
done <<'VARIANTS'
s small mqtt
s fast http
3 fast mqtt
z small http
s small control
VARIANTS
exit "$failed"
