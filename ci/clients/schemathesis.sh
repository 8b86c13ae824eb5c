#!/usr/bin/env bash
# Schemathesis tests the control API of a running emulator against docs/control-api.json: status codes, headers,
# schemas, content types, and the answers to invalid data.
#
#   schemathesis.sh PROGRAM SCHEMATHESIS [EXAMPLES]
#
# EXAMPLES is the number of generated requests for each operation (20). The requests are the same each time.
# The event stream is not tested here, because it does not end.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
program="$1" schemathesis="$2" examples="${3:-20}"
work="$(mktemp -d)"
trap 'kill "$emulator" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

"$program" --http 127.0.0.1:0 --control 127.0.0.1:0 --retry-after none --json >"$work/out" 2>&1 &
emulator=$!
url_of() { sed -n 's/.*"listener":"'"$1"'","url":"\([^"]*\)".*/\1/p' "$work/out"; }
for _ in $(seq 200); do
    [ -z "$(url_of control)" ] || break
    sleep 0.05
done
[ -n "$(url_of control)" ] || { cat "$work/out" >&2; exit 1; }

# Creates a device, requests and a webhook call, so that the API has data.
python3 -B "$here/python/register.py" "$(url_of http)"

# run OPTION…: one run. Prints its report if it finds an error.
run() {
    (cd "$work" && "$schemathesis" --config-file "$here/schemathesis.toml" run "$root/emulator/docs/control-api.json" \
        --url "$(url_of control)" --checks all --max-examples "$examples" --seed 1 --request-timeout 10 \
        --continue-on-failure "$@" >report 2>&1) || { cat "$work/report"; exit 1; }
    sed -n '/= SUMMARY =/,$p' "$work/report"
}

# A device that was deleted from its hub has no twin there. After a reset there are no devices for further calls.
run --exclude-path /_emulator/events --exclude-path '/_emulator/devices/{id}/hub' --exclude-path /_emulator/reset
run --include-path '/_emulator/devices/{id}/hub'
run --include-path /_emulator/reset
kill -0 "$emulator"
