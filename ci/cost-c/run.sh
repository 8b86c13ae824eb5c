#!/usr/bin/env bash
# Measures the reference workload W through the C API, compiled by gcc, on an emulated Cortex-M3, and compares it with
# the same workload in Rust (ci/cost). docs/evidence/cost.md explains W and the columns. Fails if a figure is above its
# limit.
#
#   ci/cost-c/run.sh            the builds of c/build.sh, with all features too; the border by itself; what each further
#                             function costs
#   ci/cost-c/run.sh --json     one JSON object a build
#   ci/cost-c/run.sh --profile  flash and instructions of each symbol of `small`, and the frames of its deepest stack;
#                             nothing else
#
# Builds below c/target, or CARGO_TARGET_DIR. Needs Rust with thumbv7m-none-eabi, and Debian's qemu-system-arm
# gcc-arm-none-eabi libnewlib-arm-none-eabi; on Debian, as root, it installs what is missing.
set -euo pipefail
json=false profile=false
for option in "$@"; do
    case "$option" in
        --json) json=true ;;
        --profile) profile=true ;;
        *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
cd "$(dirname "$0")"
# shellcheck source=../toolchain-bare-metal
source ../toolchain-bare-metal
want gcc-arm-none-eabi command -v arm-none-eabi-gcc
has_newlib() { echo '#include <string.h>' | arm-none-eabi-gcc -E -; }
want libnewlib-arm-none-eabi has_newlib
want qemu-system-arm command -v qemu-system-arm
install_wanted

target="${CARGO_TARGET_DIR:-../../c/target}"
mkdir -p "$target/bench"
target="$(cd "$target" && pwd)"
export CARGO_TARGET_DIR="$target"
# Each build chooses its own SHA-256 backend.
unset RUSTFLAGS
out="$target/bench"
board=../../c/examples/cortex-m3
flags=(-std=c99 -mcpu=cortex-m3 -mthumb -Os -ffunction-sections -fdata-sections
    -Wall -Wextra -Wpedantic -Wconversion -Werror)
link=(-nostartfiles "-Wl,--gc-sections" "-Wl,-z,noexecstack" -T "$board/mps2-an385.ld")

# library NAME [OPTION…]: builds the library with c/build.sh and these options.
library() {
    ../../c/build.sh --target thumbv7m-none-eabi --prefix "$out/$1" "${@:2}" >/dev/null
}

# Extracts the recipe's memory functions for C from the Rust file.
sed -n '/^    r#"$/,/^"#,$/{ //!p }' ../../ci/cost/recipe/memory.rs >"$out/memory.S"

# image NAME LIBRARY [FLAG…]: links an image with the library.
image() {
    arm-none-eabi-gcc "${flags[@]}" -I "$out/$2/include" -Wa,-I../../tests/vectors "${@:3}" "${link[@]}" -o "$out/$1.elf" \
        main.c workload.c measure.c more.c answers.S "$board/startup.c" -L "$out/$2/lib" -lazure_dps_c
}

# flash ELF: prints .text + .rodata + .data of the image. The vector table is the same in all images.
flash() {
    arm-none-eabi-size -A "$1" | awk '/^\.(text|rodata|data) / { sum += $2 } END { print sum }'
}

# memory_functions ELF: prints the size of memcpy() and similar functions. In C they come from the C library, in Rust
# from `compiler_builtins`. So the border does not include them.
memory_functions() {
    arm-none-eabi-nm --print-size "$1" | sort -u -k1,1 |
        awk '$4 ~ /^(__aeabi_)?(mem(cpy|move|set|clr|cmp)[48]?|bcmp)$|compiler_builtins.*3mem/ { print $2 }' |
        { sum=0; while read -r size; do sum=$((sum + 16#$size)); done; echo "$sum"; }
}

emulate() {
    timeout 60 qemu-system-arm -M mps2-an385 -cpu cortex-m3 -nographic \
        -semihosting-config enable=on,target=native -kernel "$1" "${@:2}" </dev/null 2>&1
}

declare -A value
row() { printf '%-34s %7s %8s %7s %7s %7s %6s %6s %7s %7s\n' "$@"; }

# report NAME LIBRARY [SOURCE…]: measures one build.
report() {
    local figures again key number
    image workload "$2" -DWORKLOAD "${@:3}"
    image measure "$2" -DWORKLOAD -DMEASURE "${@:3}"
    emulate "$out/workload.elf" >/dev/null
    figures="$(emulate "$out/measure.elf" -icount shift=0)"
    again="$(emulate "$out/measure.elf" -icount shift=0)"
    if [ "$figures" != "$again" ]; then
        echo "two runs differ:" "$figures" "$again" >&2
        exit 1
    fi
    while read -r key number; do
        [ -z "$number" ] || value[$key]="$number"
    done <<<"$figures"
    value[flash]=$(($(flash "$out/workload.elf") - $(flash "$out/empty.elf")))
    value[memory]="$(memory_functions "$out/workload.elf")"
    value[sum]=$((value[a] + value[b] + value[c] + value[d] + value[e]))
    if $json; then
        printf '{"build":"%s","flash":%d,"memory_functions":%d,"stack":%d,"caller":%d,"instructions":{"a":%d,"b":%d,"c":%d,"d":%d,"e":%d,"sum":%d,"e10":%d,"e100":%d}}\n' \
            "$1" "${value[flash]}" "${value[memory]}" "${value[stack]}" "${value[caller]}" "${value[a]}" "${value[b]}" \
            "${value[c]}" "${value[d]}" "${value[e]}" "${value[sum]}" "${value[e10]}" "${value[e100]}"
    else
        row "$1" "${value[flash]}" "${value[caller]}" "${value[stack]}" "${value[a]}" "${value[b]}" "${value[c]}" \
            "${value[d]}" "${value[e]}" "${value[sum]}"
    fi
}

# within KEY LIMIT: fails at the end if a figure of the last build is above its limit. The limits of stack and
# instructions are close to the figures, and below those of the C SDK's default. The limits of flash and border
# prevent growth.
failed=()
within() {
    [ "${value[$1]}" -le "$2" ] || failed+=("$1 is ${value[$1]}, the limit is $2")
}

# in_rust OPTION…: prints the flash of W in Rust with the same options, without the memory functions.
in_rust() {
    local elf="$target/thumbv7m-none-eabi/release/azure-dps-cortex-m3" empty
    rust() {
        (cd ../../ci/cost && "${cargo_bare_metal[@]}" build --quiet --release "${build_std_flags[@]}" "$@")
    }
    rust "$@"
    empty="$(($(flash "$elf") - $(memory_functions "$elf")))"
    rust "$@" --features workload
    echo "$(($(flash "$elf") - $(memory_functions "$elf") - empty))"
}

# border OPTION…: prints how much more the last build needs than the Rust build, without the memory functions of both.
border() {
    value[border]=$((value[flash] - value[memory] - $(in_rust "$@")))
    within border 4250
}

library small --features ""
image empty small
if $profile; then
    image workload small -DWORKLOAD
    exec python3 ../../ci/cost/profile.py "$out/workload.elf"
fi
$json || row build "flash B" "caller B" "stack B" a b c d e sum
report small small
within flash 19100
within stack 900
within sum 74000
compact='target.thumbv7m-none-eabi.rustflags = ["--cfg", "sha2_backend_soft=\"compact\""]'
border --config "$compact"
border_small="${value[border]}"
small_flash="$(flash "$out/workload.elf")"
more=""
for function in get_error set_endpoint write_service_message write_error http run_http hub twin record reprovisioning; do
    image more small -DWORKLOAD -DMORE="$function"
    emulate "$out/more.elf" >/dev/null
    more+="$(printf '\n  %-22s %6d' "$function" $(($(flash "$out/more.elf") - small_flash)))"
done

library recipe --features "" --recipe
report "small, recipe" recipe "$out/memory.S"
within flash 18700
border --config ../../ci/cost/recipe/config.toml --features recipe
border_recipe="${value[border]}"

library features
report "small, with tpm, csr and lookup" features
library fast --features "" --fast
report fast fast
$json || printf '\nThe border by itself: %d bytes in small, %d with the recipe.\n\nOn top of W, each alone, in bytes:%s\n' \
    "$border_small" "$border_recipe" "$more"
if [ ${#failed[@]} -gt 0 ]; then
    printf '%s\n' "${failed[@]}" >&2
    exit 1
fi
