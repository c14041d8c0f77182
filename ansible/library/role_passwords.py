#!/usr/bin/python
"""Sets passwords of database roles, without sending a password to PostgreSQL."""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.causeway_scram import matches, verifier

DOCUMENTATION = r"""
module: role_passwords
short_description: Sets passwords of database roles, without sending a password to PostgreSQL
description:
  - Compares each password with the SCRAM verifier that PostgreSQL has, and sends a new verifier where they differ.
  - C(community.postgresql.postgresql_user) sends C(ALTER USER ... PASSWORD) with the password as text. PostgreSQL logs
    that statement if the statement fails or takes longer than C(log_min_duration_statement), as one that waits for a
    synchronous standby does.
  - Runs as the superuser over the Unix socket, on the primary.
options:
  passwords:
    description: Passwords by the names of existing roles.
    type: dict
    required: true
  port:
    description: Port of PostgreSQL.
    type: int
    default: 5432
  socket_directory:
    description: Directory of PostgreSQL's Unix socket.
    type: path
    default: /run/postgresql
author: Causeway
"""

EXAMPLES = r"""
- name: Passwords of the roles
  role_passwords:
    passwords: { replicator: "{{ causeway_secrets.replicator }}" }
"""

RETURN = r"""
roles:
  description: Roles whose password differed.
  returned: always
  type: list
  elements: str
"""

OBSERVE = "SELECT pg_catalog.json_object_agg(rolname, rolpassword) FROM pg_catalog.pg_authid WHERE rolcanlogin"


def identifier(name):
    return '"' + name.replace('"', '""') + '"'


def main():
    module = AnsibleModule(
        argument_spec={
            "passwords": {"type": "dict", "required": True, "no_log": True},
            "port": {"type": "int", "default": 5432},
            "socket_directory": {"type": "path", "default": "/run/postgresql"},
        },
        supports_check_mode=True,
    )
    wanted = module.params["passwords"]
    for name, password in wanted.items():
        if not isinstance(password, str) or not password:
            module.fail_json(msg=f"The password of `{name}` is empty: check its lookup")
        # PostgreSQL applies SASLprep, which leaves ASCII as it is.
        if not password.isascii() or not password.isprintable():
            module.fail_json(msg=f"The password of `{name}` has characters other than printable ASCII: generate another one")

    def psql(sql):
        command = ["/usr/sbin/runuser", "--user", "postgres", "--", "/usr/bin/psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
        command += ["--set=ON_ERROR_STOP=1", "--single-transaction", f"--port={module.params['port']}", "--dbname=postgres"]
        environment = {"PGOPTIONS": "-c search_path=pg_catalog -c log_min_duration_statement=-1 -c log_min_error_statement=panic -c log_statement=none", "PGHOST": module.params["socket_directory"], "LC_ALL": "C"}
        code, out, err = module.run_command(command, data=sql, environ_update=environment, cwd="/")
        if code != 0:
            module.fail_json(msg=f"Passwords were not set: {err.strip()}")
        return out

    if module.check_mode and not os.path.exists("/usr/bin/psql"):
        module.exit_json(changed=True, roles=sorted(wanted))
    stored = json.loads(psql(OBSERVE) or "{}")
    missing = sorted(name for name in wanted if name not in stored)
    if missing and not module.check_mode:
        module.fail_json(msg=f"The roles `{'`, `'.join(missing)}` do not exist: create them first")
    differing = sorted(name for name, password in wanted.items() if not matches(password, stored.get(name)))
    if differing and not module.check_mode:
        psql("\n".join(f"ALTER ROLE {identifier(name)} PASSWORD '{verifier(wanted[name])}';" for name in differing))
    module.exit_json(changed=bool(differing), roles=differing)


if __name__ == "__main__":
    main()
