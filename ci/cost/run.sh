#!/usr/bin/env bash
# Measures the reference workload W on an emulated Cortex-M3, in two builds: `small` with the compact backend of sha2,
# `fast` with the default backend. docs/evidence/cost.md explains W and the columns. Fails unless each figure of `small`
# is lower than the figure of azure-sdk-for-c with its default settings.
#
#   ci/cost/run.sh            a table, with the figures of azure-sdk-for-c
#   ci/cost/run.sh --json     a JSON object for each build
#   ci/cost/run.sh --recipe   also both builds with recipe/, after a test of its memory functions
#   ci/cost/run.sh --rolled   also a build with recipe/ and the backend that sha2-rolled.patch proposes to sha2
#   ci/cost/run.sh --profile  only flash and instructions of each symbol of `small`, and the frames of its deepest stack
#
# Measures with rustup's toolchain and its compiled `core`, and with Debian's rustc-web, which compiles `core` too. If
# only one of them is installed, measures with that one.
#
# Needs qemu-system-arm and a toolchain for thumbv7m-none-eabi (`rustup target add thumbv7m-none-eabi`). On Debian, as
# root, the script installs what is missing.
set -euo pipefail
json=false recipe=false rolled=false profile=false
for option in "$@"; do
    case "$option" in
        --json) json=true ;;
        --recipe) recipe=true ;;
        --rolled) rolled=true ;;
        --profile) profile=true ;;
        *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
cd "$(dirname "$0")"
source ../toolchain-bare-metal
want qemu-system-arm command -v qemu-system-arm
install_wanted

target="${CARGO_TARGET_DIR:-target}"
export CARGO_TARGET_DIR="$target"
# RUSTFLAGS would replace the flags in the configuration files.
unset RUSTFLAGS
elf="$target/thumbv7m-none-eabi/release/azure-dps-cortex-m3"
mkdir -p "$target"
# The recipe without its choice of the SHA-256 backend.
grep -v sha2_backend_soft recipe/config.toml >"$target/recipe-fast.toml"
small=(--config 'target.thumbv7m-none-eabi.rustflags = ["--cfg", "sha2_backend_soft=\"compact\""]')

# build FEATURES: builds with the cargo configuration in $config.
build() {
    "${cargo_bare_metal[@]}" build --quiet --release "${build_std_flags[@]}" "${config[@]}" --features "$1"
}

# Prints .text + .rodata + .data of the image. The vector table is the same in all images.
flash() {
    python3 - "$elf" <<'PY'
import struct, sys
data = open(sys.argv[1], "rb").read()
offset, = struct.unpack_from("<I", data, 0x20)
size, count, names = struct.unpack_from("<HHH", data, 0x2e)
section = lambda i: struct.unpack_from("<10I", data, offset + i * size)
base = section(names)[4]
total = 0
for i in range(count):
    name, _, _, _, _, length, *_ = section(i)
    name = data[base + name:data.index(b"\0", base + name)].decode()
    if name in (".text", ".rodata", ".data"):
        total += length
print(total)
PY
}

emulate() {
    timeout 60 qemu-system-arm -M mps2-an385 -cpu cortex-m3 -nographic \
        -semihosting-config enable=on,target=native -kernel "$elf" "$@" </dev/null
}

declare -A value
twins=()
# report NAME [FEATURE] [CONFIG…]: measures one build.
report() {
    local name="$1" feature="${2:-}" config=("${@:3}") empty workload figures again twin
    build "$feature"; empty="$(flash)"
    build "workload,$feature"; workload="$(flash)"
    emulate >/dev/null
    build "measure,$feature"
    figures="$(emulate -icount shift=0)"
    again="$(emulate -icount shift=0)"
    if [ "$figures" != "$again" ]; then
        echo "two runs differ:" "$figures" "$again" >&2
        exit 1
    fi
    while read -r key number; do
        [ -z "$number" ] || value[$key]="$number"
    done <<<"$figures"
    value[flash]=$((workload - empty))
    twin=null
    case "$name" in small*) measure_twin "$feature" "$workload" ;; esac
    value[sum]=$((value[a] + value[b] + value[c] + value[d] + value[e]))
    if $json; then
        printf '{"build":"%s","toolchain":"%s","flash":%d,"stack":%d,"buffers":%d,"future":%d,"instructions":{"a":%d,"b":%d,"c":%d,"d":%d,"e":%d,"sum":%d,"e10":%d,"e100":%d},"twin":%s}\n' \
            "$name" "$bare_metal_toolchain" "${value[flash]}" "${value[stack]}" "${value[buffers]}" "${value[future]}" \
            "${value[a]}" "${value[b]}" "${value[c]}" "${value[d]}" "${value[e]}" "${value[sum]}" "${value[e10]}" "${value[e100]}" \
            "$twin"
    else
        row "$name" "$bare_metal_toolchain" "${value[flash]}" "${value[buffers]}" "${value[stack]}" "${value[a]}" \
            "${value[b]}" "${value[c]}" "${value[d]}" "${value[e]}" "${value[sum]}"
        payload="$(printf '%d, %d and %d' "${value[e]}" "${value[e10]}" "${value[e100]}")"
    fi
}

# measure_twin FEATURE FLASH: prints how much more a program of this size needs if it also requests the twin.
measure_twin() {
    local figures flash stack instructions
    build "workload,twin,$1"
    flash="$(($(flash) - $2))"
    emulate >/dev/null
    build "measure,twin,$1"
    figures="$(emulate -icount shift=0)"
    # The output has pairs of a name and a figure.
    read -r _ stack _ instructions _ <<<"${figures//$'\n'/ }"
    twin="{\"flash\":$flash,\"stack\":$stack,\"instructions\":$instructions}"
    twins+=("$name, $bare_metal_toolchain: $flash bytes of flash, $stack of stack, $instructions instructions")
}

# ahead: fails unless each figure of the last build is lower than that of azure-sdk-for-c with its default settings.
ahead() {
    local key limit
    while read -r key limit; do
        if [ "${value[$key]}" -ge "$limit" ]; then
            echo "small, $bare_metal_toolchain: $key is ${value[$key]}, and azure-sdk-for-c's default needs $limit" >&2
            exit 1
        fi
    done <<<$'flash 16840\nbuffers 1344\nstack 824\nsum 77657'
}

row() { printf '%-20s %-14s %7s %8s %7s %7s %7s %6s %6s %7s %7s\n' "$@"; }

measure_all() {
    report small "" "${small[@]}"
    ahead
    report fast
    if $recipe; then
        local config=(--config recipe/config.toml) tested
        build memory-test
        tested="$(emulate)"
        # Printed to standard error, because it belongs neither to the table nor to the JSON objects.
        echo "${tested%%$'\n'*}" >&2
        report "small, recipe" recipe "${config[@]}"
        report "fast, recipe" recipe --config "$target/recipe-fast.toml"
    fi
    if $rolled; then
        report "rolled, recipe" recipe --config recipe/config.toml --config 'profile.release.package.sha2.opt-level = "s"' \
            --config "patch.crates-io.sha2.path = \"$(realpath "$target/sha2")\""
    fi
}

if $profile; then
    config=("${small[@]}")
    build workload
    exec python3 profile.py "$elf"
fi
if $rolled; then
    cargo fetch --quiet
    sha2="$(cargo metadata --quiet --format-version 1 | python3 -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(os.path.dirname(next(p["manifest_path"] for p in packages if p["name"] == "sha2")))')"
    rm -rf "$target/sha2"
    cp -r "$sha2" "$target/sha2"
    patch --quiet --directory "$target/sha2" --strip 1 <sha2-rolled.patch
    # The lock file that names the patched crate is temporary.
    cp Cargo.lock "$target/Cargo.lock"
    trap 'cp "$target/Cargo.lock" Cargo.lock' EXIT
fi

$json || row build toolchain "flash B" "caller B" "stack B" a b c d e sum
measure_all
if [ "${cargo_bare_metal[*]}" = cargo ] && has_debian; then
    use_debian
    measure_all
fi
if ! $json; then
    # azure-sdk-for-c 1.5 with arm-none-eabi-gcc 12.2, LTO, measured in the same way.
    row "C SDK, its default" "gcc 12.2" 16840 1344 824 13857 24853 7828 5758 25361 77657
    row "  smallest, no checks" "gcc 12.2" 13432 1344 776 18763 30424 5074 3842 15526 73629
    row "  fastest, no checks" "gcc 12.2" 15372 1344 1484 12772 19923 4078 3188 14310 54271
    row "  stack, no checks" "gcc 12.2" 14876 1344 720 16784 25393 4078 3188 14310 63753
    printf '\nIn the last build, step e takes %s instructions at 1, 10 and 100 times the returned payload, and\n' "$payload"
    printf 'the future of an async run has %d bytes, without those of the stream and the delay.\n' "${value[future]}"
    printf '\nA program that asks for the twin besides, and reads one setting, needs more:\n'
    printf '  %s\n' "${twins[@]}"
fi
