#!/usr/bin/env bash
# Builds the firmware on embassy and boots it in QEMU against the local DPS emulator, over TLS 1.2.
#
#   examples/embassy/run.sh             runs all cases: those of examples/firmware/run.sh, dropped
#                                       runs, losses of power; and at the hub: the twin, a move to
#                                       another hub, a hub that rejects the device
#   examples/embassy/run.sh --runs 20   runs both devices of the tutorial 20 times each
#   examples/embassy/run.sh --sizes     prints flash and RAM by part, and the peak of heap and
#                                       stack for each kind of certificate
#   examples/embassy/run.sh --build     only builds, and prints the path of the image
#   examples/embassy/run.sh --lint      runs clippy
#
#   --verbose   also prints the output of the firmware
#
# A boot takes at most a minute. Needs the target thumbv7m-none-eabi (`rustup target add
# thumbv7m-none-eabi`) and, on Debian, the packages qemu-system-arm gcc-arm-none-eabi
# libnewlib-arm-none-eabi cmake make libclang-dev openssl curl; python3 for --sizes. As root on
# Debian, the script installs missing packages. docs/embassy.md explains the firmware.
set -euo pipefail

package=azure-dps-embassy

source "$(dirname "${BASH_SOURCE[0]}")/hub_cases.sh"

# dropped [NAME=VALUE…]: runs the toaster. The run must be dropped at least once.
dropped() {
    local code
    device "$toaster" "$@" >dropped.out && code=0 || code=$?
    cat dropped.out
    grep -q '^dropped' dropped.out || { echo "nothing was dropped"; return 70; }
    return "$code"
}

zeros() { cat /dev/zero; }
# Returns the same bytes each time.
noise() { openssl enc -aes-128-ctr -nosalt -K 02 -iv 00 </dev/zero 2>/dev/null; }

# hub_service HUB: starts a service that sends every toaster to this hub. Sets $port.
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

# power_losses: the operator moves the toaster from one hub to another and back. The power fails after some changes of the
# flash. The next boot, with the service down, must have the old record or the new one.
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
        # The hub is down too. The firmware prints the hub of its record.
        offline_boot "$toaster" losses.flash hub-port=1 >next.out || [ $? = 7 ] || { cat loss.out next.out; return 70; }
        case "$code $(sed -n 's/^hub: //p' next.out)" in
            "0 ${hubs[new]}") hub="$new" ;;
            "99 ${hubs[new]}") hub="$new" lost=$((lost + 1)) ;;
            "99 ${hubs[hub]}") lost=$((lost + 1)) ;;
            *) cat loss.out next.out; return 71 ;;
        esac
    done
    read -ra erased < <(od -An -tu4 -j4096 losses.flash)
    echo "the power failed in $lost of $boots writes; the sectors were erased ${erased[*]} times"
    [ "$lost" -gt 5 ] && [ "$lost" -lt "$boots" ] && [ "${erased[0]}" -gt 1 ] && [ "${erased[1]}" -gt 1 ]
}

more_cases() {
    expect 0 "hub: $toasters_hub" "the operator asks to provision again: the device asks DPS" asks 1 boot "$toaster" kept.flash provision-again=1
    echo "dropped and resumed:"
    # In the handshake, in the registration, in a wait, in a poll.
    for milliseconds in 20 60 110 150 190 230; do
        expect 0 "hub: $toasters_hub" "a run that is dropped after $milliseconds ms, then twice this time, and so on" \
            dropped drop-after="$milliseconds"
    done
    echo "the content of the flash:"
    expect 0 "the power failed" "the power fails while a record is written" power_losses
    blank_flash torn.flash
    expect 99 "power lost" "the power fails while the first record is written" boot "$toaster" torn.flash power-loss=20
    expect 0 "hub: $toasters_hub" "the next boot asks DPS again" asks 1 boot "$toaster" torn.flash
    expect 0 "hub: $toasters_hub" "the boot after that does not ask DPS" offline_boot "$toaster" torn.flash
    for filling in zeros noise; do
        # The length of a flash file, with its counters.
        head -c 4104 <("$filling") >"$filling.flash"
        expect 0 "hub: $toasters_hub" "a flash full of $filling: the device asks DPS" asks 1 boot "$toaster" "$filling.flash"
        expect 0 "hub: $toasters_hub" "the next boot does not ask DPS" offline_boot "$toaster" "$filling.flash"
    done
    echo "pauses:"
    blank_flash refused.flash
    expect 3 "400207" "a device that the webhook does not know" boot "$unknown" refused.flash
    expect 6 "the device must not ask DPS" "the next boot does not ask DPS" boot "$unknown" refused.flash timeout=10
    expect 3 "400207" "an hour later, the device asks DPS again" boot "$unknown" refused.flash time=$(($(date +%s) + 3600))
    hub_cases
}
source "$(dirname "${BASH_SOURCE[0]}")/../board/cases.sh"
