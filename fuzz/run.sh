#!/usr/bin/env bash
# Runs the fuzz targets with their seeds and dictionaries, and prints a table.
#
#   fuzz/run.sh [TARGET...]            short, from the seeds: for CI
#   fuzz/run.sh --runs N [TARGET...]   N executions of each, from and into corpus/
#   fuzz/run.sh --asan [--runs N]      only c_api, with AddressSanitizer
#
# A finding ends the script, and its input is in artifacts/. FUZZ_TARGET_DIR is the folder for builds.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=20000 long='' asan=''
if [ "${1-}" = --asan ]; then
    asan=yes
    shift
fi
if [ "${1-}" = --runs ]; then
    runs=${2:?how many} long=yes
    shift 2
fi
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
targets=$(cargo fuzz list)
# shellcheck disable=SC2086 # One word a target.
[ $# -gt 0 ] || set -- $targets
for target in "$@"; do
    grep -qx "$target" <<<"$targets" || { printf 'no target %s; there are:\n%s\n' "$target" "$targets" >&2; exit 2; }
done
target_dir=${FUZZ_TARGET_DIR:-fuzz/target}
if [ "$asan" ]; then
    # The only target with unsafe code of this project. It does not need the emulator, which takes minutes to build.
    # RUSTC_BOOTSTRAP allows the sanitizer with a stable compiler.
    export FUZZ_ASAN=1 RUSTC_BOOTSTRAP=1
    set -- c_api
    options=(-s address --no-default-features --target-dir "$target_dir/asan")
    memory=4096
    cargo fuzz build "${options[@]}" c_api
else
    # c_api checks the bytes after its buffers itself.
    options=(-s none --target-dir "$target_dir")
    memory=1024
    cargo fuzz build "${options[@]}"
fi

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
rows=()
for target in "$@"; do
    if [ "$long" ]; then corpus=fuzz/corpus/$target seed=0; else corpus=$scratch/$target seed=1; fi
    mkdir -p "$corpus"
    # An input of these is many requests.
    executions=$runs
    case $long$target in control_api | service_api) executions=$((runs / 10)) ;; esac
    log=$scratch/$target.log
    started=$SECONDS
    # The limits are ten seconds for each input, and 1 GB in total.
    if ! cargo fuzz run "${options[@]}" "$target" "$corpus" "fuzz/seeds/$target" -- -runs="$executions" -seed=$seed \
        -dict="fuzz/dictionaries/$target.dict" -timeout=10 -rss_limit_mb=$memory -print_final_stats=1 >"$log" 2>&1; then
        tail -n 50 "$log"
        printf '\n%s has a finding.\n' "$target"
        exit 1
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(sed -n 's/.*DONE *cov: \([0-9]*\).*/\1/p' "$log")
    inputs=$(sed -n 's/.*DONE.* corp: \([0-9]*\).*/\1/p' "$log")
    rows+=("| \`$target\` | $executions | $((SECONDS - started)) | $edges | $inputs |")
    printf '%s\n' "${rows[-1]}"
done
printf '\n| target | executions | seconds | edges | inputs in the corpus |\n|---|---|---|---|---|\n'
printf '%s\n' "${rows[@]}"
