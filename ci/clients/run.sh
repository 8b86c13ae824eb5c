#!/usr/bin/env bash
# Runs Microsoft's own clients, unmodified, against the emulator:
#
#   cargo build -p azure-dps-emulator && ci/clients/run.sh [service] [device] [hub] [schemathesis]
#
#   service       the service SDKs create enrollments, device SDKs provision through them
#   device        the device SDKs provision the devices of the tutorial
#   hub           the device SDKs provision devices and connect them to their hubs; so do MQTT clients without an SDK
#   schemathesis  Schemathesis tests the control API against docs/control-api.json
#
# Without an argument all of them run. DPS_EMULATOR_BIN names the folder of the programs (target/debug).
#
# Some clients use only the ports 443 and 8883. In a network namespace, these ports are free, without root and without a
# change of the machine. The namespace also has its own hosts file, with the names of the hubs. If a user may not create
# a namespace, `service`, `device` and `hub` are skipped. With CI=true they fail.
#
# The clients are installed into target/clients, once for each list of versions.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
cache="${CARGO_TARGET_DIR:-$root/target}/clients"
bin="${DPS_EMULATOR_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug}"

# --- The clients ----------------------------------------------------------------------------

# python_client NAME: creates a virtual environment with the packages in NAME.txt.
python_client() {
    local wanted="$here/python/$1.txt" venv="$cache/$1"
    cmp -s "$wanted" "$venv/installed.txt" && return
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$venv/installed.txt"
}

# node_clients: creates a node_modules with the packages in node/package-lock.json.
node_clients() {
    local wanted="$here/node/package-lock.json" modules="$cache/node"
    cmp -s "$wanted" "$modules/installed.json" && return
    rm -rf "$modules"
    mkdir -p "$modules"
    cp "$here/node/package.json" "$wanted" "$modules"
    (cd "$modules" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cp "$wanted" "$modules/installed.json"
}

# --- The emulator ---------------------------------------------------------------------------

work="$(mktemp -d)"
started=()
stop() {
    [ ${#started[@]} -eq 0 ] || kill "${started[@]}" 2>/dev/null || true
    wait
    started=()
}
trap 'stop; rm -rf "$work"' EXIT

# start WORD PROGRAM [ARGUMENT…]: starts the program, and waits until its output, $work/PROGRAM.out, contains the word.
start() {
    local word="$1" program="$2" out="$work/$2.out"
    "$bin/$program" "${@:3}" >"$out" 2>&1 &
    started+=($!)
    for _ in $(seq 200); do
        ! grep -q "$word" "$out" || return 0
        kill -0 "${started[-1]}" 2>/dev/null || break
        sleep 0.05
    done
    echo "$program did not start:" >&2
    cat "$out" >&2
    exit 1
}

# with_emulator CONFIG… -- COMMAND…: runs a command with a new emulator, which uses the ports of the service.
with_emulator() {
    local config=()
    while [ "$1" != -- ]; do config+=("$1"); shift; done
    shift
    start connectionString dps-emulator "${config[@]}" --https 127.0.0.1:443 --mqtts 127.0.0.1:8883 \
        --ca-out "$work/ca.pem" --json
    DPS_CONNECTION_STRING="$(sed -n 's/.*"connectionString":"\([^"]*\)".*/\1/p' "$work/dps-emulator.out")"
    DPS_CONTROL="$(sed -n 's/.*"listener":"control","url":"\([^"]*\)".*/\1/p' "$work/dps-emulator.out")"
    DPS_PID="${started[-1]}"
    export DPS_CONNECTION_STRING DPS_CONTROL DPS_PID NODE_EXTRA_CA_CERTS="$work/ca.pem" REQUESTS_CA_BUNDLE="$work/ca.pem"
    "$@" || { grep -v '"listener"' "$work/dps-emulator.out" | tail -n 20 >&2; exit 1; }
    stop
}

# certificates: creates a device certificate, and a CA with a device certificate that it signed.
certificates() {
    (
        cd "$work"
        new=(openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
        "${new[@]}" -x509 -subj /CN=front-door-lock -addext extendedKeyUsage=clientAuth \
            -keyout front-door-lock.key -out front-door-lock.pem
        "${new[@]}" -x509 -subj '/CN=Factory CA' -keyout factory-ca.key -out factory-ca.pem
        "${new[@]}" -subj /CN=back-door-lock -keyout back-door-lock.key -out back-door-lock.csr
        openssl x509 -req -in back-door-lock.csr -CA factory-ca.pem -CAkey factory-ca.key -CAcreateserial \
            -extfile <(echo extendedKeyUsage=clientAuth) -out back-door-lock.pem
    ) 2>/dev/null
    export DPS_CERTIFICATES="$work" DPS_WORK="$work"
}

# --- A sequence, in its namespace -----------------------------------------------------------

node() { NODE_PATH="$cache/node/node_modules" command node "$here/node/$1" "${@:2}"; }
python() { "$cache/clients/bin/python" -B "$here/python/$1" "${@:2}"; }
shell() { "$here/$1"; }

# hosts: the names of the hubs resolve to this machine, only in this namespace.
hosts() {
    { cat /etc/hosts; "$bin/dps-emulator" "$@" --hosts; } >"$work/hosts"
    mount --bind "$work/hosts" /etc/hosts
}

# sequence STEP CLIENT FILE [ARGUMENT…]: starts an emulator. For `service`, it has a webhook but no enrollments.
sequence() {
    ip link set lo up
    case "$1" in
    device)
        with_emulator --retry-after 1 -- "${@:2}"
        ;;
    hub)
        local config=(--config "$here/hub.toml" --gateway-name gw.local)
        certificates
        hosts "${config[@]}"
        with_emulator "${config[@]}" --data "$work/data" --control 127.0.0.1:8085 -- "${@:2}"
        ;;
    service)
        certificates
        CONTOSO_FUNCTION_KEY=secret start listening contoso-webhook
        DPS_WEBHOOK="$(sed -n 's/listening on //p' "$work/contoso-webhook.out")?code=secret"
        export DPS_WEBHOOK
        with_emulator --config "$here/dps.toml" -- "${@:2}"
        ;;
    esac
}

# --- Which steps ----------------------------------------------------------------------------

# namespaced STEP 'CLIENT FILE [ARGUMENT…]'…: runs the sequences of a step at the same time, each in its own namespace.
namespaced() {
    local step="$1" sequence failed=0 namespace=(unshare --net --mount) words
    shift
    [ "$(id -u)" = 0 ] || namespace+=(--user --map-root-user)
    if ! "${namespace[@]}" true 2>/dev/null; then
        echo "$step: skipped: this user cannot create a network namespace"
        [ "${CI:-}" != true ]
        return
    fi
    local running=()
    for sequence in "$@"; do
        read -ra words <<<"$sequence"
        timeout 120 "${namespace[@]}" bash "$0" --sequence "$step" "${words[@]}" >"$work/$sequence" 2>&1 &
        running+=($!)
    done
    for sequence in "$@"; do
        wait "${running[0]}" || { echo "$step: $sequence failed"; failed=1; }
        running=("${running[@]:1}")
        cat "$work/$sequence"
    done
    return "$failed"
}

if [ "${1:-}" = --sequence ]; then
    sequence "${@:2}"
    exit
fi

[ $# -gt 0 ] || set -- service device hub schemathesis
(
    # shellcheck source=../packages
    source "$root/ci/packages"
    want iproute2 command -v ip
    want openssl command -v openssl
    want mosquitto-clients command -v mosquitto_pub
    want xxd command -v xxd
    want curl command -v curl
    want nodejs command -v node
    want npm command -v npm
    want python3-venv python3 -c 'import ensurepip, venv'
    install_wanted
)
for step in "$@"; do
    case "$step" in
    service)
        python_client clients
        node_clients
        namespaced service 'node service.js' 'python service.py' 'python service_2018.py' 'python az_requests.py'
        ;;
    device)
        python_client clients
        node_clients
        namespaced device 'node provision.js' 'python provision.py'
        ;;
    hub)
        python_client clients
        node_clients
        namespaced hub 'node hub.js mqtt' 'node hub.js ws' 'python hub.py mqtt' 'python hub.py ws' 'python mqtt.py' 'shell mosquitto.sh'
        ;;
    schemathesis)
        python_client schemathesis
        "$here/schemathesis.sh" "$bin/dps-emulator" "$cache/schemathesis/bin/schemathesis"
        ;;
    *)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
    esac
done
