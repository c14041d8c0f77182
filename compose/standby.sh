#!/bin/sh
# Run by docker-compose.yml: copies the primary once, then follows it. To promote it:
#
#   docker-compose exec standby pg_ctl promote
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    chmod 700 "$PGDATA"
    PGPASSWORD=$(cat /run/secrets/replicator_password)
    export PGPASSWORD
    # The recovery settings that it writes contain the password, and are readable to their owner only.
    pg_basebackup --host=postgres --username=replicator --pgdata="$PGDATA" \
        --checkpoint=fast --wal-method=stream --write-recovery-conf
fi
exec postgres -c hba_file=/causeway/compose/pg_hba.conf
