#!/bin/sh
# Makes the passwords that docker-compose.yml needs, each in a file of the directory given, and leaves
# those that are there alone.
set -eu

directory=$1
mkdir -p "$directory"
# Containers read the files as users of their own; on this machine nobody else gets as far as them.
chmod 700 "$directory"
for name in postgres replicator api_owner api_service redis; do
    file=$directory/${name}_password
    [ -s "$file" ] || head -c 24 /dev/urandom | base64 | tr '+/' '-_' > "$file"
    chmod 644 "$file"
done
