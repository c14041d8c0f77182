#!/usr/bin/python
"""Makes running services read files that changed after they had read them."""

import datetime
import os
import subprocess

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: services_current
short_description: Makes running services read changed files
description:
  - Runs a service's command if one of its files is newer than its start and than the last run of the command. Unlike a
    handler, this does what an earlier run was interrupted before.
  - A service that does not run is left alone. It reads its files when it starts.
options:
  services:
    description: Services, in this order. C(unit), C(files), and C(command), by default C(systemctl try-restart) of the unit.
      C(name) tells several commands of one unit apart. C(program) is a file that counts
      from when a package installed it.
    type: list
    elements: dict
    required: true
author: Causeway
"""

EXAMPLES = r"""
- name: The agent has its present settings
  services_current:
    services:
      - unit: failover-ctl-agent.service
        files: [/etc/causeway/failover-ctl.toml]
"""

RETURN = r"""
units:
  description: Names of the services that read their files again.
  returned: always
  type: list
  elements: str
"""

STAMPS = "/var/lib/causeway/services"


def properties(unit):
    """Returns properties of a unit."""
    wanted = "ActiveState,ExecMainStartTimestamp,ActiveEnterTimestamp"
    command = ["systemctl", "show", "--timestamp=us+utc", f"--property={wanted}", unit]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC", "LC_ALL": "C"})
    return dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)


def started(known):
    """Returns when the main process started, by the clock of the files. A timer has no process."""
    stated = known.get("ExecMainStartTimestamp") or known.get("ActiveEnterTimestamp", "")
    try:
        return datetime.datetime.strptime(stated, "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=datetime.timezone.utc).timestamp()
    except ValueError:
        return 0.0


def installed(path):
    """Returns when a program got its name. A package keeps the time of modification of its build."""
    try:
        return os.stat(path).st_ctime if path else 0.0
    except OSError:
        return 0.0


def modified(path):
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def main():
    module = AnsibleModule(
        argument_spec={
            "services": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "unit": {"type": "str", "required": True},
                    "name": {"type": "str"},
                    "files": {"type": "list", "elements": "path", "required": True},
                    "command": {"type": "str"},
                    "program": {"type": "path"},
                },
            },
        },
        supports_check_mode=True,
    )
    units = []
    for service in module.params["services"]:
        unit = service["unit"]
        known = properties(unit)
        if known.get("ActiveState") not in ("active", "activating", "reloading"):
            continue
        stamp = os.path.join(STAMPS, service["name"] or unit)
        newest = max((modified(path) for path in service["files"]), default=0.0)
        newest = max(newest, installed(service["program"]))
        if newest <= max(started(known), modified(stamp)):
            continue
        units.append(service["name"] or unit)
        if module.check_mode:
            continue
        # A file that is written meanwhile is newer than this.
        os.makedirs(STAMPS, 0o755, exist_ok=True)
        with open(stamp + ".new", "w", encoding="ascii"):
            pass
        # systemd 252 does not see that it lacks a drop-in in a new directory.
        module.run_command(["systemctl", "daemon-reload"], check_rc=True)
        code, out, err = module.run_command(service["command"] or f"systemctl try-restart {unit}")
        if code != 0:
            module.fail_json(msg=f"`{service['name'] or unit}` did not take its new settings: {(err or out).strip()}. `journalctl --unit={unit}` says more", units=units)
        os.replace(stamp + ".new", stamp)
    module.exit_json(changed=bool(units), units=units)


if __name__ == "__main__":
    main()
