#!/usr/bin/python3
"""Creates the role and the function with which PgBouncer looks up its users."""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.causeway_scram import matches, verifier

DOCUMENTATION = r"""
module: pooler_lookup
short_description: Creates the role and the function with which PgBouncer looks up its users
description:
  - Creates the role C(pooler), which may log in, and a function that returns the SCRAM verifiers of some roles to C(pooler) only.
  - Runs as the superuser over the Unix socket, and does nothing on a standby, which gets both from its primary.
options:
  databases:
    description: Databases that clients of the pooler connect to.
    type: list
    elements: str
    required: true
  password:
    description: Password of the role C(pooler).
    type: str
    required: true
  users:
    description: Roles whose verifiers the function returns.
    type: list
    elements: str
    required: true
  port:
    description: Port of PostgreSQL.
    type: int
    default: 5432
author: Causeway
"""

EXAMPLES = r"""
- name: Lookup of the users in each database
  pooler_lookup:
    databases: [app]
    password: "{{ pooler_password }}"
    users: [app]
"""

RETURN = r"""
state:
  description: State of PostgreSQL on this host by database, `primary`, `standby`, `unreachable` or `no-database`.
  returned: always
  type: dict
statements:
  description: What differed, as database and name.
  returned: always
  type: list
  elements: str
"""

PSQL = "/usr/bin/psql"

OBSERVE = """
SELECT pg_catalog.json_build_object(
  'standby', pg_catalog.pg_is_in_recovery(),
  'verifier', (SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = 'pooler'),
  'role', (SELECT rolcanlogin AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls OR rolinherit)
           FROM pg_catalog.pg_authid WHERE rolname = 'pooler'),
  'memberships', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member WHERE r.rolname = 'pooler'),
  'connect', (SELECT pg_catalog.has_database_privilege(oid, pg_catalog.current_database(), 'CONNECT') FROM pg_catalog.pg_roles WHERE rolname = 'pooler'),
  'schema', (SELECT nspacl::pg_catalog.text FROM pg_catalog.pg_namespace WHERE nspname = 'pooler' AND nspowner = 10),
  'function', (SELECT p.prosrc FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
               WHERE n.nspname = 'pooler' AND p.proname = 'user_lookup' AND p.prosecdef AND p.proowner = 10
                 AND p.proconfig = ARRAY['search_path=pg_catalog']),
  'grants', (SELECT p.proacl::pg_catalog.text FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname = 'pooler' AND p.proname = 'user_lookup'));
"""


def literal(text):
    """Quotes a text for SQL with standard_conforming_strings."""
    return "'" + text.replace("'", "''") + "'"


def body(users):
    """Returns the source of the function. Roles that are more than a client are left out, whatever the list has."""
    names = ", ".join(literal(name) for name in sorted(set(users)))
    return (
        "\n  SELECT rolname, rolpassword FROM pg_authid\n"
        f"  WHERE rolname = role_name AND rolname = ANY (ARRAY[{names}])\n"
        "    AND rolcanlogin AND NOT rolsuper AND NOT rolreplication AND NOT rolbypassrls\n"
        "    AND (rolvaliduntil IS NULL OR rolvaliduntil > now())\n"
    )


def statements(seen, wanted):
    """Returns the SQL that is missing, by a name for each."""
    found = {}
    password = verifier(wanted["password"])
    if seen["role"] is None:
        found["role"] = f"CREATE ROLE pooler LOGIN NOINHERIT PASSWORD {literal(password)};"
    else:
        if not seen["role"]:
            found["role"] = "ALTER ROLE pooler LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS NOINHERIT;"
        if not matches(wanted["password"], seen["verifier"]):
            found["password"] = f"ALTER ROLE pooler PASSWORD {literal(password)};"
    if not seen["connect"]:
        found["connect"] = "SELECT pg_catalog.format('GRANT CONNECT ON DATABASE %I TO pooler', pg_catalog.current_database()) \\gexec"
    if seen["schema"] != "{postgres=UC/postgres,pooler=U/postgres}":
        found["schema"] = """
            CREATE SCHEMA IF NOT EXISTS pooler;
            ALTER SCHEMA pooler OWNER TO postgres;
            REVOKE ALL ON SCHEMA pooler FROM PUBLIC, pooler;
            GRANT USAGE ON SCHEMA pooler TO pooler;"""
    source = body(wanted["users"])
    if seen["function"] != source:
        found["function"] = f"""
            DROP FUNCTION IF EXISTS pooler.user_lookup(text);
            CREATE FUNCTION pooler.user_lookup(role_name text) RETURNS TABLE (username name, secret text)
              LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS {literal(source)};"""
    if "function" in found or seen["grants"] != "{postgres=X/postgres,pooler=X/postgres}":
        found["grants"] = """
            REVOKE ALL ON FUNCTION pooler.user_lookup(text) FROM PUBLIC, pooler;
            GRANT EXECUTE ON FUNCTION pooler.user_lookup(text) TO pooler;"""
    return found


class Lookup:
    """Creates the role and the function, in one database after the other."""

    def __init__(self, module):
        self.module = module
        self.done = []

    def psql(self, database, sql):
        command = ["/usr/sbin/runuser", "--user", "postgres", "--", PSQL, "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
        command += ["--set=ON_ERROR_STOP=1", "--single-transaction", f"--port={self.module.params['port']}", f"--dbname={database}"]
        environment = {"PGOPTIONS": "-c search_path=pg_catalog -c client_min_messages=warning", "PGHOST": "/run/postgresql", "LC_ALL": "C"}
        return self.module.run_command(command, data=sql, environ_update=environment, cwd="/")

    def create(self, database):
        """Returns the state of PostgreSQL, after creating what is missing."""
        code, out, err = self.psql(database, OBSERVE)
        if code != 0 and "does not exist" in err:
            self.module.warn(f"Database `{database}` does not exist yet: create it and run this role again, or no client of the pooler can log in")
            return "no-database"
        if code != 0 and "connection to server" in err:
            self.module.warn("PostgreSQL does not run on this host, so the pooler's role was not compared. The role comes from the primary.")
            return "unreachable"
        if code != 0:
            self.module.fail_json(msg=f"PostgreSQL cannot be asked about `pooler`: {err.strip()}")
        seen = json.loads(out)
        if seen["standby"]:
            return "standby"
        if seen["memberships"]:
            self.module.fail_json(msg="The role `pooler` is a member of other roles: revoke these, as a pooler needs none")
        found = statements(seen, self.module.params)
        if found and not self.module.check_mode:
            code, _, err = self.psql(database, "\n".join(found.values()))
            if code != 0:
                self.module.fail_json(msg=f"The lookup of the pooler's users was not created in `{database}`: {err.strip()}")
        self.done += [f"{database} {name}" for name in found]
        return "primary"


def main():
    module = AnsibleModule(
        argument_spec={
            "databases": {"type": "list", "elements": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "users": {"type": "list", "elements": "str", "required": True},
            "port": {"type": "int", "default": 5432},
        },
        supports_check_mode=True,
    )
    if not module.params["password"].isascii():
        module.fail_json(msg="The password of `pooler` has characters beyond ASCII: generate another one")
    if not os.path.exists(PSQL):
        if module.check_mode:
            module.exit_json(changed=True, state={}, statements=[])
        module.fail_json(msg=f"`{PSQL}` does not exist: run the role postgres first")
    lookup = Lookup(module)
    state = {database: lookup.create(database) for database in module.params["databases"]}
    module.exit_json(changed=bool(lookup.done), state=state, statements=lookup.done)


if __name__ == "__main__":
    main()
