#!/bin/sh
# Run by docker-compose.yml: a cache without persistence. Its settings come from standard input, because
# arguments are visible to every user of the host.
set -eu

exec redis-server - <<END
requirepass $(cat /run/secrets/redis_password)
save ""
maxmemory 64mb
maxmemory-policy allkeys-lru
END
