#!/bin/sh
# Run by docker-compose.yml: generates missing passwords, and gives each service its own. Containers read
# the files as different users, so they are readable to everyone with the volume.
set -eu

cd /run/passwords
for name in postgres replicator api_owner api_service redis; do
    file=all/${name}_password
    [ -s "$file" ] || head -c 24 /dev/urandom | base64 | tr '+/' '-_' > "$file"
done
cp all/api_owner_password owner
cp all/api_service_password all/redis_password service
chmod 755 all owner service
chmod 644 all/*_password owner/* service/*
