#!/usr/bin/env bash
# Makes the certificates that the tests of HTTPS trackers use: an authority of their own, and what
# it signed for localhost. The keys protect nothing; the authority's is thrown away.
set -euo pipefail
cd "$(dirname "$0")"

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
trap 'rm -f authority.key request.pem extensions' EXIT

key authority.key
openssl req -x509 -new -key authority.key -days 36500 -subj "/CN=btlive test authority" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
    -out authority.pem
key localhost.key.pem
openssl req -new -key localhost.key.pem -subj "/CN=localhost" -out request.pem
cat >extensions <<EOF
basicConstraints=critical,CA:FALSE
extendedKeyUsage=serverAuth
subjectAltName=DNS:localhost
EOF
openssl x509 -req -in request.pem -CA authority.pem -CAkey authority.key -days 36500 \
    -extfile extensions -out localhost.pem
