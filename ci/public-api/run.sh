#!/usr/bin/env bash
# Compares the public API of azure-dps, with all features, with docs/evidence/public-api.txt. So a review shows every
# change of the API.
#
#   ci/public-api/run.sh           fails and prints the difference, if there is one
#   ci/public-api/run.sh --bless   writes the file
#
# The JSON of rustdoc is not stable yet. A compiler much newer or older than 1.95 may need another version of the crate
# `public-api`.
set -euo pipefail
case "${1:-}" in
    "" | --bless) ;;
    *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
cd "$(dirname "$0")"
target="$(realpath -m "${CARGO_TARGET_DIR:-../../target}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# Only rustdoc gets RUSTC_BOOTSTRAP. In the environment of build scripts it would make cargo compile dependencies again.
printf '#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@"\n' >"$work/rustdoc"
chmod +x "$work/rustdoc"
(cd ../.. && RUSTDOC="$work/rustdoc" cargo rustdoc --quiet -p azure-dps --lib --all-features --target-dir "$target" \
    -- -Z unstable-options --output-format json)
actual="$(cargo run --quiet --target-dir "$target/public-api" -- "$target/doc/azure_dps.json")"
if [ "${1:-}" = --bless ]; then
    echo "$actual" >../../docs/evidence/public-api.txt
elif ! diff -u --label docs/evidence/public-api.txt ../../docs/evidence/public-api.txt --label "the API" - <<<"$actual"; then
    echo "the public API has changed: ci/public-api/run.sh --bless" >&2
    exit 1
else
    echo "the public API equals docs/evidence/public-api.txt: $(wc -l <../../docs/evidence/public-api.txt) lines"
fi
