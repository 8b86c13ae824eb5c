#!/usr/bin/env bash
# Provisions a device with curl, and connects it to its hub with the programs of mosquitto-clients. Prints each call
# with its answer. run.sh starts this script.
#
# mosquitto-clients cannot request the twin. The answer comes on the same connection, and mosquitto_rr accepts no filter
# with a wildcard.
# shellcheck disable=SC2016 # Topics contain dollar signs.
set -euo pipefail

device=mainbuilding167-contoso-hpsd-088
scope=0ne00002193
group_key='oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=='

calls=0
list() { calls=$((calls + 1)); printf '| %s | %s |\n' "$1" "$2"; }

# expect CALL ANSWER PART: fails unless the answer contains the part.
expect() {
    [[ "$2" == *"$3"* ]] || { echo "$1: expected $3, got: $2" >&2; exit 1; }
    list "$1" "$2"
}

# hmac KEY: prints the HMAC-SHA256 of standard input. The key and the result are base64.
hmac() { openssl sha256 -mac HMAC -macopt "hexkey:$(base64 -d <<<"$1" | xxd -p -c 1000)" -binary | base64 -w 0; }

# token KEY RESOURCE [KEY-NAME]: prints a SAS token that is valid for an hour.
token() {
    local resource="${2//\//%2F}" expiry signature
    expiry="$(($(date +%s) + 3600))"
    signature="$(printf '%s\n%s' "$resource" "$expiry" | hmac "$1")"
    signature="${signature//+/%2B}" signature="${signature//\//%2F}" signature="${signature//=/%3D}"
    echo "SharedAccessSignature sr=$resource&sig=$signature&se=$expiry${3:+&skn=$3}"
}

# --- DPS ---

echo '| mosquitto-clients | answer |'
echo '| --- | --- |'
key="$(printf %s "$device" | hmac "$group_key")"
dps() {
    curl -fsS --cacert "$REQUESTS_CA_BUNDLE" -H 'Content-Type: application/json' \
        -H "Authorization: $(token "$key" "$scope/registrations/$device" registration)" \
        "https://localhost/$scope/registrations/$device/$1?api-version=2021-06-01" "${@:2}"
}
answer="$(dps register -X PUT -d "{\"registrationId\":\"$device\"}")"
operation="${answer#*\"operationId\":\"}" operation="${operation%%\"*}"
while [[ "$answer" == *'"status":"assigning"'* ]]; do
    sleep 0.2
    answer="$(dps "operations/$operation")"
done
hub="${answer#*\"assignedHub\":\"}" hub="${hub%%\"*}"
expect 'curl, registers the device' "$hub" contoso-heatpumps-hub-1098.azure-devices.net

# --- The hub ---

# at HOST KEY: the documented options, for a hub behind HOST.
at() {
    hub_options=(-V mqttv311 -p 8883 --cafile "$REQUESTS_CA_BUNDLE" -h "$1" -i "$device"
        -u "$hub/$device/?api-version=2021-04-12" -P "$(token "$2" "$hub/devices/$device")")
}

# of_device: prints the control API's data about the device.
of_device() { curl -fsS "${DPS_CONTROL}/_emulator/devices/$device"; }

at "$hub" "$key"
mosquitto_pub "${hub_options[@]}" -q 1 -t "devices/$device/messages/events/unit=celsius" -m '{"temperature":64}'
expect 'mosquitto_pub, telemetry' "$(of_device | grep -o '"telemetryCount":[0-9]*')" ':1'

mosquitto_sub "${hub_options[@]}" -W 15 -t '$iothub/twin/PATCH/properties/desired/#' -C 1 -F '%t %p' >"$DPS_WORK/desired" &
for _ in $(seq 100); do
    ! curl -fsS "${DPS_CONTROL}/_emulator/requests?limit=1000" | grep -q '"method":"SUBSCRIBE"' || break
    sleep 0.1
done
curl -fsS "${DPS_CONTROL}/_emulator/devices/$device/twin" -H 'Content-Type: application/json' \
    -d '{"desired":{"temperatureSetting":"70"}}' >/dev/null
wait $!
expect 'mosquitto_sub, the operator changes a desired property' "$(cat "$DPS_WORK/desired")" '"temperatureSetting":"70"'

at localhost "$key"
mosquitto_pub "${hub_options[@]}" -q 1 -t '$iothub/twin/PATCH/properties/reported/?$rid=1' -m '{"temperature":64}'
expect 'mosquitto_pub -h localhost, a reported property' "$(of_device | grep -o '"reported":{[^}]*}')" '"temperature":64'

at "$hub" "$(printf %s another | hmac "$group_key")"
refusal="$(mosquitto_pub "${hub_options[@]}" -q 1 -t "devices/$device/messages/events/" -n 2>&1 || true)"
expect "mosquitto_pub, another device's key" "${refusal//$'\n'/ }" 'not authorised'
printf '\nmosquitto-clients: %s passed, 0 failed\n\n' "$calls"
