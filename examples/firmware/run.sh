#!/usr/bin/env bash
# Builds the firmware, and runs it in QEMU against the local DPS emulator, over TLS 1.2.
#
#   examples/firmware/run.sh             both devices of the tutorial, the service's kind of
#                                        certificates, everything that must be refused, and
#                                        later boots
#   examples/firmware/run.sh --runs 20   both devices, 20 times each, and nothing else
#   examples/firmware/run.sh --sizes     what flash and RAM are spent on; the peak of heap and
#                                        stack with each kind of certificate
#   examples/firmware/run.sh --build     builds only, and says where the image is
#   examples/firmware/run.sh --lint      clippy
#
# No run takes longer than a minute. With --verbose it shows what the firmware prints.
#
# It needs a toolchain for the target (`rustup target add thumbv7m-none-eabi`) and, for mbedTLS
# and QEMU, Debian's qemu-system-arm gcc-arm-none-eabi libnewlib-arm-none-eabi cmake make
# libclang-dev openssl (and python3 for --sizes). On Debian, as root, it installs what is missing.
# For another board, see src/main.rs.
set -euo pipefail

package=azure-dps-firmware
more_cases() {
    # A byte of the registration state.
    printf 'X' | dd of=kept.flash bs=1 seek=40 conv=notrunc status=none
    expect 0 "asking the service" "a record with a wrong byte: it asks" asks 1 boot "$toaster" kept.flash
    echo "mbedTLS signs:"
    (cd "$board/../firmware" && bare_metal build --features mbedtls-hmac)
    expect 0 "hub: $toasters_hub" "the toaster" device "$toaster"
    expect 0 "hub: $heatpumps_hub" "the heat pump" device "$heatpump"
    expect 5 "401002" "another device's key" device "$toaster" key-file="$heatpump.key"
    expect 2 "base64" "a key that is none" device "$toaster" key-file=ca.pem
}
source "$(dirname "${BASH_SOURCE[0]}")/../board/cases.sh"
