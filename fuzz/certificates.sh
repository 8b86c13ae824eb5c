#!/usr/bin/env bash
# Makes certificates/ again, and the seeds that contain certificates. The keys are deleted:
# the targets check that no device is admitted without them.
set -euo pipefail
cd "$(dirname "$0")"
keys=$(mktemp -d)
trap 'rm -r "$keys"' EXIT
mkdir -p certificates

# certificate NAME ISSUER EXTENSION...: a certificate for 70 years, by the issuer.
certificate() {
    local name=$1 issuer=$2 extensions
    shift 2
    extensions=$(printf '%s\n' "$@")
    openssl ecparam -name prime256v1 -genkey -noout -out "$keys/$name.key"
    openssl req -new -key "$keys/$name.key" -subj "/CN=$name" -out "$keys/$name.csr"
    if [ "$issuer" = "$name" ]; then
        openssl x509 -req -in "$keys/$name.csr" -signkey "$keys/$name.key" -days 25567 \
            -extfile <(echo "$extensions") -out "$keys/$name.pem"
    else
        openssl x509 -req -in "$keys/$name.csr" -CA "$keys/$issuer.pem" -CAkey "$keys/$issuer.key" -days 25567 \
            -extfile <(echo "$extensions") -out "$keys/$name.pem"
    fi 2>/dev/null
    openssl x509 -in "$keys/$name.pem" -outform der -out "$keys/$name.der"
}
device=(keyUsage=digitalSignature extendedKeyUsage=clientAuth)
ca=(keyUsage=keyCertSign "basicConstraints=critical,CA:TRUE")
certificate root root "${ca[@]}"
certificate intermediate root "${ca[@]}"
certificate member intermediate "${device[@]}"
certificate lone lone "${device[@]}"
certificate d root "${device[@]}"
for name in member d; do
    openssl req -in "$keys/$name.csr" -outform der | base64 -w 0 >"$keys/$name.base64"
done
cp "$keys"/{root,lone}.pem "$keys"/{member,lone}.der certificates/

seeds=seeds/emulator_registration
{
    printf 'certificates\n'
    cat "$keys/member.der" "$keys/intermediate.der"
    printf '\n--\nregister member certificates\n{"csr":"%s"}\n--\nstatus member certificates\n' "$(<"$keys/member.base64")"
} >$seeds/member-csr
{
    printf 'certificates\n'
    cat "$keys/lone.der"
    printf '\n--\nregister lone certificates\n\n--\nstatus lone certificates\n\n--\nlook-up lone certificates\n'
} >$seeds/lone-certificate
printf 'register d token\n{"csr":"%s"}\n--\nstatus d token\n--\nlook-up d token\n' "$(<"$keys/d.base64")" >$seeds/csr
