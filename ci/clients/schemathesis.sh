#!/usr/bin/env bash
# Schemathesis holds the control API of a running emulator against docs/control-api.json: status codes, headers,
# schemas, content types, and what is answered to data that the description does not allow.
#
#   schemathesis.sh PROGRAM SCHEMATHESIS [EXAMPLES]
#
# EXAMPLES is how many requests are made up for each operation (20). The requests are the same each time.
# The stream of events is not tested here: it does not end.
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

# There is a device, a request and a webhook call to look at.
python3 -B "$here/python/register.py" "$(url_of http)"

# run OPTION…: one run. Its report is shown in full if something is found.
run() {
    (cd "$work" && "$schemathesis" --config-file "$here/schemathesis.toml" run "$root/emulator/docs/control-api.json" \
        --url "$(url_of control)" --checks all --max-examples "$examples" --seed 1 --request-timeout 10 \
        --continue-on-failure "$@" >report 2>&1) || { cat "$work/report"; exit 1; }
    sed -n '/= SUMMARY =/,$p' "$work/report"
}

# A device that is deleted from its hub has no twin there. After a reset there are no devices to call for.
run --exclude-path /_emulator/events --exclude-path '/_emulator/devices/{id}/hub' --exclude-path /_emulator/reset
run --include-path '/_emulator/devices/{id}/hub'
run --include-path /_emulator/reset
kill -0 "$emulator"
