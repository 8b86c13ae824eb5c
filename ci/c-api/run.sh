#!/usr/bin/env bash
# Checks the header, the archive and the packages of the C library from outside.
#
#   ci/c-api/run.sh [header] [symbols] [packages] [rust] [floats]     all of them without arguments
#   ci/c-api/run.sh --all-targets                                     and symbols for every target of build.sh
#
#   header    The header compiles as C99, C11 and C++, with and without short enums. The C compiler checks that its
#             functions, structures and constants equal the Rust sources, with 64-bit and 32-bit pointers.
#   symbols   Each archive is one object. It exports only the header's functions, and imports only functions such as
#             memcpy. It has no variables, and no paths of the machine that built it. For Arm, gcc links all of it.
#   packages  CMake (with the installed package and from source) and pkg-config, for this machine and a Cortex-M3.
#   rust      Another Rust library in the same program, in a separate archive and in the same archive.
#   floats    The float ABI of the archive must equal the firmware's.
#
# Needs Debian's gcc, g++, cmake, make, pkg-config, gcc-arm-none-eabi, libnewlib-arm-none-eabi and python3. On Debian,
# as root, they are installed. If clang is installed, it checks the header too.
set -euo pipefail
cd "$(dirname "$0")/../../c"
# shellcheck source=../packages
source ../ci/packages
for tool in gcc g++ cmake make pkg-config python3; do want "$tool" command -v "$tool"; done
want gcc-arm-none-eabi command -v arm-none-eabi-gcc
want libnewlib-arm-none-eabi has_file /usr/lib/arm-none-eabi/newlib /usr/arm-none-eabi/lib
install_wanted

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
host="$(rustc -vV | sed -n 's/^host: //p')"
targets=("$host" thumbv6m-none-eabi thumbv7m-none-eabi thumbv7em-none-eabihf riscv32imc-unknown-none-elf)
parts=()
for argument; do
    case "$argument" in
        --all-targets)
            mapfile -t targets < <(./build.sh --help | grep -oE '\b(thumb|riscv|x86_64-|aarch64-)[a-z0-9_.-]+' | sort -u)
            ;;
        header | symbols | packages | rust | floats) parts+=("$argument") ;;
        *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' ../ci/c-api/run.sh >&2; exit 2 ;;
    esac
done
[ ${#parts[@]} -gt 0 ] || parts=(header symbols packages rust floats)
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
fail() { printf 'FAILED  %s\n' "$*" >&2; exit 1; }
prefix() { echo "$CARGO_TARGET_DIR/prefix/$1"; }

warnings=(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Werror)
cpp_warnings=(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
cortex_m3=(-mcpu=cortex-m3 -mthumb --specs=nosys.specs "-Wl,-z,noexecstack")

../ci/c-api/functions >"$work/functions"

# --- header -------------------------------------------------------------------------------

check_header() {
    local standard compiler
    printf '#include "azure_dps.h"\n' >"$work/alone.c"
    cp "$work/alone.c" "$work/alone.cpp"
    for compiler in gcc arm-none-eabi-gcc clang; do
        command -v "$compiler" >/dev/null || continue
        for standard in -std=c99 -std=c11 "-std=c99 -fshort-enums" "-std=c99 -fno-short-enums"; do
            # shellcheck disable=SC2086 # Two options.
            "$compiler" $standard "${warnings[@]}" -Iinclude -fsyntax-only "$work/alone.c"
        done
    done
    for compiler in g++ arm-none-eabi-g++ clang++; do
        command -v "$compiler" >/dev/null || continue
        for standard in -std=c++11 -std=c++17 "-std=c++17 -fshort-enums"; do
            # shellcheck disable=SC2086
            "$compiler" $standard "${cpp_warnings[@]}" -Iinclude -fsyntax-only "$work/alone.cpp"
        done
    done
    echo "the header compiles as C and C++"

    cargo build --quiet --locked --manifest-path ../ci/c-api/prototypes/Cargo.toml
    "$CARGO_TARGET_DIR/debug/azure-dps-c-prototypes" src/*.rs >"$work/prototypes.c"
    for compiler in "gcc" "gcc -fshort-enums" "arm-none-eabi-gcc" "arm-none-eabi-gcc -fno-short-enums"; do
        # newlib's offsetof is not a constant expression with -Wpedantic.
        # shellcheck disable=SC2086
        $compiler -std=gnu11 -Wall -Wextra -Werror -Iinclude -fsyntax-only "$work/prototypes.c"
    done
    sed -n 's/^[a-z].*\b\(azure_dps_[a-z0-9_]*\)(.*);$/\1/p' "$work/prototypes.c" | sort >"$work/exported"
    diff "$work/functions" "$work/exported" >&2 || fail "<: only in the header, >: only in the Rust sources"
    sed -n 's/^} \(azure_dps_[a-z0-9_]*\);$/\1/p' include/azure_dps.h | sort >"$work/structures"
    sed -n 's/^struct rust_\(azure_dps_[a-z0-9_]*\) {$/\1/p' "$work/prototypes.c" | sort | diff "$work/structures" - >&2 ||
        fail "structures: <: only in the header, >: only in the Rust sources"
    sed -n 's/^_Static_assert(\(AZURE_DPS_[A-Z0-9_]*\) ==.*/\1/p' "$work/prototypes.c" | sort >"$work/constants"
    echo "its $(wc -l <"$work/functions") functions, $(grep -c '^struct' "$work/prototypes.c") structures and" \
        "$(wc -l <"$work/constants") constants equal the Rust sources, with 64-bit and 32-bit pointers"

    # Shows that the comparison can fail.
    local name before after
    while IFS='|' read -r name before after; do
        sed "s/$before/$after/" include/azure_dps.h >"$work/azure_dps.h"
        ! cmp -s include/azure_dps.h "$work/azure_dps.h" || fail "nothing to change: $name"
        ! gcc -std=gnu11 -Wall -Wextra -Werror -I"$work" -fsyntax-only "$work/prototypes.c" 2>/dev/null ||
            fail "not detected: $name"
    done <<'CHANGES'
another type of a parameter|azure_dps_step(azure_dps_client \*dps, uint32_t|azure_dps_step(azure_dps_client *dps, uint64_t
another type of a result|^void azure_dps_key_wipe|int32_t azure_dps_key_wipe
another type of a member|uint16_t http_status|int16_t http_status
an additional member|uint8_t retryable; *\/\*\*< 1 if a new|uint8_t more; &
another length of an array|tracking_id\[37\]|tracking_id[38]
another number|ERR_STREAM (-45)|ERR_STREAM (-46)
CHANGES
    rm "$work/azure_dps.h"
}

# --- symbols ------------------------------------------------------------------------------

# Symbols of the C library, libgcc or compiler-rt. On Linux, getauxval reports the features of an aarch64 processor.
wanted_from_c='getauxval|memcpy|memmove|memset|memcmp|bcmp|strlen|__aeabi_(memcpy|memmove|memset|memclr)[48]?'
wanted_from_libgcc='__aeabi_(u?idiv|u?idivmod|u?ldivmod|lmul|llsl|llsr|lasr)|__(u?div|u?mod|mul|ashl|lshr|ashr)[ds]i3|__clzsi2|__ctzsi2|__gnu_thumb1_case_[a-z]*'

check_archive() { # TRIPLE ARCHIVE FUNCTIONS
    local object="$work/object" members unknown variables
    members="$(ar t "$2")"
    [ "$members" = azure_dps.o ] || fail "$1: the archive has $members"
    (cd "$work" && ar x "$2" && mv azure_dps.o object)
    readelf -sW "$object" | awk '($5 == "GLOBAL" || $5 == "WEAK") && $7 != "UND" { print $8 }' | sort >"$work/defined"
    diff "$3" "$work/defined" >&2 || fail "$1: <: in the header, not exported; >: exported, not in the header"
    readelf -sW "$object" | awk '($5 == "GLOBAL" || $5 == "WEAK") && $7 == "UND" { print $8 }' | sort >"$work/undefined"
    unknown="$(grep -vxE "$wanted_from_c|$wanted_from_libgcc" "$work/undefined" || true)"
    [ -z "$unknown" ] || fail "$1: needs unknown symbols: $unknown"
    variables="$(readelf -SW "$object" | sed 's/^ *\[ *[0-9]*\] *//' |
        awk '$1 ~ /^\.(data|bss|tdata|tbss|init_array|fini_array|ctors|dtors)/ && $1 !~ /^\.data\.rel\.ro/ && $5 !~ /^0+$/ { print $1 }')"
    # On Linux, one byte is allowed. It caches whether the processor has instructions for SHA-256.
    case "$1" in
        *-linux-*) variables="$(grep -vE '^\.data\._ZN4sha2.*_(cpuid|hwcap)7STORAGE17h[0-9a-f]*E(\.0)?$' <<<"$variables" || true)" ;;
    esac
    [ -z "$variables" ] || fail "$1: contains variables: $variables"
    ! grep -qaF -e "$HOME" -e "$PWD" "$object" || fail "$1: contains paths of this machine"
}

# Checks that all symbols that the archive needs exist, for any call.
check_links() { # TRIPLE ARCHIVE
    local processor
    case "$1" in
        thumbv6m-none-eabi) processor=(-mcpu=cortex-m0) ;;
        thumbv7m-none-eabi) processor=(-mcpu=cortex-m3) ;;
        thumbv7em-none-eabi) processor=(-mcpu=cortex-m4) ;;
        thumbv7em-none-eabihf) processor=(-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard) ;;
        thumbv8m.main-none-eabi) processor=(-mcpu=cortex-m33 -mfloat-abi=soft) ;;
        thumbv8m.main-none-eabihf) processor=(-mcpu=cortex-m33 -mfloat-abi=hard) ;;
        *) return 0 ;;
    esac
    arm-none-eabi-gcc "${processor[@]}" -mthumb --specs=nosys.specs "-Wl,-z,noexecstack" -Iinclude ../ci/c-api/consumer/main.c \
        -Wl,--whole-archive "$2" -Wl,--no-whole-archive -o "$work/whole"
}

sizes() { # OBJECT: bytes of code and of constants
    readelf -SW "$1" | sed 's/^ *\[ *[0-9]*\] *//' | awk '
        function number(hex,  i, n) { for (i = 1; i <= length(hex); i++) n = n * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1; return n }
        $1 ~ /^\.text/ { text += number($5) } $1 ~ /^\.(rodata|data\.rel\.ro)/ { constant += number($5) }
        END { printf "%d bytes of code, %d of constants", text, constant }'
}

check_symbols() {
    local target
    for target in "${targets[@]}"; do
        ./build.sh --target "$target" >/dev/null
        check_archive "$target" "$(prefix "$target")/lib/libazure_dps_c.a" "$work/functions"
        check_links "$target" "$(prefix "$target")/lib/libazure_dps_c.a"
        echo "$target: exports only the $(wc -l <"$work/functions") functions, $(sizes "$work/object")," \
            "$(($(stat -c %s "$work/object") / 1024)) KB on disk; imports" "$(tr '\n' ' ' <"$work/undefined")"
    done
    # Without a feature, the archive does not contain its functions.
    ./build.sh --target thumbv7m-none-eabi --features "" --prefix "$work/prefix" >/dev/null
    grep -vE '^azure_dps_(tpm|certificate)_' "$work/functions" >"$work/without"
    check_archive "thumbv7m-none-eabi without features" "$work/prefix/lib/libazure_dps_c.a" "$work/without"
    echo "thumbv7m-none-eabi without features: $(wc -l <"$work/without") functions, $(sizes "$work/object")"
}

# --- packages -----------------------------------------------------------------------------

configure_and_build() { # NAME CMAKE-OPTION…
    if ! cmake -S ../ci/c-api/consumer -B "$work/$1" "${@:2}" >"$work/log" 2>&1 ||
        ! cmake --build "$work/$1" >>"$work/log" 2>&1; then
        cat "$work/log" >&2
        fail "CMake, $1"
    fi
}

check_packages() {
    ./build.sh >/dev/null
    ./build.sh --target thumbv7m-none-eabi >/dev/null
    local toolchain="$PWD/../ci/c-api/consumer/cortex-m3.cmake" image
    configure_and_build installed -DCMAKE_PREFIX_PATH="$(prefix "$host")"
    "$work/installed/consumer"
    configure_and_build source -DFROM_SOURCE=ON
    "$work/source/consumer"
    # A second build links nothing if nothing has changed.
    cmake --build "$work/source" >"$work/log"
    ! grep -q Linking "$work/log" || fail "CMake links again although nothing changed"
    configure_and_build installed-m3 -DCMAKE_PREFIX_PATH="$(prefix thumbv7m-none-eabi)" -DCMAKE_TOOLCHAIN_FILE="$toolchain"
    configure_and_build source-m3 -DFROM_SOURCE=ON -DCMAKE_TOOLCHAIN_FILE="$toolchain"
    for image in installed-m3 source-m3; do
        readelf -hW "$work/$image/consumer" | grep -q 'Machine: *ARM$' || fail "$image is not for ARM"
    done
    ! cmake -S ../ci/c-api/consumer -B "$work/wrong" -DCMAKE_PREFIX_PATH="$(prefix thumbv7m-none-eabi)" >"$work/log" 2>&1 ||
        fail "CMake accepts the archive of a Cortex-M3 for this machine"
    grep -q 'for thumbv7m-none-eabi' "$work/log" || { cat "$work/log" >&2; fail "CMake does not name the target of the archive"; }
    echo "CMake: find_package and add_subdirectory, here and for a Cortex-M3; CMake rejects another processor's archive"

    # shellcheck disable=SC2046 # Several options.
    gcc -std=c99 ../ci/c-api/consumer/main.c -o "$work/by-pkg-config" \
        $(PKG_CONFIG_PATH="$(prefix "$host")/lib/pkgconfig" pkg-config --cflags --libs 'azure_dps_c >= 0.1')
    "$work/by-pkg-config"
    echo "pkg-config: compiled, linked and ran"
}

# --- rust ---------------------------------------------------------------------------------

check_rust() {
    local std=(-lgcc_s -lutil -lrt -lpthread -lm -ldl)
    ./build.sh >/dev/null
    ./build.sh --target thumbv7m-none-eabi >/dev/null
    rustc --edition 2024 --check-cfg 'cfg(bare_metal)' -O -C panic=abort --crate-type staticlib \
        ../ci/c-api/two-libraries/other.rs -o "$work/libother.a"
    gcc -Iinclude ../ci/c-api/two-libraries/main.c "$(prefix "$host")/lib/libazure_dps_c.a" "$work/libother.a" "${std[@]}" \
        -o "$work/two"
    "$work/two"
    gcc -Iinclude ../ci/c-api/two-libraries/main.c "$work/libother.a" "$(prefix "$host")/lib/libazure_dps_c.a" "${std[@]}" \
        -o "$work/two"
    "$work/two"
    rustc --edition 2024 --check-cfg 'cfg(bare_metal)' --cfg bare_metal --target thumbv7m-none-eabi -O -C panic=abort \
        --crate-type staticlib ../ci/c-api/two-libraries/other.rs -o "$work/libother-m3.a"
    arm-none-eabi-gcc "${cortex_m3[@]}" -Iinclude ../ci/c-api/two-libraries/main.c \
        -Wl,--whole-archive "$(prefix thumbv7m-none-eabi)/lib/libazure_dps_c.a" -Wl,--no-whole-archive \
        "$work/libother-m3.a" -o "$work/two-m3"
    echo "two Rust archives in one program: here, and for a Cortex-M3"

    cargo build --quiet --locked --manifest-path ../ci/c-api/two-libraries/Cargo.toml
    gcc -Iinclude ../ci/c-api/two-libraries/main.c "$CARGO_TARGET_DIR/debug/libtwo_libraries.a" "${std[@]}" -o "$work/one"
    "$work/one"
    echo "two Rust libraries in one archive, without link-time optimisation"
}

# --- floats -------------------------------------------------------------------------------

check_floats() {
    local hard=(-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard --specs=nosys.specs "-Wl,-z,noexecstack" -Iinclude)
    ./build.sh --target thumbv7em-none-eabihf >/dev/null
    ./build.sh --target thumbv7m-none-eabi >/dev/null
    arm-none-eabi-gcc "${hard[@]}" ../ci/c-api/consumer/main.c "$(prefix thumbv7em-none-eabihf)/lib/libazure_dps_c.a" -o "$work/hard"
    ! arm-none-eabi-gcc "${hard[@]}" ../ci/c-api/consumer/main.c "$(prefix thumbv7m-none-eabi)/lib/libazure_dps_c.a" \
        -o "$work/mixed" 2>"$work/log" || fail "firmware with hard floats links an archive with soft floats"
    grep -q 'VFP register arguments' "$work/log" || { cat "$work/log" >&2; fail "linking failed for another reason"; }
    echo "hard floats: the archive of thumbv7em-none-eabihf links, the linker rejects one with soft floats"
}

for part in "${parts[@]}"; do
    started=$SECONDS
    "check_$part"
    echo "($part: $((SECONDS - started)) s)"
done
