#!/usr/bin/env bash
# Builds the C examples for Linux, and runs them against the local DPS emulator, over TLS 1.2.
#
#   c/examples/run.sh             all three ways below
#   c/examples/run.sh plain       without a checker
#   c/examples/run.sh valgrind    under valgrind; a leak or an error is a failure
#   c/examples/run.sh sanitized   with gcc's -fsanitize=address,undefined
#   c/examples/run.sh --build     only builds, and prints where the programs are
#
# With --verbose, the script prints the output of the programs.
#
# Needs the tools of c/build.sh and, on Debian, gcc libssl-dev libpaho-mqtt-dev valgrind openssl curl python3. As
# root, it installs missing packages. EMULATOR names a dps-emulator. Without EMULATOR, cargo builds one.
set -euo pipefail

jobs=() verbose=false build_only=false
while [ $# -gt 0 ]; do
    case "$1" in
        plain | valgrind | sanitized) jobs+=("$1") ;;
        --build) build_only=true ;;
        --verbose) verbose=true ;;
        --help | -h) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "unknown argument: $1. See --help." >&2; exit 2 ;;
    esac
    shift
done
[ ${#jobs[@]} -gt 0 ] || jobs=(plain valgrind sanitized)

# --- What it needs -------------------------------------------------------------------------

[ -z "${CARGO_TARGET_DIR:-}" ] || CARGO_TARGET_DIR="$(realpath -m "$CARGO_TARGET_DIR")"
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../../examples/expect.sh
source ../../ci/packages
target="${CARGO_TARGET_DIR:-$PWD/../target}/c-examples"
want gcc command -v gcc
want libssl-dev has_file /usr/include/openssl/ssl.h
want libpaho-mqtt-dev has_file /usr/include/MQTTClient.h
want valgrind command -v valgrind
want openssl command -v openssl
want curl command -v curl
want python3 command -v python3
install_wanted

# --- The build -----------------------------------------------------------------------------

mkdir -p "$target"
../build.sh --prefix "$target/prefix" >"$target/build.log" 2>&1 || { cat "$target/build.log" >&2; exit 1; }

# compile FOLDER [FLAG…]: the programs, into this folder.
compile() {
    local out="$target/$1" flags=("${@:2}" -std=c99 -g -Wall -Wextra -Wpedantic -Wconversion -Werror -I "$target/prefix/include")
    local library="$target/prefix/lib/libazure_dps_c.a"
    mkdir -p "$out"
    gcc "${flags[@]}" -o "$out/https_run" common/device.c https_openssl/{main,tls}.c "$library" -lssl -lcrypto &
    gcc "${flags[@]}" -o "$out/https_sans_io" common/device.c https_openssl/{sans_io,tls}.c "$library" -lssl -lcrypto
    gcc "${flags[@]}" -o "$out/mqtt_paho" common/device.c mqtt_paho/*.c "$library" -lpaho-mqtt3cs
    gcc "${flags[@]}" -o "$out/life" common/device.c life/main.c https_openssl/tls.c mqtt_paho/{hub,session}.c "$library" \
        -lpaho-mqtt3cs -lssl -lcrypto
    wait $!
}
compile plain -O2
[[ " ${jobs[*]} " != *" sanitized "* ]] || compile sanitized -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
if $build_only; then
    ls "$target"/plain/*
    exit
fi
if [ -z "${EMULATOR:-}" ]; then
    EMULATOR="$(../../ci/build-emulator)"
fi

# --- The devices ---------------------------------------------------------------------------

work="$(mktemp -d)"
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

scope=0ne00002193
toasters_hub=contoso-toasters-hub-1098.azure-devices.net
heatpumps_hub=contoso-heatpumps-hub-1098.azure-devices.net
# The tutorial's. It is no secret.
group_key=oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==
lock_key=8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==
payload='{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}'
programs=(https_run https_sans_io mqtt_paho life)

# derive ID: writes the device's own key into ID.key, as the tutorial does.
hex="$(base64 -d <<<"$group_key" | od -An -tx1 -v | tr -d ' \n')"
derive() { printf %s "$1" | openssl sha256 -mac HMAC -macopt "hexkey:$hex" -binary | base64 >"$1.key"; }

# A webhook that assigns no hub.
cat >webhook.py <<'END'
from http.server import BaseHTTPRequestHandler, HTTPServer

class NoHub(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), NoHub)
print(server.server_address[1], flush=True)
server.serve_forever()
END
python3 webhook.py >webhook.port &
started+=($!)

# A CA, the certificate of another host, and those of the door locks.
new=(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
"${new[@]}" -subj '/CN=another CA' -keyout other-ca.private -out other-ca.pem 2>/dev/null
"${new[@]}" -subj '/CN=dps.example' -addext subjectAltName=DNS:dps.example -keyout another.private -out another.pem 2>/dev/null
for job in "${jobs[@]}"; do
    for program in "${programs[@]}"; do
        id="lock-$job-${program//_/-}"
        "${new[@]}" -subj "/CN=$id" -addext extendedKeyUsage=clientAuth -keyout "$id.private" -out "$id.pem" 2>/dev/null
    done
done
until [ -s webhook.port ]; do sleep 0.02; done

{
    cat <<END
id_scope = "$scope"
linked_hubs = ["$toasters_hub", "$heatpumps_hub"]

[contoso]
return_payload = true

[behaviour]
retry_after = 1

[[enrollment_groups]]
enrollment_group_id = "contoso-custom-allocated-devices"
primary_key = "$group_key"
allocation = { policy = "custom" }
END
    for job in "${jobs[@]}"; do
        for program in "${programs[@]}"; do
            name="$job-${program//_/-}"
            cat <<END
[[individual_enrollments]]
registration_id = "lock-$name"
x509 = { primary = "lock-$name.pem" }

[[individual_enrollments]]
registration_id = "stolen-$name"
enabled = false
primary_key = "$lock_key"

[[individual_enrollments]]
registration_id = "no-hub-$name"
primary_key = "$lock_key"
allocation = { policy = "custom", webhook_url = "http://127.0.0.1:$(cat webhook.port)/" }
END
        done
    done
} >dps.toml
printf 'id_scope = "%s"\nlinked_hubs = ["%s"]\n' "$scope" "$toasters_hub" | tee empty.toml >another.toml
# It closes connections between two requests.
cat >>empty.toml <<END
[behaviour]
retry_after = 2
client_timeout = 1.0

[[individual_enrollments]]
registration_id = "patient"
primary_key = "$lock_key"
END
echo "$lock_key" >lock.key

# --- The emulator, and what is expected ----------------------------------------------------

# emulator NAME [OPTION…]: an emulator with NAME.toml. Its addresses are in NAME.out.
emulator() {
    "$EMULATOR" --config "$1.toml" --https 127.0.0.1:0 --mqtts 127.0.0.1:0 --json "${@:2}" >"$1.out" 2>&1 &
    started+=($!)
}
# listener NAME WHICH: the address of a listener.
listener() { sed -n 's|.*"listener":"'"$2"'","url":"\([^"]*\)".*|\1|p' "$work/$1.out"; }
emulator dps --ca-out dps-ca.pem
emulator empty --ca-out empty-ca.pem
emulator another --tls-certificate another.pem --tls-key another.private
for name in dps empty another; do
    for _ in {1..200}; do
        [ -z "$(listener "$name" control)" ] || break
        sleep 0.05
    done
    [ -n "$(listener "$name" control)" ] || { cat "$name.out" >&2; exit 1; }
done
control="$(listener dps control)"
hub_address="localhost:$(listener dps mqtts | sed 's/.*://')"

# address NAME PROGRAM: where the program finds the emulator.
address() {
    local which=https
    [ "$2" != mqtt_paho ] || which=mqtts
    listener "$1" "$which" | sed 's|.*//||'
}

# script ID FAULT: the answer to the next register request of the device.
script() {
    curl -sf "${control%/}/_emulator/scripts" -H 'Content-Type: application/json' \
        -d '{"operation":"register","registrationId":"'"$1"'","fault":'"$2"'}' >/dev/null
}

# Neither a key nor a token's signature is ever printed.
is_leaked() { cat -- "$work"/*.key | grep -qFf - out || grep -q 'sig=' out; }

# run PROGRAM ID [OPTION…]: one run of the device. The last of equal options counts.
run() {
    timeout --kill-after=5 100 "${wrapper[@]}" "$folder/$1" --id-scope "$scope" --registration-id "$2" --host "$(address dps "$1")" \
        --ca "$work/dps-ca.pem" --timeout 60 "${@:3}"
}
# device PROGRAM ID [OPTION…]: the same, with the key of the device and the tutorial's payload.
device() { run "$1" "$2" --key-file "$work/$2.key" --payload "$payload" "${@:3}"; }

# scripted PROGRAM ID FAULT [OPTION…]: the same, and the device meets a fault.
scripted() {
    script "$2" "$3" || return 70
    device "$1" "$2" "${@:4}"
}

# at_once COMMAND…: the same, and no pause before a retry, which takes 5 s at least.
at_once() {
    local begun="$SECONDS"
    "$@" || return
    [ $((SECONDS - begun)) -lt 6 ] || { echo "took $((SECONDS - begun)) s"; return 70; }
}

# disabled_at_the_hub PROGRAM ID: the operator has disabled the device at its hub, not at DPS.
disabled_at_the_hub() {
    curl -sf "${control%/}/_emulator/devices/$2/hub/disable" -H 'Content-Type: application/json' -d '{}' >/dev/null || return 70
    device "$1" "$2" --connect --hub-address "$hub_address"
}

# asks N COMMAND…: runs the command, in which DPS must get N register requests of $toaster.
asks() {
    local before after code=0
    before="$(grep -c "/$toaster/register?" "$work/dps.out" || true)"
    "${@:2}" || code=$?
    after="$(grep -c "/$toaster/register?" "$work/dps.out" || true)"
    [ $((after - before)) = "$1" ] || { echo "$((after - before)) register requests, not $1"; return 70; }
    return "$code"
}

# boot [OPTION…]: a boot of $toaster, with the record in a file.
# shellcheck disable=SC2120
boot() { device life "$toaster" --record record --hub-address "$hub_address" "$@"; }

# boot_after_removal: the operator has removed the device from its hub. It must register again.
boot_after_removal() {
    curl -sf -X DELETE "${control%/}/_emulator/devices/$toaster/hub" -H 'Content-Type: application/json' >/dev/null || return 70
    # shellcheck disable=SC2119
    boot
}

# life_cases JOB: the boots of one device.
life_cases() {
    expect 0 'reported:' "the first boot asks DPS, and connects to the hub" asks 1 boot
    expect 0 'reported:' "the second boot connects to the hub at once" asks 0 boot
    expect 0 'reported:' "the hub rejects the device: it asks DPS again" asks 1 boot_after_removal
    [ "$1" != valgrind ] || return 0
    expect 0 'reported:' "DPS is down: the device connects to the hub" asks 0 boot --host localhost:1
    printf X | dd of=record bs=1 seek=40 conv=notrunc status=none
    expect 0 'reported:' "a record with a wrong byte" asks 1 boot
    expect 12 'the hub' "the hub is unreachable" asks 0 boot --hub-address localhost:1
    expect 5 'code:      401' "another key: the hub and DPS reject it" boot --key-file "$work/lock.key"
}

# dps_cases JOB PROGRAM: what is expected of a program that provisions. Valgrind takes long: it sees each path of the
# code, not each code of the service.
dps_cases() {
    local job="$1" program="$2" again certificate
    if [ "$program" = mqtt_paho ]; then
        expect 0 'reported:    {"firmware"' "the toaster connects to its hub" device "$program" "$toaster" --connect \
            --hub-address "$hub_address"
        grep -q '^twin:.*"darknessSetting":"medium"' out || { echo "FAILED: no twin"; failed=$((failed + 1)); }
    else
        AZURE_DPS_SYMMETRIC_KEY="$(cat "$work/$toaster.key")" \
            expect 0 "hub:         $toasters_hub" "the toaster" run "$program" "$toaster" --payload "$payload"
    fi
    expect 3 "code:      400207" "the webhook does not know the device" device "$program" "$unknown"
    again=(--key-file "$work/$toaster.key" --secondary-key-file "$work/$heatpump.key")
    expect 0 "hub:         $heatpumps_hub" "the second key" device "$program" "$heatpump" "${again[@]}"
    [ "$job" != valgrind ] || return 0

    expect 0 'payload:     {"property1":"value1"}' "the payload of the webhook, after a lost answer" \
        scripted "$program" "$faulty" '"dropConnection"' --timeout 40
    certificate=(--certificate-file-path "$work/lock-$name.pem" --key-file-path "$work/lock-$name.private")
    if [ "$program" = mqtt_paho ]; then
        expect 0 "reported:" "a certificate, also at the hub" run "$program" "lock-$name" "${certificate[@]}" --connect \
            --hub-address "$hub_address"
    else
        expect 0 "hub:" "a certificate" run "$program" "lock-$name" "${certificate[@]}"
    fi
    expect 5 "code:      401" "the key of another device" device "$program" "$toaster" --key-file "$work/$heatpump.key"
    expect 4 "AZURE_DPS_ERR_DISABLED" "a disabled enrollment" run "$program" "stolen-$name" --key-file "$work/lock.key"
    expect 3 "code:      400208" "the webhook names no hub" run "$program" "no-hub-$name" --key-file "$work/lock.key"
    expect 3 "code:      404201" "an unknown enrollment" device "$program" "$toaster" \
        --host "$(address empty "$program")" --ca "$work/empty-ca.pem"
    expect 6 "code:      429001" "throttled for a minute" scripted "$program" "$faulty" \
        '{"respond":{"status":429,"headers":{"Retry-After":"60"},"body":"{\"errorCode\":429001}"}}'
    expect 8 "AZURE_DPS_ERR_MALFORMED" "a captive portal" scripted "$program" "$faulty" \
        '{"respond":{"status":200,"headers":{"Content-Type":"text/html"},"body":"<html>Please sign in</html>"}}'
    expect 7 "AZURE_DPS_ERR_UNTRUSTED" "another CA" device "$program" "$toaster" --ca "$work/other-ca.pem"
    # paho does not tell its caller that a certificate is for another host.
    local wrong_host=AZURE_DPS_ERR_UNTRUSTED
    [ "$program" != mqtt_paho ] || wrong_host=AZURE_DPS_ERR_CONNECT
    expect 7 "$wrong_host" "a certificate for another host" device "$program" "$toaster" --timeout 2 \
        --host "$(address another "$program")" --ca "$work/another.pem"
    expect 7 "AZURE_DPS_ERR_CONNECT" "connection refused" device "$program" "$toaster" --timeout 2 --host localhost:1
    if [ "$program" = mqtt_paho ]; then
        expect 11 "CONNACK 5" "the hub rejects the device" disabled_at_the_hub "$program" "$heatpump"
        expect 12 "the hub" "the hub is unreachable" device "$program" "$toaster" --connect --hub-address localhost:1
        expect 1 "AZURE_DPS_ERR_UNSUPPORTED" "a look-up, which MQTT does not support" device "$program" "$toaster" --status
    else
        expect 0 "hub:         $toasters_hub" "a look-up" run "$program" "$toaster" --key-file "$work/$toaster.key" --status
        [ "$job" != plain ] || expect 0 "hub:" "the service closes the connection between two requests" at_once \
            run "$program" patient --key-file "$work/lock.key" --host "$(address empty "$program")" --ca "$work/empty-ca.pem"
        expect 9 "code:      404201" "a look-up of a device that never registered" run "$program" "new-$name" \
            --key-file "$work/new-$name.key" --status
    fi
    expect 0 "Exit codes:" "--help" "$folder/$program" --help
    expect 2 "cannot read" "a missing CA file" device "$program" "$toaster" --ca nowhere.pem
    expect 2 "--registration-id" "no registration ID" "$folder/$program" --id-scope "$scope"
    expect 2 "INVALID_REGISTRATION_ID" "a registration ID with a slash" run "$program" "not/one" --key-file "$work/lock.key"
    expect 2 "INVALID_PAYLOAD" "a payload that is not an object" device "$program" "$toaster" --payload '[1]'
    expect 2 "INVALID_ENDPOINT" "an invalid endpoint" device "$program" "$toaster" --host 'ftp://x'
    expect 2 "not a base64 key" "an invalid key" device "$program" "$toaster" --key-file "$work/dps.toml"
}

# cases JOB PROGRAM: all of a program, in a folder of its own. A device has one session at a time over MQTT, and one hub,
# so each has devices of its own. The tutorial's are those of the first jobs.
cases() {
    local name="$1-${2//_/-}" prefix=""
    [ "$1" = plain ] && [ "$2" != life ] || prefix="$name-"
    toaster="${prefix}breakroom499-contoso-tstrsd-007" heatpump="${prefix}mainbuilding167-contoso-hpsd-088"
    unknown="${prefix}lobby001-contoso-unknown-001" faulty="$name-contoso-tstrsd-007"
    mkdir "$name"
    cd "$name"
    for id in "$toaster" "$heatpump" "$unknown" "$faulty" "new-$name"; do (cd "$work" && derive "$id"); done
    echo "$2, $1:"
    case "$2" in
        life) life_cases "$1" ;;
        *) dps_cases "$1" "$2" ;;
    esac
    echo "$passed $failed $slowest" >count
}

leaks=definite,indirect,possible
memcheck=(valgrind -q --leak-check=full --show-leak-kinds="$leaks" --errors-for-leak-kinds="$leaks" --error-exitcode=99)
running=()
for job in "${jobs[@]}"; do
    wrapper=() folder="$target/plain"
    case "$job" in
        valgrind) wrapper=("${memcheck[@]}") ;;
        sanitized) folder="$target/sanitized" ;;
    esac
    for program in "${programs[@]}"; do
        (cases "$job" "$program") >"$job-$program.log" 2>&1 &
        running+=($!)
    done
done
wait "${running[@]}" || true
for job in "${jobs[@]}"; do
    for program in "${programs[@]}"; do
        cat "$job-$program.log"
        counts="$job-${program//_/-}/count"
        if ! [ -f "$counts" ]; then
            echo "FAILED: $program, $job did not end"
            failed=$((failed + 1))
            continue
        fi
        read -r p f s <"$counts"
        passed=$((passed + p)) failed=$((failed + f)) slowest=$((s > slowest ? s : slowest))
    done
done
echo "$passed of $((passed + failed)) as expected, the slowest in $slowest ms, all in $SECONDS s"
[ "$failed" = 0 ]
