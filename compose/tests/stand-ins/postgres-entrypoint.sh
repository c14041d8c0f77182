#!/bin/sh
# The entry point of the stand-in for the PostgreSQL image: a command other than `postgres` is run as
# it is, and a server without a database makes one first.
set -eu

[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    chown postgres "$PGDATA"
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-host=scram-sha-256
    echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
    # As the official image does: nobody is let in over the network before all is there.
    pg_ctl --wait --options="$(shift; echo "$@") -c listen_addresses=" start
    createdb --username=postgres "$POSTGRES_DB"
    pg_ctl --wait --mode=fast stop
fi
exec "$@"
