#!/usr/bin/env bash
# Builds the firmware on embassy, and boots it in QEMU against the local DPS emulator, over TLS 1.2.
#
#   examples/embassy/run.sh             both devices of the tutorial, the service's kind of
#                                       certificates, everything that must be refused, runs that
#                                       are dropped, later boots, losses of power; and at the hub:
#                                       the twin, a move to another hub, and what the hub refuses
#   examples/embassy/run.sh --runs 20   both devices, 20 times each, and nothing else
#   examples/embassy/run.sh --sizes     what flash and RAM are spent on; the peak of heap and
#                                       stack with each kind of certificate
#   examples/embassy/run.sh --build     builds only, and says where the image is
#   examples/embassy/run.sh --lint      clippy
#
# No run takes longer than a minute. With --verbose it shows what the firmware prints. It needs
# what examples/firmware/run.sh needs.
set -euo pipefail

package=azure-dps-embassy

source "$(dirname "${BASH_SOURCE[0]}")/hub_cases.sh"

# dropped [NAME=VALUE…]: a run of the toaster that is dropped at least once, and resumed.
dropped() {
    local code
    device "$toaster" "$@" >dropped.out && code=0 || code=$?
    cat dropped.out
    grep -q '^dropped' dropped.out || { echo "nothing was dropped"; return 70; }
    return "$code"
}

zeros() { cat /dev/zero; }
# The same noise each time.
noise() { openssl enc -aes-128-ctr -nosalt -K 02 -iv 00 </dev/zero 2>/dev/null; }

# hub_service HUB: starts a service that sends every toaster to this hub; sets $port.
hub_service() {
    cat >"$1.toml" <<TOML
id_scope = "0ne00002193"
linked_hubs = ["$1"]
[[enrollment_groups]]
enrollment_group_id = "toasters"
primary_key = "$group_key"
allocation = { policy = "static" }
TOML
    start "$1" --config "$1.toml" --ca-out "$1.pem"
}

# power_losses: the operator moves the toaster from one hub to another and back. The power is lost after some changes to
# the flash. The next boot, with the service down, must have the old record or the new one.
power_losses() {
    local hubs=(hub-0.azure-devices.net hub-1.azure-devices.net) ports=() hub_ports=() hub=0 new lost=0 boots=20 code erased
    for new in 0 1; do
        local port hub_port control pid
        hub_service "${hubs[new]}"
        ports[new]="$port" hub_ports[new]="$hub_port"
    done
    blank_flash losses.flash
    boot "$toaster" losses.flash host="localhost:${ports[0]}" hub-port="${hub_ports[0]}" ca="${hubs[0]}.pem" || return
    for ((boot = 1; boot <= boots; boot++)); do
        new=$((1 - hub))
        boot "$toaster" losses.flash provision-again=1 host="localhost:${ports[new]}" hub-port="${hub_ports[new]}" \
            ca="${hubs[new]}.pem" power-loss=$((boot * 37 % 149)) >loss.out && code=0 || code=$?
        # No hub either: it says which one it knows.
        offline_boot "$toaster" losses.flash hub-port=1 >next.out || [ $? = 7 ] || { cat loss.out next.out; return 70; }
        case "$code $(sed -n 's/^hub: //p' next.out)" in
            "0 ${hubs[new]}") hub="$new" ;;
            "99 ${hubs[new]}") hub="$new" lost=$((lost + 1)) ;;
            "99 ${hubs[hub]}") lost=$((lost + 1)) ;;
            *) cat loss.out next.out; return 71 ;;
        esac
    done
    read -ra erased < <(od -An -tu4 -j4096 losses.flash)
    echo "the power was lost $lost times of $boots; the sectors were erased ${erased[*]} times"
    [ "$lost" -gt 5 ] && [ "$lost" -lt "$boots" ] && [ "${erased[0]}" -gt 1 ] && [ "${erased[1]}" -gt 1 ]
}

more_cases() {
    expect 0 "hub: $toasters_hub" "the operator wants it: it asks" asks 1 boot "$toaster" kept.flash provision-again=1
    echo "dropped and resumed:"
    # In the handshake, in the registration, in a wait, in a poll.
    for milliseconds in 20 60 110 150 190 230; do
        expect 0 "hub: $toasters_hub" "a run that is dropped after $milliseconds ms, twice that, and so on" \
            dropped drop-after="$milliseconds"
    done
    echo "what the flash survives:"
    expect 0 "the power was lost" "the power is lost while a record is written" power_losses
    blank_flash torn.flash
    expect 99 "power lost" "the power is lost while the first record is written" boot "$toaster" torn.flash power-loss=20
    expect 0 "hub: $toasters_hub" "the next boot asks again" asks 1 boot "$toaster" torn.flash
    expect 0 "hub: $toasters_hub" "the one after that does not" offline_boot "$toaster" torn.flash
    for filling in zeros noise; do
        # As long as a flash, with the counters.
        head -c 4104 <("$filling") >"$filling.flash"
        expect 0 "hub: $toasters_hub" "a flash full of $filling: it asks" asks 1 boot "$toaster" "$filling.flash"
        expect 0 "hub: $toasters_hub" "the next boot does not" offline_boot "$toaster" "$filling.flash"
    done
    echo "pauses:"
    blank_flash refused.flash
    expect 3 "400207" "a device that the webhook does not know" boot "$unknown" refused.flash
    expect 6 "DPS is left alone" "its next boot leaves DPS alone" boot "$unknown" refused.flash timeout=10
    expect 3 "400207" "an hour later it asks again" boot "$unknown" refused.flash time=$(($(date +%s) + 3600))
    hub_cases
}
source "$(dirname "${BASH_SOURCE[0]}")/../board/cases.sh"
