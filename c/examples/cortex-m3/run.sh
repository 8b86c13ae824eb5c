#!/usr/bin/env bash
# Builds the program for a Cortex-M3 with gcc and newlib, once with small enums and once with whole ones, and runs it in
# QEMU. Fails if one of its checks does.
#
#   c/examples/cortex-m3/run.sh
#
# Builds below c/target, or CARGO_TARGET_DIR. Needs Rust with thumbv7m-none-eabi, and Debian's qemu-system-arm
# gcc-arm-none-eabi libnewlib-arm-none-eabi; on Debian, as root, it installs what is missing.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=../../../.ci/packages
source ../../../.ci/packages
has_newlib() { echo '#include <string.h>' | arm-none-eabi-gcc -E -; }
want gcc-arm-none-eabi command -v arm-none-eabi-gcc
want libnewlib-arm-none-eabi has_newlib
want qemu-system-arm command -v qemu-system-arm
install_wanted

out="${CARGO_TARGET_DIR:-../../target}/cortex-m3"
mkdir -p "$out"
out="$(cd "$out" && pwd)"
../../build.sh --target thumbv7m-none-eabi --features "" --prefix "$out/prefix"
for enums in -fshort-enums -fno-short-enums; do
    echo "== with $enums"
    # The linker warns of an archive that was built with the other flag. This library has no enums.
    arm-none-eabi-gcc -std=c99 -mcpu=cortex-m3 -mthumb -Os "$enums" -ffunction-sections -fdata-sections \
        -Wall -Wextra -Wpedantic -Wconversion -Werror -I "$out/prefix/include" -Wa,-I../../../tests/vectors \
        -nostartfiles -Wl,--gc-sections -Wl,--no-enum-size-warning -Wl,-z,noexecstack -T mps2-an385.ld -o "$out/example.elf" \
        main.c startup.c vectors.S -L "$out/prefix/lib" -lazure_dps_c
    timeout 60 qemu-system-arm -M mps2-an385 -cpu cortex-m3 -nographic \
        -semihosting-config enable=on,target=native -kernel "$out/example.elf" </dev/null
done
