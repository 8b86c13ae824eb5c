#!/usr/bin/env bash
# Builds the C library with all features, and runs its tests: plainly, under valgrind, and with AddressSanitizer and
# UndefinedBehaviorSanitizer. Checks that the tests call every function of the header, and that they compile as C++.
#
#   c/tests/run.sh                 # all tests. The last line says "N passed, N failed"
#   c/tests/run.sh keys http       # only these sections
#
# CC, CXX, CARGO_TARGET_DIR are as usual. The library and the programs stay in c/target/tests, or $CARGO_TARGET_DIR/tests.
set -euo pipefail
cd "$(dirname "$0")/../.."

# shellcheck source=../../ci/packages
source ci/packages
want gcc gcc --version
want g++ g++ --version
want libc6-dev test -e /usr/include/stdio.h
want valgrind valgrind --version
install_wanted

all=no
mapfile -t programs < <(cd c/tests && printf '%s\n' *.c | sed 's/\.c$//' | grep -vxE 'check|support')
for section; do
    [[ " ${programs[*]} " = *" $section "* ]] || { sed -n '2,/^[^#]/s/^# \{0,1\}//p' c/tests/run.sh >&2; exit 2; }
done
if [ $# -gt 0 ]; then programs=("$@"); else all=yes; fi
export dir="${CARGO_TARGET_DIR:-$PWD/c/target}/tests"
mkdir -p "$dir"/{plain,sanitized,valgrind}
c/build.sh --prefix "$dir/prefix"

# --- Build ----------------------------------------------------------------------------------

# compile KIND FILE...: each of them, or ends the script.
compile() {
    local flags=(-std=c99 -g -Wall -Wextra -Wpedantic -Wconversion -Wstrict-prototypes -Wvla -Werror)
    case "$1" in
        plain) flags+=(-O1) ;;
        sanitized) flags+=(-O1 -fno-omit-frame-pointer "-fsanitize=address,undefined" -fno-sanitize-recover=all) ;;
    esac
    local file
    for file in "${@:2}"; do
        "${CC:-gcc}" "${flags[@]}" -I "$dir/prefix/include" -c "c/tests/$file.c" -o "$dir/$1/$file.o"
        case "$file" in check | support) continue ;; esac
        "${CC:-gcc}" "${flags[@]}" "$dir/$1/"{"$file",check,support}.o "$dir/prefix/lib/libazure_dps_c.a" -o "$dir/$1/$file"
    done
}
jobs=()
for kind in plain sanitized; do
    compile "$kind" check support "${programs[@]}" &
    jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done
"${CXX:-g++}" -x c++ -std=c++11 -Wall -Wextra -Wpedantic -Wconversion -Werror -I "$dir/prefix/include" \
    -c c/tests/keys.c -o "$dir/keys-as-c++.o"
"${CXX:-g++}" "$dir/keys-as-c++.o" "$dir/plain/"{check,support}.o "$dir/prefix/lib/libazure_dps_c.a" -o "$dir/plain/keys-as-c++"

# --- Every function is called -----------------------------------------------------------------

if [ "$all" = yes ]; then
    comm -23 <(sed 's://.*::' c/include/azure_dps.h | grep -v '^ \*\|^/\*\|inline' |
        grep -oE '\bazure_dps_[a-z0-9_]+\(' | tr -d '(' | sort -u) \
        <(nm --undefined-only "$dir"/plain/*.o | grep -oE '\bazure_dps_[a-z0-9_]+$' | sort -u) >"$dir/not-called"
    if [ -s "$dir/not-called" ]; then
        sed 's/^/no test calls /' "$dir/not-called"
        exit 1
    fi
fi

# --- Run --------------------------------------------------------------------------------------

# run KIND PROGRAM...: prints a line for each, and what went wrong.
run() {
    local program status command
    for program in "${@:2}"; do
        command=("$dir/${1/valgrind/plain}/$program" tests/vectors)
        [ "$1" != valgrind ] || command=(valgrind --quiet --error-exitcode=9 --leak-check=full \
            --errors-for-leak-kinds=all --show-leak-kinds=all --track-origins=no "${command[@]}")
        status=0
        "${command[@]}" >"$dir/$1/$program.log" 2>&1 || status=$?
        printf '%-10s %-20s %s\n' "$1" "$program" "$(tail -n 1 "$dir/$1/$program.log")"
        [ "$status" = 0 ] || { cat "$dir/$1/$program.log"; echo "$1 $program: exit $status"; }
        printf '%s\n' "$status" >"$dir/$1/$program.status"
    done
}
rm -f "$dir"/*/*.status
if [ "$all" = yes ] || [ "${programs[0]}" = keys ]; then run plain keys-as-c++; fi
run valgrind "${programs[@]}" &
run plain "${programs[@]}"
ASAN_OPTIONS=detect_stack_use_after_return=1 run sanitized "${programs[@]}"
wait
passed=$(cat "$dir"/*/*.status | grep -cx 0 || true)
failed=$(cat "$dir"/*/*.status | grep -cvx 0 || true)
printf '%s programs of the C tests (plain, valgrind, sanitizers): %s passed, %s failed\n' $((passed + failed)) "$passed" "$failed"
[ "$failed" = 0 ]
