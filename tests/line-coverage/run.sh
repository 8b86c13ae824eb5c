#!/usr/bin/env bash
# Measures which lines of the library the tests and the fuzz targets run, and lists those that none
# of them does. Fails below 95 %.
#
#   tests/line-coverage/run.sh
#
# The fuzz targets run their seeds and, if there is one, the corpus in fuzz/corpus/. Documentation
# tests run too, but are not counted.
#
# Needs cargo-llvm-cov, cargo-fuzz (`cargo install`), and LLVM's tools in the version of rustc's:
# `rustup component add llvm-tools`, or, as on Debian, LLVM_COV and LLVM_PROFDATA that name them.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target/line-coverage}"
. <(cargo llvm-cov show-env --sh 2>/dev/null)
cargo llvm-cov clean --workspace
# Tests run these.
cargo build --quiet --examples --bins --workspace
cargo test --quiet --package azure-dps >/dev/null

# Where the report looks for programs.
fuzz_target_dir="$CARGO_TARGET_DIR/debug/fuzz"
cargo fuzz build -s none --target-dir "$fuzz_target_dir" 2>/dev/null
for target in http_response json mqtt_message record registration_result; do
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run -s none --target-dir "$fuzz_target_dir" "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -runs=0 2>/dev/null
done

cargo llvm-cov report --show-missing-lines --fail-under-lines 95 \
    --ignore-filename-regex '/(emulator|examples|tests|fuzz)/' 2>/dev/null
