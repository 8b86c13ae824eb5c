#!/usr/bin/env bash
# Builds the programs for a Cortex-M3 with gcc and newlib, and runs them in QEMU. Fails if a check fails.
#
#   c/examples/cortex-m3/run.sh          recorded answers, no network; with short enums, then with enums of 4 bytes
#   c/examples/cortex-m3/run.sh --tls    provisions over TLS 1.2, with mbedTLS, against the local DPS emulator
#
# Builds below c/target, or CARGO_TARGET_DIR. Needs Rust with thumbv7m-none-eabi, and Debian's qemu-system-arm
# gcc-arm-none-eabi libnewlib-arm-none-eabi; over TLS also openssl python3. On Debian, as root, it installs
# missing packages. EMULATOR names a dps-emulator. Without EMULATOR, cargo builds one. MBEDTLS names the sources of
# mbedTLS 3.6. Without MBEDTLS, the script uses the sources of examples/firmware, which cargo fetches.
set -euo pipefail

over_tls=false verbose=false
while [ $# -gt 0 ]; do
    case "$1" in
        --tls) over_tls=true ;;
        --verbose) verbose=true ;;
        --help | -h) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "unknown argument: $1. See --help." >&2; exit 2 ;;
    esac
    shift
done

[ -z "${CARGO_TARGET_DIR:-}" ] || CARGO_TARGET_DIR="$(realpath -m "$CARGO_TARGET_DIR")"
cd "$(dirname "$0")"
# shellcheck source=../../../ci/packages
source ../../../ci/packages
# shellcheck source=../../../examples/expect.sh
source ../../../examples/expect.sh
has_newlib() { echo '#include <string.h>' | arm-none-eabi-gcc -E -; }
want gcc-arm-none-eabi command -v arm-none-eabi-gcc
want libnewlib-arm-none-eabi has_newlib
want qemu-system-arm command -v qemu-system-arm
if $over_tls; then
    want openssl command -v openssl
    want python3 command -v python3
fi
install_wanted

out="${CARGO_TARGET_DIR:-$PWD/../../target}/cortex-m3"
# The two may run at the same time.
! $over_tls || out+=-tls
mkdir -p "$out"
../../build.sh --target thumbv7m-none-eabi --features "" --prefix "$out/prefix"
compile=(arm-none-eabi-gcc -std=c99 -mcpu=cortex-m3 -mthumb -Os -ffunction-sections -fdata-sections)
strict=(-Wall -Wextra -Wpedantic -Wconversion -Werror -I "$out/prefix/include")
# The linker warns of an archive that was built with the other flag. This library has no enums.
link=(-nostartfiles "-Wl,--gc-sections,--no-enum-size-warning,-z,noexecstack" -T mps2-an385.ld -L "$out/prefix/lib")
board=(qemu-system-arm -M mps2-an385 -cpu cortex-m3)

if ! $over_tls; then
    for enums in -fshort-enums -fno-short-enums; do
        echo "== with $enums"
        "${compile[@]}" "$enums" "${strict[@]}" -Wa,-I../../../tests/vectors "${link[@]}" -o "$out/example.elf" \
            main.c startup.c vectors.S -lazure_dps_c
        timeout 60 "${board[@]}" -nographic -semihosting-config enable=on,target=native -kernel "$out/example.elf" </dev/null 2>&1
    done
    exit
fi

# --- Over TLS: the build -------------------------------------------------------------------

if [ -z "${MBEDTLS:-}" ]; then
    MBEDTLS="$(cargo metadata --quiet --locked --format-version 1 --manifest-path ../../../examples/firmware/Cargo.toml |
        python3 -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(next(os.path.dirname(p["manifest_path"]) for p in packages if p["name"] == "mbedtls-rs-sys"))')/mbedtls"
fi
configured=(--specs=nano.specs -I "$PWD/tls" -isystem "$MBEDTLS/include" '-DMBEDTLS_CONFIG_FILE="mbedtls_for_dps.h"')
# What the configuration turns off is an empty file.
rm -rf "$out/mbedtls"
mkdir "$out/mbedtls"
(cd "$out/mbedtls" && printf '%s\n' "$MBEDTLS"/library/*.c | xargs -P "$(nproc)" -n 20 "${compile[@]}" "${configured[@]}" -c)
"${compile[@]}" "${strict[@]}" "${configured[@]}" "${link[@]}" -o "$out/tls.elf" \
    tls/{main,board,tls}.c startup.c "$out"/mbedtls/*.o -lazure_dps_c
arm-none-eabi-size "$out/tls.elf"

if [ -z "${EMULATOR:-}" ]; then
    EMULATOR="$(../../../ci/build-emulator)"
fi

# --- Over TLS: the runs --------------------------------------------------------------------

config="$PWD/../../../emulator/examples/dps-emulator.toml"
work="$(mktemp -d)"
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

hub=contoso-toasters-hub-1098.azure-devices.net
# The tutorial's key, which is no secret, and another one.
echo JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs= >toaster.key
head -c 32 /dev/urandom | base64 >wrong.key

# certificate NAME KEY DAYS [ISSUER]: NAME.pem and NAME.private; without an issuer, a CA.
certificate() {
    local extensions='basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign' signer=(-signkey "$1.private")
    if [ $# -gt 3 ]; then
        extensions='basicConstraints=critical,CA:false\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost'
        signer=(-CA "$4.pem" -CAkey "$4.private" -CAcreateserial)
    fi
    openssl genpkey -algorithm "${2%%:*}" -pkeyopt "${2#*:}" -out "$1.private" 2>/dev/null
    openssl req -new -key "$1.private" -subj "/CN=$1" -out "$1.csr"
    openssl x509 -req -in "$1.csr" "${signer[@]}" -days "$3" -out "$1.pem" -extfile <(printf '%b' "$extensions") 2>/dev/null
}
certificate rsa-ca RSA:rsa_keygen_bits:2048 30
certificate rsa RSA:rsa_keygen_bits:2048 30 rsa-ca
certificate expired EC:ec_paramgen_curve:P-256 -1 rsa-ca

# start NAME [OPTION…]: an emulator; its port is in NAME.port.
start() {
    : >"$1.log"
    "$EMULATOR" --https 127.0.0.1:0 --retry-after 1 "${@:2}" >"$1.log" 2>&1 &
    started+=($!)
    for _ in {1..200}; do
        sed -n 's|^listening on https://localhost:||p' "$1.log" >"$1.port"
        if [ -s "$1.port" ] && grep -q '^control page' "$1.log"; then return; fi
        sleep 0.05
    done
    cat "$1.log" >&2
    return 1
}
# The webhook returns a payload.
start main --config "$config" --ca-out ca.pem
start rsa --tls-certificate rsa.pem --tls-key rsa.private
start expired --tls-certificate expired.pem --tls-key expired.private

# device SERVER HOST CA KEY: a boot. The second serial line is the device's connection to the server.
device() {
    timeout --kill-after=5 60 "${board[@]}" -display none -monitor none -serial null \
        -serial "tcp:127.0.0.1:$(cat "$1.port")" -kernel "$out/tls.elf" \
        -semihosting-config "enable=on,target=native,arg=tls,arg=$2,arg=$3,arg=$4" </dev/null
}
# Neither a key nor a token's signature is ever printed.
is_leaked() { cat -- *.key | grep -qFf - out || grep -q 'sig=' out; }

# The exit codes are those of azure_dps.h, without the sign.
expect 0 "hub:     $hub" "the toaster is assigned" device main localhost ca.pem toaster.key
stack="$(sed -n 's/^stack: *//p' out)" heap="$(sed -n 's/^heap: *//p' out)"
expect 0 'payload: {' "the webhook's payload" device main localhost ca.pem toaster.key
expect 0 "hub:     $hub" "an RSA certificate" device rsa localhost rsa-ca.pem toaster.key
rsa_stack="$(sed -n 's/^stack: *//p' out)" rsa_heap="$(sed -n 's/^heap: *//p' out)"
expect 30 "code:    401002" "another key" device main localhost ca.pem wrong.key
expect 40 "not of a trusted CA" "another CA" device main localhost rsa-ca.pem toaster.key
expect 40 "for another name" "another host name" device main dps.example ca.pem toaster.key
expect 40 "has expired" "an expired certificate" device expired localhost rsa-ca.pem toaster.key
expect 2 "the key cannot be read" "a missing key" device main localhost ca.pem absent.key

echo "bytes of stack and heap: $stack, $heap; with RSA $rsa_stack, $rsa_heap"
echo "$passed passed, $failed failed, the longest took $slowest ms"
[ "$failed" = 0 ]
