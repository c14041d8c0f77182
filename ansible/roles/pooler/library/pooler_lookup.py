#!/usr/bin/python3
"""Creates the role and the function with which PgBouncer looks up its users."""

import base64
import hashlib
import hmac
import json
import os

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: pooler_lookup
short_description: Creates the role and the function with which PgBouncer looks up its users
description:
  - Creates the role C(pooler), which may log in, and a function that returns the SCRAM verifiers of some roles to C(pooler) only.
  - Runs as the superuser over the Unix socket, and does nothing on a standby, which gets both from its primary.
options:
  database:
    description: Database that clients of the pooler connect to.
    type: str
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
- name: Lookup of the users in the database `app`
  pooler_lookup:
    database: app
    password: "{{ pooler_password }}"
    users: [app]
"""

RETURN = r"""
state:
  description: State of PostgreSQL on this host, `primary`, `standby`, `unreachable` or `no-database`.
  returned: always
  type: str
statements:
  description: Names of what differed.
  returned: always
  type: list
  elements: str
"""

ITERATIONS = 4096
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


def verifier(password, salt):
    """Returns what PostgreSQL stores for a password, by RFC 5802 and RFC 7677. PostgreSQL applies SASLprep, which leaves ASCII as it is."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"


def matches(password, stored):
    """Whether a stored verifier is that of the password."""
    try:
        method, parameters, _ = stored.split("$", 2)
        iterations, salt = parameters.split(":", 1)
        if method != "SCRAM-SHA-256" or int(iterations) != ITERATIONS:
            return False
        return hmac.compare_digest(verifier(password, base64.b64decode(salt)), stored)
    except (AttributeError, ValueError):
        return False


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
    password = verifier(wanted["password"], os.urandom(16))
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


def main():
    module = AnsibleModule(
        argument_spec={
            "database": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "users": {"type": "list", "elements": "str", "required": True},
            "port": {"type": "int", "default": 5432},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    if not wanted["password"].isascii():
        module.fail_json(msg="The password of `pooler` has characters beyond ASCII: generate another one")

    def psql(sql):
        command = ["/usr/sbin/runuser", "--user", "postgres", "--", PSQL, "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
        command += ["--set=ON_ERROR_STOP=1", "--single-transaction", f"--port={wanted['port']}", f"--dbname={wanted['database']}"]
        environment = {"PGOPTIONS": "-c search_path=pg_catalog -c client_min_messages=warning", "PGHOST": "/run/postgresql", "LC_ALL": "C"}
        return module.run_command(command, data=sql, environ_update=environment, cwd="/")

    if not os.path.exists(PSQL):
        if module.check_mode:
            module.exit_json(changed=True, state="unreachable", statements=[])
        module.fail_json(msg=f"`{PSQL}` does not exist: run the role postgres first")
    code, out, err = psql(OBSERVE)
    if code != 0:
        if "does not exist" in err:
            module.warn(f"Database `{wanted['database']}` does not exist yet: create it, then run this role again, or no client of the pooler can log in")
            module.exit_json(changed=False, state="no-database", statements=[])
        if "connection to server" in err:
            module.warn("PostgreSQL does not run on this host, so the pooler's role was not compared. It comes from the primary.")
            module.exit_json(changed=False, state="unreachable", statements=[])
        module.fail_json(msg=f"PostgreSQL cannot be asked about `pooler`: {err.strip()}")
    seen = json.loads(out)
    if seen["standby"]:
        module.exit_json(changed=False, state="standby", statements=[])
    if seen["memberships"]:
        module.fail_json(msg="The role `pooler` is a member of other roles: revoke these, as a pooler needs none")
    found = statements(seen, wanted)
    if found and not module.check_mode:
        code, out, err = psql("\n".join(found.values()))
        if code != 0:
            module.fail_json(msg=f"The lookup of the pooler's users was not created in `{wanted['database']}`: {err.strip()}")
    module.exit_json(changed=bool(found), state="primary", statements=list(found))


if __name__ == "__main__":
    main()
