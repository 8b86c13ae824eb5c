#!/usr/bin/env bash
# Provisions two software TPMs (swtpm) through the local DPS emulator, over TLS. One TPM is enrolled.
# The emulator must reject the other one.
#
#   examples/tpm/run.sh            runs all cases
#   examples/tpm/run.sh --lint     runs clippy
#
#   --verbose   also prints the output of the program
#
# Needs Debian's packages swtpm libtss2-dev pkg-config. As root on Debian, the script installs missing
# packages. docs/tpm.md explains the example.
set -euo pipefail

job=all verbose=false
while [ $# -gt 0 ]; do
    case "$1" in
        --lint) job=lint ;;
        --verbose) verbose=true ;;
        --help | -h) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "unknown option: $1. See --help." >&2; exit 2 ;;
    esac
    shift
done

# --- The tools -----------------------------------------------------------------------------

[ -z "${CARGO_TARGET_DIR:-}" ] || CARGO_TARGET_DIR="$(realpath -m "$CARGO_TARGET_DIR")"
cd "$(dirname "$0")"
source ../expect.sh
source ../../ci/packages
# One target folder for both programs, because they share the TLS library, which takes longest to build.
target="${CARGO_TARGET_DIR:-$(realpath ../..)/target}"

want pkg-config command -v pkg-config
want libtss2-dev pkg-config --exists tss2-esys tss2-tctildr tss2-mu
[ "$job" = lint ] || want swtpm command -v swtpm
install_wanted

if [ "$job" = lint ]; then
    cargo clippy --quiet --target-dir "$target" -- -D warnings
    exit
fi
echo "building the client and the emulator: this takes some minutes the first time" >&2
cargo build --quiet --target-dir "$target"
program="$target/debug/azure-dps-tpm"
emulator="$(../../ci/build-emulator)"

# --- The TPMs and the emulator -------------------------------------------------------------

work="$(mktemp -d)"
pids=()
stop_all() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
}
trap 'stop_all; rm -rf "$work"' EXIT
cd "$work"

# start_tpm NAME: starts a new TPM. Sets $tcti, its address. Clients expect the control channel at the next port.
start_tpm() {
    local port
    mkdir "$1"
    for _ in {1..20}; do
        port=$((20000 + RANDOM % 5000 * 2))
        if swtpm socket --tpm2 --tpmstate "dir=$work/$1" --flags not-need-init,startup-clear \
            --server "type=tcp,bindaddr=127.0.0.1,port=$port" --ctrl "type=tcp,bindaddr=127.0.0.1,port=$((port + 1))" \
            --daemon --pid "file=$work/$1.pid" 2>"$1.log"; then
            pids+=("$(cat "$1.pid")")
            tcti="swtpm:host=127.0.0.1,port=$port"
            return
        fi
    done
    cat "$1.log" >&2
    return 1
}

# start_emulator NAME [OPTION…]: starts an emulator with its log in NAME.log and its CA in NAME.pem. Sets $url.
start_emulator() {
    : >"$1.log"
    "$emulator" --https 127.0.0.1:0 --ca-out "$1.pem" "${@:2}" >>"$1.log" 2>&1 &
    pids+=("$!")
    for _ in {1..100}; do
        url="$(sed -n 's|^listening on \(https://.*\)|\1|p' "$1.log")"
        [ -z "$url" ] || return 0
        sleep 0.05
    done
    cat "$1.log" >&2
    return 1
}

# device TCTI [OPTION…]: runs the program.
device() {
    timeout --kill-after=5 30 "$program" --tcti "$1" --id-scope 0ne00002193 --endpoint "$url" "${@:2}" </dev/null
}

start_tpm first
first="$tcti"
start_tpm second
second="$tcti"

"$program" --tcti "$first" --print-enrollment >enrollment
registration_id="$(sed -n 's/^registration ID: //p' enrollment)"
endorsement_key="$(sed -n 's/^endorsement key: //p' enrollment)"
second_endorsement_key="$("$program" --tcti "$second" --print-enrollment | sed -n 's/^endorsement key: //p')"
toaster=kitchen-contoso-tstrsd-007
hub=contoso-toasters-hub-1098.azure-devices.net
cat >emulator.toml <<TOML
id_scope = "0ne00002193"
linked_hubs = ["$hub"]

[contoso]
return_payload = true

[[individual_enrollments]]
registration_id = "$registration_id"
tpm = { endorsement_key = "$endorsement_key" }

[[individual_enrollments]]
registration_id = "$toaster"
tpm = { endorsement_key = "$endorsement_key" }
allocation = { policy = "custom" }

[[individual_enrollments]]
registration_id = "second"
tpm = { endorsement_key = "$second_endorsement_key" }

[[individual_enrollments]]
registration_id = "disabled"
enabled = false
tpm = { endorsement_key = "$endorsement_key" }

[behaviour]
retry_after = 1
TOML
start_emulator other
start_emulator main --config emulator.toml

# --- The cases -----------------------------------------------------------------------------

# The program must never print the signature of a token.
is_leaked() { grep -q 'sig=' out; }

kept="in the TPM at 0x81000100"
echo "a hub for"
expect 0 "$kept" "the TPM that is enrolled" device "$first" --ca main.pem
expect 0 "hub:       $hub" "the same again: the new key for the hub replaces the old one" \
    device "$first" --ca main.pem
# Request and answer are from Microsoft's "Understand custom allocation policies". There, the request has `, ..` before
# its last bracket.
payload='{ "property1": "value1", "property2": {"propertyA":"valueA", "property2-2":1234} }'
expect 0 'payload:   {"property1":"value1"}' "the same as a toaster, with the concept document's payload for the webhook" \
    device "$first" --ca main.pem --registration-id "$toaster" --payload "$payload"
echo "rejected:"
expect 3 404201 "another TPM with the registration ID of the first" device "$second" --ca main.pem --registration-id "$registration_id"
expect 3 404201 "another TPM with its own registration ID" device "$second" --ca main.pem
expect 0 "$kept" "the other TPM, with the registration ID of its enrollment" device "$second" --ca main.pem --registration-id second
expect 3 404201 "the first TPM with the registration ID of the other" device "$first" --ca main.pem --registration-id second
expect 4 "disabled" "a disabled enrollment" device "$first" --ca main.pem --registration-id disabled
expect 0 "$kept" "the TPM that is enrolled, again" device "$first" --ca main.pem
echo "failures before the first request:"
expect 7 "" "another CA" device "$first" --ca other.pem
expect 9 "TPM" "no TPM" device swtpm:host=127.0.0.1,port=1 --ca main.pem
expect 2 "payload" "a payload that is not JSON" device "$first" --ca main.pem --payload toast
expect 2 "payload" "the concept document's payload as it is printed" device "$first" --ca main.pem --payload "${payload% \}}, .. }"
expect 2 "the CA certificates: no certificate" "roots that are not certificates" device "$first" --ca emulator.toml

echo "$passed of $((passed + failed)) as expected"
[ "$failed" = 0 ]
