-- Rights of the exporter's role `monitoring` beyond pg_monitor, and the extension, which `queries.yml` needs. For psql, as a superuser, in each
-- database that clients use and in `postgres`. It can be run again at any time.

-- Until PostgreSQL 16, pg_read_all_settings does not include these.
GRANT SELECT ON pg_catalog.pg_file_settings TO monitoring;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_all_file_settings() TO monitoring;

-- The exporter connects to each database, and reads how far sequences are used.
SELECT pg_catalog.format('GRANT CONNECT ON DATABASE %I TO monitoring', pg_catalog.current_database())
\gexec
SELECT pg_catalog.format('GRANT USAGE ON SCHEMA %I TO monitoring', nspname)
FROM pg_catalog.pg_namespace
WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
\gexec
SELECT pg_catalog.format('GRANT SELECT ON SEQUENCE %I.%I TO monitoring', schemaname, sequencename)
FROM pg_catalog.pg_sequences
\gexec
-- Sequences that the owner of a schema makes later. `pg_database_owner`, which owns `public`, stands for the database's owner.
SELECT pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON SEQUENCES TO monitoring', pg_catalog.pg_get_userbyid(CASE WHEN nspowner = 'pg_database_owner'::pg_catalog.regrole THEN datdba ELSE nspowner END), nspname)
FROM pg_catalog.pg_namespace JOIN pg_catalog.pg_database ON datname = pg_catalog.current_database()
WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
\gexec

-- The exporter reads the statements of all databases from `postgres`.
SELECT 'CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public' WHERE pg_catalog.current_database() = 'postgres'
\gexec
