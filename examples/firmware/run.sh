#!/usr/bin/env bash
# Builds the firmware and runs it in QEMU against the local DPS emulator, over TLS 1.2.
#
#   examples/firmware/run.sh             runs all cases: both devices of the tutorial, the kinds of
#                                        certificates that DPS has, wrong certificates and keys,
#                                        network failures, later boots
#   examples/firmware/run.sh --runs 20   runs both devices 20 times each
#   examples/firmware/run.sh --sizes     prints flash and RAM by part, and the peak of heap and
#                                        stack for each kind of certificate
#   examples/firmware/run.sh --build     only builds, and prints the path of the image
#   examples/firmware/run.sh --lint      runs clippy
#
#   --verbose   also prints the output of the firmware
#
# A run takes at most a minute. Needs the target thumbv7m-none-eabi (`rustup target add
# thumbv7m-none-eabi`) and, on Debian, the packages qemu-system-arm gcc-arm-none-eabi
# libnewlib-arm-none-eabi cmake make libclang-dev openssl curl; python3 for --sizes. As root on
# Debian, the script installs missing packages. docs/firmware.md explains the firmware.
set -euo pipefail

package=azure-dps-firmware
more_cases() {
    # A byte of the registration state.
    printf 'X' | dd of=kept.flash bs=1 seek=40 conv=notrunc status=none
    expect 0 "asking the service" "a record with a wrong byte: the device asks DPS" asks 1 boot "$toaster" kept.flash
    echo "mbedTLS signs:"
    (cd "$board/../firmware" && bare_metal build --features mbedtls-hmac)
    expect 0 "hub: $toasters_hub" "the toaster" device "$toaster"
    expect 0 "hub: $heatpumps_hub" "the heat pump" device "$heatpump"
    expect 5 "401002" "another device's key" device "$toaster" key-file="$heatpump.key"
    expect 2 "base64" "a key that is not base64" device "$toaster" key-file=ca.pem
}
source "$(dirname "${BASH_SOURCE[0]}")/../board/cases.sh"
