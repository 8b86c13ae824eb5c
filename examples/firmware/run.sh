#!/usr/bin/env bash
# Builds the firmware, and runs it in QEMU against the local DPS emulator, over TLS 1.2.
#
#   examples/firmware/run.sh             both devices of the tutorial, the service's kind of
#                                        certificates, and everything that must be refused
#   examples/firmware/run.sh --runs 20   both devices so many times, and nothing else
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
more_cases() { :; }
source "$(dirname "${BASH_SOURCE[0]}")/../board/cases.sh"
