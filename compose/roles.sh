#!/bin/sh
# Run by docker-compose.yml: creates or corrects the roles, and sets their passwords from the secrets.
# No password is a command argument.
set -eu

PGPASSWORD=$(cat /run/secrets/postgres_password)
export PGPASSWORD PGUSER=postgres

psql --no-psqlrc --quiet --file=/causeway/api/roles.sql
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=on <<'END'
SELECT 'CREATE ROLE replicator LOGIN REPLICATION'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'replicator') \gexec

\set password `cat /run/secrets/api_owner_password`
ALTER ROLE api_owner PASSWORD :'password';
\set password `cat /run/secrets/api_service_password`
ALTER ROLE api_service PASSWORD :'password';
\set password `cat /run/secrets/replicator_password`
ALTER ROLE replicator PASSWORD :'password';
END
