# shellcheck shell=bash disable=SC2154 # $package is the script's.
# Sourced by the run.sh of both firmwares. Builds the firmware $package and runs it in QEMU against the local DPS
# emulator, over TLS 1.2. The script that sources this file defines $package and more_cases, a function with more cases.
set -euo pipefail

job=all runs="" verbose=false
while [ $# -gt 0 ]; do
    case "$1" in
        --runs) job=runs runs="${2:-}"; [ $# -lt 2 ] || shift ;;
        --sizes | --build | --lint) job="${1#--}" ;;
        --verbose) verbose=true ;;
        --help | -h) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "unknown option: $1. See --help." >&2; exit 2 ;;
    esac
    shift
done
if [ "$job" = runs ] && ! [[ "$runs" =~ ^[1-9][0-9]*$ ]]; then
    echo "--runs needs a number" >&2
    exit 2
fi

# --- The tools -----------------------------------------------------------------------------

[ -z "${CARGO_TARGET_DIR:-}" ] || CARGO_TARGET_DIR="$(realpath -m "$CARGO_TARGET_DIR")"
# Both firmwares are one workspace with one target folder, so that mbedTLS is built once.
cd "$(dirname "${BASH_SOURCE[0]}")/../firmware"
source ../expect.sh
source ../../ci/packages
board="$PWD/../board"
target="${CARGO_TARGET_DIR:-$PWD/target}"

has_newlib() { echo '#include <time.h>' | arm-none-eabi-gcc -E -; }
want qemu-system-arm command -v qemu-system-arm
want gcc-arm-none-eabi command -v arm-none-eabi-gcc
want libnewlib-arm-none-eabi has_newlib
want cmake command -v cmake
want make command -v make
want libclang-dev has_libclang
want openssl command -v openssl
want curl command -v curl
if [ "$job" = lint ] && ! has_target thumbv7m-none-eabi; then
    want rust-web-clippy test -x /usr/bin/cargo-clippy
fi
install_wanted

# --- The build -----------------------------------------------------------------------------

# bare_metal COMMAND…: runs a cargo command for the firmware.
bare_metal() (
    build_std=core
    source ../../ci/toolchain-bare-metal
    # clang makes the bindings, and does not know where gcc has its headers.
    gcc_headers() { arm-none-eabi-gcc -print-file-name="$1"; }
    BINDGEN_EXTRA_CLANG_ARGS="-idirafter $(gcc_headers include) -idirafter $(gcc_headers include-fixed)"
    export BINDGEN_EXTRA_CLANG_ARGS
    # Each cargo has its own clippy, and there may be two.
    PATH="$(dirname "$(command -v "${cargo_bare_metal[-1]}")"):$PATH"
    "${cargo_bare_metal[@]}" "$1" --quiet --release --package "$package" "${build_std_flags[@]}" --target-dir "$target" "${@:2}"
)

if [ "$job" = lint ]; then
    bare_metal clippy -- -D warnings
    exit
fi
echo "building the firmware and the emulator: this takes some minutes the first time" >&2
bare_metal build
elf="$target/thumbv7m-none-eabi/release/$package"
if [ "$job" = build ]; then
    echo "$elf"
    exit
fi
emulator="$(../../ci/build-emulator)"

# --- Keys and certificates -----------------------------------------------------------------

work="$(mktemp -d)"
emulators=()
stop_all() {
    for pid in "${emulators[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
    done
}
trap 'stop_all; rm -rf "$work"' EXIT
cd "$work"

toaster=breakroom499-contoso-tstrsd-007
heatpump=mainbuilding167-contoso-hpsd-088
unknown=lobby001-contoso-unknown-001
toasters_hub=contoso-toasters-hub-1098.azure-devices.net
heatpumps_hub=contoso-heatpumps-hub-1098.azure-devices.net
group_key=oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==

# derive ID: writes the device key to ID.key, as in the tutorial. The tutorial's group key is public.
derive() {
    local hex
    hex="$(base64 -d <<<"$group_key" | od -An -tx1 -v | tr -d ' \n')"
    printf %s "$1" | openssl sha256 -mac HMAC -macopt "hexkey:$hex" -binary | base64 >"$1.key"
}
for id in "$toaster" "$heatpump" "$unknown"; do
    derive "$id"
done

# certificate NAME KEY EXTENSIONS ISSUER [DAYS]: makes NAME.pem and NAME.key. If ISSUER is NAME, it is a root.
certificate() {
    local name="$1" key="$2" extensions="$3" issuer="$4" days="${5:-30}" signer
    signer=(-CA "$issuer.pem" -CAkey "$issuer.key" -CAcreateserial)
    [ "$issuer" != "$name" ] || signer=(-signkey "$name.key")
    openssl genpkey -algorithm "${key%%:*}" -pkeyopt "${key#*:}" -out "$name.key" 2>/dev/null
    openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
    openssl x509 -req -in "$name.csr" "${signer[@]}" -days "$days" -sha384 -out "$name.pem" \
        -extfile <(printf '%b' "$extensions") 2>/dev/null
}
ca='basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\n'
server="basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n\
subjectAltName=DNS:localhost,DNS:$toasters_hub,DNS:$heatpumps_hub\n"

make_certificates() {
    local rsa=RSA:rsa_keygen_bits p256=EC:ec_paramgen_curve:P-256 p384=EC:ec_paramgen_curve:P-384
    # The kinds of keys in the chain of the real service.
    certificate rsa-root $rsa:2048 "$ca" rsa-root
    certificate rsa-issuer $rsa:4096 "$ca" rsa-root
    certificate rsa $rsa:2048 "$server" rsa-issuer
    cat rsa.pem rsa-issuer.pem >rsa.chain
    certificate ecdsa-root $p384 "$ca" ecdsa-root
    certificate ecdsa $p384 "$server" ecdsa-root
    cat ecdsa.pem >ecdsa.chain
    certificate expired $p256 "$server" ecdsa-root -1
    cat expired.pem >expired.chain
    # A server signs another certificate, although it is not a CA.
    certificate forged $p256 "$server" ecdsa
    cat forged.pem ecdsa.pem >forged.chain
}

# --- The emulator, the firmware and the cases ----------------------------------------------

# start NAME [OPTION…]: starts an emulator with its log in NAME.log. Sets $port of DPS, $hub_port, $control and $pid.
start() {
    local name="$1"
    : >"$name.log"
    "$emulator" --https 127.0.0.1:0 --mqtts 127.0.0.1:0 --retry-after 1 "${@:2}" >"$name.log" 2>&1 &
    pid=$!
    disown
    emulators+=("$pid")
    for _ in {1..100}; do
        # The emulator prints this line last.
        control="$(sed -n 's|^control page at ||p' "$name.log")"
        if [ -n "$control" ]; then
            port="$(sed -n 's|^listening on https://localhost:||p' "$name.log")"
            hub_port="$(sed -n 's|^listening on mqtts://localhost:||p' "$name.log")"
            return 0
        fi
        sleep 0.05
    done
    cat "$name.log" >&2
    return 1
}

# guest NAME=VALUE…: runs the firmware once, with these inputs.
guest() {
    local arguments="enable=on,target=native,arg=firmware"
    for input in "$@"; do
        arguments+=",arg=${input//,/,,}"
    done
    timeout --kill-after=5 60 qemu-system-arm -M mps2-an385 -cpu cortex-m3 -nic "${nic:-user,model=lan9118}" \
        -display none -monitor none -serial none -semihosting-config "$arguments" -kernel "$elf" </dev/null
}

# blank_flash FILE: makes a flash with two erased sectors of 2 KiB. See board/src/flash.rs.
blank_flash() {
    { head -c 4096 /dev/zero | tr '\0' '\377' && head -c 8 /dev/zero; } >"$1"
}

# device ID [NAME=VALUE…]: runs the firmware with the inputs of this device and a blank flash. If an input is given twice,
# the first one counts.
device() {
    blank_flash blank.flash
    guest "${@:2}" flash=blank.flash id-scope=0ne00002193 registration-id="$1" key-file="$1.key" ca=ca.pem \
        host="localhost:$port" address=10.0.2.2 hub-address=10.0.2.2 hub-port="$hub_port"
}

# boot ID FLASH [NAME=VALUE…]: does the same with this flash. Each boot is a new QEMU, and the flash is a file.
boot() { device "$1" flash="$2" "${@:3}"; }

# offline_boot ID FLASH [NAME=VALUE…]: does the same while the service is down.
offline_boot() { boot "$1" "$2" host=localhost:1 timeout=1 "${@:3}"; }

# registrations ID: prints the number of register requests of this device.
registrations() { grep -c "PUT  $1 " main.log || true; }

# asks N COMMAND…: runs the command. The toaster must send N register requests.
asks() {
    local before code
    before="$(registrations "$toaster")"
    "${@:2}" && code=0 || code=$?
    asked=$(($(registrations "$toaster") - before))
    [ "$asked" = "$1" ] || { echo "$asked register requests instead of $1"; return 70; }
    return "$code"
}

# not_tls: the toaster connects to a server without TLS.
not_tls() {
    local port hub_port control pid code
    start plain --http 127.0.0.1:0 --ca-out plain.pem
    port="$(sed -n 's|^listening on http://127.0.0.1:||p' plain.log)"
    device "$toaster" && code=0 || code=$?
    kill "$pid"
    return "$code"
}

# The firmware must never print a key or the signature of a token.
is_leaked() { cat -- *.key | grep -v -e '-----' | grep -qFf - out || grep -q 'sig=' out; }

# presenting NAME ROOT: the toaster connects to a service with this certificate.
presenting() {
    local name="$1" root="$2" port hub_port control pid code
    start "$name" --tls-certificate "$name.chain" --tls-key "$name.key"
    device "$toaster" ca="$root.pem" && code=0 || code=$?
    kill "$pid"
    return "$code"
}

# in_mid_poll SIGNAL: the service gets this signal while the toaster polls.
in_mid_poll() {
    local signal="$1" port hub_port control pid
    start "$signal" --ca-out "$signal.pem"
    (
        # Ends even if no device registers.
        for _ in {1..1200}; do
            if grep -q '202 assigning' "$signal.log"; then
                kill "-$signal" "$pid"
                break
            fi
            sleep 0.05
        done
    ) &
    device "$toaster" ca="$signal.pem" timeout=8
}

start main --ca-out ca.pem

if [ "$job" = runs ]; then
    for ((run = 1; run <= runs; run++)); do
        expect 0 "hub: $toasters_hub" "the toaster, run $run" device "$toaster"
        expect 0 "hub: $heatpumps_hub" "the heat pump, run $run" device "$heatpump"
    done
elif [ "$job" = sizes ]; then
    make_certificates
    python3 "$board/sizes.py" "$elf"
    peak() {
        printf '%-34s%s\n' "$1" "$("${@:2}" | grep '^peak: ')"
    }
    peak "ECDSA P-256" device "$toaster"
    peak "ECDSA P-384" presenting ecdsa ecdsa-root
    peak "RSA-2048 by RSA-4096, as DPS" presenting rsa rsa-root
    exit
else
    make_certificates
    echo "a hub for"
    expect 0 "hub: $toasters_hub" "the toaster" device "$toaster"
    expect 0 "hub: $heatpumps_hub" "the heat pump" device "$heatpump"
    expect 0 "hub: $toasters_hub" "the toaster, certificates of RSA-2048 by RSA-4096" presenting rsa rsa-root
    expect 0 "hub: $toasters_hub" "the toaster, certificates of P-384" presenting ecdsa ecdsa-root
    echo "a wrong server:"
    expect 8 "not signed by a trusted root" "another CA" device "$toaster" ca=rsa-root.pem
    expect 8 "for another host name" "another host name" device "$toaster" host="dps.example:$port"
    expect 8 "expired" "an expired certificate" presenting expired ecdsa-root
    expect 8 "expired" "the clock is three years fast" device "$toaster" time=$(($(date +%s) + 3 * 31536000))
    expect 8 "not valid yet" "the clock starts in 1970" device "$toaster" time=0
    expect 8 "not signed by a trusted root" "a certificate that is signed by a server" presenting forged ecdsa-root
    expect 8 "TLS handshake failed" "a server without TLS" not_tls
    echo "rejected by the service:"
    expect 5 "401002" "another device's key" device "$toaster" key-file="$heatpump.key"
    expect 3 "400207" "a device that the webhook does not know" device "$unknown"
    echo "no answer:"
    expect 7 "connection refused" "nothing listens" device "$toaster" host=localhost:1 timeout=1
    expect 7 "connection refused" "the service ends during a poll" in_mid_poll KILL
    expect 7 "answer in time" "the service stops answering during a poll" in_mid_poll STOP
    nic=none expect 7 "no address from DHCP" "no network" device "$toaster"
    echo "wrong inputs:"
    expect 2 "key-file" "no key file" device "$toaster" key-file=nowhere
    expect 2 "ca" "roots that are not certificates" device "$toaster" ca="$toaster.key"
    expect 2 "base64" "a key that is not base64" device "$toaster" key-file=ca.pem
    expect 2 "registration ID" "an invalid registration ID" device "not/one" key-file="$toaster.key"
    expect 2 "flash" "no flash file" boot "$toaster" nowhere.flash
    echo "later boots:"
    blank_flash kept.flash
    expect 0 "hub: $toasters_hub" "the first boot asks DPS" asks 1 boot "$toaster" kept.flash
    expect 0 "hub: $toasters_hub" "the second boot does not ask DPS" asks 0 boot "$toaster" kept.flash
    expect 0 "hub: $toasters_hub" "the third boot works while DPS is down" offline_boot "$toaster" kept.flash
    cp kept.flash foreign.flash
    # An hour later, because there is a pause after a registration.
    expect 0 "hub: $heatpumps_hub" "another device rejects this record, and asks DPS" \
        boot "$heatpump" foreign.flash time=$(($(date +%s) + 3600))
    more_cases
fi

echo "$passed of $((passed + failed)) as expected, the slowest in $slowest ms"
[ "$failed" = 0 ]
