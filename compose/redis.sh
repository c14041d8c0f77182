#!/bin/sh
# Run by docker-compose.yml: a cache that keeps nothing on disk. Its settings come by standard input,
# because arguments can be seen by everyone on the host.
set -eu

exec redis-server - <<END
requirepass $(cat /run/secrets/redis_password)
save ""
maxmemory 64mb
maxmemory-policy allkeys-lru
END
