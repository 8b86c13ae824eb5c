#!/usr/bin/env bash
# Tests the page of the emulator in headless Chromium, with real registrations:
#
#   ci/clients/browser/run.sh [TEST…]             TEST such as Webhooks or Devices.test_a_twin_is_edited
#   ci/clients/browser/run.sh --screenshot FILE   makes emulator/docs/page.png
#
# Needs Chromium, its chromedriver, a font, and Python 3.11 with venv. On Debian, as root, they are installed. If they
# are missing, the test is skipped. With CI=true it fails.
#
# DPS_EMULATOR names the program. Without it, target/debug/dps-emulator is built.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../../.." && pwd)"
target="${CARGO_TARGET_DIR:-$root/target}"

skip() {
    echo "skipped: the test of the page: $1" >&2
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

# shellcheck source=../../packages
source "$root/ci/packages"
has_browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
has_python() { python3 -c 'import ensurepip, sys; assert sys.version_info >= (3, 11)'; }
want chromium has_browser
want chromium-driver command -v chromedriver
want fonts-dejavu-core has_file /usr/share/fonts/*/*/*.[ot]tf
want python3-venv has_python
(install_wanted) || true
{ has_browser && command -v chromedriver && has_python; } >/dev/null 2>&1 ||
    skip "Chromium, its chromedriver or Python 3.11 with venv is missing"

# The list is complete. --no-deps prevents the other browser driver, which the package of axe-core would install.
venv="$target/clients/browser"
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements.txt" ||
        skip "Selenium cannot be installed"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi

if [ -z "${DPS_EMULATOR:-}" ]; then
    DPS_EMULATOR="$("$root/ci/build-emulator")"
    export DPS_EMULATOR
fi

export PYTHONDONTWRITEBYTECODE=1
if [ "${1:-}" = --screenshot ]; then
    "$venv/bin/python" "$here/screenshot.py" "$2"
else
    "$venv/bin/python" "$here/test_page.py" "$@"
fi
