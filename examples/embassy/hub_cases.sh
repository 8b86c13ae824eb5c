# shellcheck shell=bash disable=SC2154 # The variables are those of ../board/cases.sh.
# Sourced by run.sh: the cases at the hub. The operator moves the toaster, changes its twin, and disables it.

second_hub=contoso-toasters-hub-2.azure-devices.net
# The emulator's key for its service API. It is public.
service_key=YXp1cmUtZHBzLWVtdWxhdG9yOiB0aGlzIGtleSBpcyB3ZWxsIGtub3duLiBJdCBwcm90ZWN0cyBub3RoaW5nLg==

# counts REGISTRATIONS CONNECTIONS COMMAND…: runs the command. The toaster must send this number of register requests to
# DPS, and this number of CONNECT packets to its hubs. Without a registration, it must send no request to DPS.
counts() {
    local code before register connect all
    before="$(wc -l <life.log)"
    "${@:3}" && code=0 || code=$?
    tail -n "+$((before + 1))" life.log | grep -F " $toaster " >requests.log || true
    all="$(grep -c ' https ' requests.log || true)"
    register="$(grep -cE ' https +PUT ' requests.log || true)" connect="$(grep -cE ' mqtts +CONNECT ' requests.log || true)"
    echo "to DPS: $all requests, $register of them register requests; to hubs: $connect CONNECT"
    [ "$register $connect" = "$1 $2" ] || return 70
    [ "$1" != 0 ] || [ "$all" = 0 ] || return 71
    return "$code"
}

# live HOURS [NAME=VALUE…]: boots the toaster with its flash. Its clock is HOURS ahead.
live() { boot "$toaster" life.flash "${@:2}" ca=life.pem time=$(($(date +%s) + $1 * 3600)); }

# operator METHOD PATH [JSON]: calls the control API.
operator() {
    curl --silent --show-error --fail --output call.json --request "$1" --header 'Content-Type: application/json' \
        --data "${3:-}" "${control}_emulator/$2"
}

# enroll HUB MIGRATES [HEADER]: creates an individual enrollment, which sends the toaster to this hub.
enroll() {
    local resource="localhost%3A$port" expiry=$(($(date +%s) + 3600)) hex signature key
    hex="$(base64 -d <<<"$service_key" | od -An -tx1 -v | tr -d ' \n')"
    signature="$(printf '%s\n%s' "$resource" "$expiry" | openssl sha256 -mac HMAC -macopt "hexkey:$hex" -binary | base64)"
    signature="$(sed 's/+/%2B/g; s|/|%2F|g; s/=/%3D/g' <<<"$signature")"
    key="$(cat "$toaster.key")"
    curl --silent --show-error --fail --cacert life.pem --output call.json --request PUT --data @- \
        --header "Authorization: SharedAccessSignature sr=$resource&sig=$signature&se=$expiry&skn=provisioningserviceowner" \
        --header 'Content-Type: application/json' "${@:3}" \
        "https://localhost:$port/enrollments/$toaster?api-version=2021-10-01" <<JSON
{
    "registrationId": "$toaster",
    "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "$key", "secondaryKey": "$key"}},
    "allocationPolicy": "static",
    "iotHubs": ["$1"],
    "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": $2},
    "initialTwin": {"properties": {"desired": {"state": "ready", "darknessSetting": "light"}}}
}
JSON
}

# while_at_hub METHOD PATH JSON COMMAND…: runs the command, and calls the control API when the toaster has reported.
while_at_hub() {
    local before
    before="$(grep -c ' PATCH ' life.log || true)"
    (
        for _ in {1..600}; do
            if [ "$(grep -c ' PATCH ' life.log || true)" -gt "$before" ]; then
                operator "$1" "$2" "$3"
                break
            fi
            sleep 0.05
        done
    ) &
    "${@:4}"
}

# tries N COMMAND…: runs the command. The toaster must fail at the hub at least N times.
tries() {
    local code
    "${@:2}" >tries.out && code=0 || code=$?
    cat tries.out
    [ "$(grep -c '^the hub: ' tries.out)" -ge "$1" ] || return 72
    return "$code"
}

hub_cases() {
    local main_hub="$hub_port" port hub_port control stranger
    cat >life.toml <<TOML
id_scope = "0ne00002193"
linked_hubs = ["$toasters_hub", "$second_hub"]
[[enrollment_groups]]
enrollment_group_id = "toasters"
primary_key = "$group_key"
allocation = { policy = "static", iot_hubs = ["$toasters_hub"] }
initial_twin = { tags = { building = 43 }, desired = { state = "ready", darknessSetting = "medium" } }
TOML
    # Hubs with the same names and certificates of another CA.
    start stranger --config life.toml
    stranger="$hub_port"
    start life --config life.toml --ca-out life.pem
    blank_flash life.flash

    echo "at the hub:"
    expect 0 "twin: state=ready darknessSetting=medium" "the first boot registers and reads its twin" counts 1 1 live 0
    expect 0 'reported: {"firmwareVersion":"12.0.2.5"' "the second boot does not ask DPS, and the hub has its report" \
        counts 0 1 live 0
    expect 0 "twin: state=ready darknessSetting=medium" "the third boot works while DPS is down" \
        counts 0 1 live 0 host=localhost:1
    expect 0 "change: darknessSetting=dark" "the operator changes a setting while the device is connected" \
        counts 0 1 while_at_hub POST "devices/$toaster/twin" '{"desired": {"darknessSetting": "dark"}}' live 0 stay=30
    expect 0 "no change" "the operator changes nothing" counts 0 1 live 0 stay=1
    expect 0 "the hub: " "the hub drops the device: the device connects again and does not ask DPS" \
        counts 0 2 while_at_hub POST "devices/$toaster/hub/disconnect" '{}' live 0 stay=2
    echo "no session:"
    expect 7 "connection refused" "nothing listens at the hub: the device waits and does not ask DPS" \
        tries 2 counts 0 0 live 1 hub-port=1 timeout=8
    operator POST behaviour "{\"unavailable_hubs\": [\"$toasters_hub\"]}"
    expect 6 "CONNECT was answered with 3" "the hub is unavailable: the device waits and does not ask DPS" tries 2 counts 0 2 live 1 timeout=8
    operator POST behaviour '{"unavailable_hubs": []}'
    expect 8 "not signed by a trusted root" "another server has the hub's name" \
        counts 0 0 live 1 hub-port="$stranger" timeout=1
    operator POST "devices/$toaster/twin" "{\"desired\": {\"note\": \"$(printf '%01000d' 0)\"}}"
    expect 2 "the buffer is too small" "a twin that does not fit the buffer" counts 0 1 live 1 timeout=1
    operator POST "devices/$toaster/twin" '{"desired": {"note": null}}'
    operator POST enrollments/toasters/disable
    expect 0 "twin: state=ready darknessSetting=dark" "DPS rejects the device after the operator's command: back to its hub" \
        counts 1 1 live 1 provision-again=1
    operator POST enrollments/toasters/enable
    echo "moved:"
    enroll "$second_hub" true
    operator POST "devices/$toaster/hub/disable"
    expect 0 "twin: state=ready darknessSetting=dark" "disabled at the old hub: the device asks DPS, and its twin has moved" \
        counts 1 2 live 2
    expect 0 "hub: $second_hub" "the next boot connects to this hub" counts 0 1 live 3
    expect 8 "for another host name" "a hub with another name in its certificate" \
        counts 0 0 live 3 hub-port="$main_hub" ca=ca.pem timeout=1
    enroll "$toasters_hub" false --header 'If-Match: *'
    operator DELETE "devices/$toaster/hub"
    expect 0 "twin: state=ready darknessSetting=light" "removed from the hub: the device moves back, with a new twin" \
        counts 1 2 live 4
    expect 0 "hub: $toasters_hub" "the next boot connects to this hub" counts 0 1 live 5
    echo "rejected by the hub:"
    operator POST "devices/$toaster/hub/disable"
    expect 3 "CONNECT was answered with 5" "disabled at the hub: the device asks DPS once, and DPS sends it there again" \
        counts 1 2 live 30 timeout=10
    expect 3 "CONNECT was answered with 5" "the next boot does not ask DPS" counts 0 1 live 30 timeout=10
    operator POST "devices/$toaster/hub/enable"
    expect 0 "twin: state=ready darknessSetting=light" "enabled again" counts 0 1 live 30
}
