-- Makes the two roles of the API, and gives each what it needs and nothing else:
--
--   owner    owns the tables and changes the schema; `api migrate` logs in as it
--   service  reads and writes rows; the service that runs all day logs in as it
--
-- For psql, as a superuser, in the API's own database, before the first `api migrate`:
--
--   psql --dbname=causeway --file=api/roles.sql
--   psql --dbname=causeway --file=api/roles.sql --set=owner=hello_owner --set=service=hello_service
--
-- It can be run again at any time: it ends the same, and takes away what was granted by hand. It also
-- takes over the tables of an API that ran as a single role.
--
-- There is no password here. `\password api_owner` in psql sets one, and sends only its hash.

\set ON_ERROR_STOP on
\if :{?owner} \else \set owner api_owner \endif
\if :{?service} \else \set service api_service \endif

BEGIN;

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY[:'owner', :'service']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

-- A role that was there before is not made smaller behind its user's back.
SET LOCAL causeway.owner = :'owner';
SET LOCAL causeway.service = :'service';
DO $$
DECLARE
    owner text = current_setting('causeway.owner');
    service text = current_setting('causeway.service');
    excessive text;
BEGIN
    IF owner = service THEN
        RAISE EXCEPTION 'the owner and the service are both `%`: give them two names', owner;
    END IF;
    SELECT string_agg(format('`%s`', rolname), ', ') INTO excessive
    FROM pg_roles
    WHERE rolname IN (owner, service)
      AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
           OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid));
    IF excessive IS NOT NULL THEN
        RAISE EXCEPTION 'there is more that % may do than the API needs: name other roles', excessive;
    END IF;
END
$$;

-- The database and its schema are for these two. By default everyone may connect and make temporary
-- tables, and before PostgreSQL 15 everyone may make tables.
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC, :"owner", :"service";
GRANT CONNECT ON DATABASE :"DBNAME" TO :"owner", :"service";
ALTER SCHEMA public OWNER TO :"owner";
REVOKE ALL ON SCHEMA public FROM PUBLIC, :"service";
GRANT USAGE ON SCHEMA public TO :"service";

-- Nothing is looked up in a schema that another role may have made.
ALTER ROLE :"owner" IN DATABASE :"DBNAME" SET search_path = public;
ALTER ROLE :"service" IN DATABASE :"DBNAME" SET search_path = public;
-- The API sets times of its own at each connect. These are for other clients with the password.
ALTER ROLE :"service" IN DATABASE :"DBNAME" SET statement_timeout = '30s';
ALTER ROLE :"service" IN DATABASE :"DBNAME" SET idle_in_transaction_session_timeout = '30s';

-- The list of migrations is only for reading, so it has to be there before the rule for later tables.
SET LOCAL search_path = public;
\ir src/store/queries/schema_table.sql

-- What an earlier role made. What belongs to an extension is left alone.
SELECT format('ALTER %s OWNER TO %I', thing, :'owner')
FROM (
    SELECT oid, relowner, format('TABLE %s', oid::regclass)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    UNION ALL
    SELECT oid, proowner, format('ROUTINE %s', oid::regprocedure)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
) AS made (id, made_by, thing)
WHERE made_by <> (SELECT oid FROM pg_roles WHERE rolname = :'owner')
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = id AND deptype = 'e')
\gexec

-- Rows are read, stored and changed. None is deleted but by the schema's own functions, which have the
-- rights of their owner. Sequences of identity columns follow their tables, and need no grant.
SELECT format('REVOKE ALL ON %1$s FROM PUBLIC, %2$I; GRANT %3$s ON %1$s TO %2$I', oid::regclass,
              :'service', CASE relname WHEN 'schema_migrations' THEN 'SELECT'
                                       ELSE 'SELECT, INSERT, UPDATE' END)
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
  AND relowner = (SELECT oid FROM pg_roles WHERE rolname = :'owner')
\gexec

-- Those of `serial` columns do, which tables of earlier services have.
SELECT format('GRANT USAGE ON SEQUENCE %s TO %I', oid::regclass, :'service')
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
  AND EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'a')
\gexec

-- The same for the tables of later migrations.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE ON TABLES TO :"service";

COMMIT;
