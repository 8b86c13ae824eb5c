# shellcheck shell=bash
# Sourced by the scripts that run an example with its service. Each case prints a line. Counts the cases in $passed and
# $failed, and keeps the time of the slowest, in milliseconds, in $slowest. The script defines $verbose and is_leaked,
# which succeeds if the file `out` has a secret.

# shellcheck disable=SC2154 # $verbose is the script's.
passed=0 failed=0 slowest=0
# expect CODE TEXT WHAT COMMAND…: checks the command's exit code, and that its output has the text.
expect() {
    local code="$1" text="$2" what="$3" started="${EPOCHREALTIME//[.,]/}" got=0 took verdict=ok
    "${@:4}" >out 2>&1 || got=$?
    took=$(((${EPOCHREALTIME//[.,]/} - started) / 1000))
    if [ "$got" != "$code" ] || ! grep -qF -- "$text" out; then
        verdict=FAILED
    elif is_leaked; then
        verdict=LEAKED
    fi
    [ "$took" -le "$slowest" ] || slowest="$took"
    printf '%-6s %2d.%03d s  exit %d  %s\n' "$verdict" $((took / 1000)) $((took % 1000)) "$got" "$what"
    if [ "$verdict" = ok ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "       expected exit $code and: $text"
    fi
    if [ "$verdict" != ok ] || $verbose; then
        sed 's/^/       | /' out
    fi
}
