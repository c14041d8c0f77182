#!/usr/bin/python
"""Makes services run with their present files."""

import datetime
import http.client
import os
import socket
import time
import urllib.request

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: services_current
short_description: Makes services run with their present files
description:
  - Enables and starts units, restarts those that read a file before the file's last change, and reloads those that can.
  - Handlers are lost when a run ends between a change and its handler. This module compares times instead, so the next
    run does what the last one did not.
options:
  services:
    description: Services, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      unit:
        description: Unit, such as C(prometheus.service).
        type: str
        required: true
      only_if_active:
        description: Whether an inactive unit stays as it is, neither enabled nor started, because something else starts it.
        type: bool
        default: false
      restart:
        description: Files that the process reads only when it starts. A file that does not exist is ignored.
        type: list
        elements: path
        default: []
      program:
        description: Program of the process. It counts from when a package installed it.
        type: path
      may_restart:
        description: Command that fails while a restart would interrupt work. The restart is then left to the next run.
        type: str
      reload:
        description: Files that the process reads again on a reload. A file that does not exist is ignored.
        type: list
        elements: path
        default: []
      command:
        description: Command that reloads, by default C(systemctl reload) of the unit.
        type: str
      name:
        description: Tells several commands of one unit apart, by default C(unit).
        type: str
      first_run:
        description: Service that also starts, without a wait for its end, when this unit is a timer with C(Persistent=yes) that has never run on this host.
        type: str
      listens:
        description: Addresses with ports that accept connections within 30 s, such as C(127.0.0.1:9090), or URLs that answer with 200.
        type: list
        elements: str
        default: []
author: Causeway
"""

EXAMPLES = r"""
- name: Prometheus runs with its present settings
  services_current:
    services:
      - unit: prometheus.service
        restart: [/etc/default/prometheus]
        reload: [/etc/prometheus/prometheus.yml]
        listens: ["127.0.0.1:9090"]
"""

RETURN = r"""
actions:
  description: What was done, C(start), C(restart) or C(reload), and the files that were the reason, by the name of the service.
  returned: always
  type: dict
postponed:
  description: Reasons of the restarts that are left to the next run, by the name of the service.
  returned: always
  type: dict
"""

SYSTEMCTL = "/usr/bin/systemctl"
# When each service last reloaded. A start that is newer outranks it, so the files may outlive a boot.
STAMPS = "/var/lib/causeway/services"
# Stamps of persistent timers: systemd.timer(5).
TIMER_STAMPS = "/var/lib/systemd/timers"
LISTEN_SECS = 30
RUNNING = ("active", "activating", "reloading")
AT_BOOT = ("enabled", "static", "generated", "indirect")
PROPERTIES = "LoadState,ActiveState,UnitFileState,ExecMainStartTimestamp,ActiveEnterTimestamp"


def decide(service, state, started, reloaded, changed, interrupts=lambda: ""):
    """Returns `start`, `restart`, `reload`, `postpone` or `none`, and the reasons: newer files, or the work that a restart would interrupt.

    `state` is systemd's of the unit, and the times are in seconds since 1970: when the process started, when it last
    reloaded, and when each existing file changed. `interrupts` names the work.
    """
    if state not in RUNNING:
        return ("none" if service["only_if_active"] else "start"), []
    read_at_start = [*service["restart"], service["program"]]
    newer = [path for path in read_at_start if changed.get(path, 0.0) > started]
    if newer:
        work = interrupts()
        return ("postpone", [work]) if work else ("restart", newer)
    newer = [path for path in service["reload"] if changed.get(path, 0.0) > max(started, reloaded)]
    return ("reload" if newer else "none"), newer


def started(known):
    """Returns when the main process started, by the clock of the files. A timer has no process."""
    stated = known.get("ExecMainStartTimestamp") or known.get("ActiveEnterTimestamp", "")
    try:
        return datetime.datetime.strptime(stated, "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=datetime.timezone.utc).timestamp()
    except ValueError:
        return 0.0


def modified(path):
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def changed_at(service):
    """Returns when each file changed. A package keeps a program's time of modification, so its name's time counts."""
    times = {path: modified(path) for path in [*service["restart"], *service["reload"]]}
    if service["program"] and os.path.exists(service["program"]):
        times[service["program"]] = os.stat(service["program"]).st_ctime
    return times


def has_run(timer, stamps=TIMER_STAMPS):
    """Whether a persistent timer has ever run on this host. systemd keeps its stamp from its first start."""
    return os.path.exists(os.path.join(stamps, f"stamp-{timer}"))


def answers(listener):
    """Raises an error unless a port accepts a connection, or a URL answers with 200."""
    if listener.startswith("http://"):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(listener, timeout=10) as response:
            response.read()
    else:
        host, _, port = listener.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), 2).close()


class Service:
    """A unit, and what this module does to it."""

    def __init__(self, module, options):
        self.module, self.options = module, options
        self.unit = options["unit"]
        self.name = options["name"] or self.unit
        self.stamp = os.path.join(STAMPS, self.name)

    def fail(self, why):
        self.module.fail_json(msg=f"`{self.name}` {why}: `journalctl --unit={self.unit}` on the host says more")

    def systemctl(self, *arguments, check=True):
        code, out, err = self.module.run_command([SYSTEMCTL, *arguments], environ_update={"TZ": "UTC", "LC_ALL": "C"})
        if check and code != 0:
            self.fail(f"is not as wanted, since `systemctl {' '.join(arguments)}` failed ({(err or out).strip()})")
        return out

    def properties(self):
        shown = self.systemctl("show", self.unit, "--timestamp=us+utc", f"--property={PROPERTIES}")
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def make_current(self):
        """Returns what was done, or would be in check mode, and why."""
        known = self.properties()
        if known["LoadState"] == "not-found" and not self.options["only_if_active"]:
            if self.module.check_mode:
                return "start", []
            self.systemctl("daemon-reload")
            known = self.properties()
        action, reasons = decide(self.options, known["ActiveState"], started(known), modified(self.stamp), changed_at(self.options), self.interrupts)
        enables = not self.options["only_if_active"] and known["UnitFileState"] not in AT_BOOT
        if self.module.check_mode:
            return ("enable" if enables and action == "none" else action), reasons
        if not self.options["only_if_active"] and known["LoadState"] != "loaded":
            self.module.fail_json(msg=f"`{self.unit}` is {known['LoadState']}: install its package, or run `systemctl unmask {self.unit}` on the host")
        if enables:
            self.systemctl("enable", self.unit)
        if action == "reload":
            self.reload()
        elif action not in ("none", "postpone"):
            # Also for a drop-in in a new directory, which systemd 252 does not miss.
            self.systemctl("daemon-reload")
            self.systemctl("reset-failed", self.unit, check=False)
            # Before the timer, whose start leaves the stamp: a run of this module that is killed in between repeats it.
            if self.options["first_run"] and not has_run(self.unit):
                self.systemctl("start", "--no-block", self.options["first_run"])
            self.systemctl("try-restart" if self.options["only_if_active"] else action, self.unit)
        self.check()
        return ("enable" if enables and action == "none" else action), reasons

    def interrupts(self):
        """Returns what a restart would interrupt, or an empty text."""
        if not self.options["may_restart"]:
            return ""
        code, out, err = self.module.run_command(self.options["may_restart"])
        return (out or err).strip() or self.options["may_restart"] if code != 0 else ""

    def reload(self):
        os.makedirs(STAMPS, 0o755, exist_ok=True)
        # Made before the reload: a file that is written meanwhile is newer.
        with open(self.stamp + ".new", "w", encoding="ascii"):
            pass
        code, out, err = self.module.run_command(self.options["command"] or f"{SYSTEMCTL} reload {self.unit}")
        if code != 0:
            self.fail(f"did not take its new settings ({(err or out).strip()})")
        os.replace(self.stamp + ".new", self.stamp)

    def check(self):
        """Waits for the listeners: a unit of the type `simple` counts as active before its program has read its settings."""
        if self.options["only_if_active"]:
            return
        deadline = time.monotonic() + LISTEN_SECS
        for listener in self.options["listens"]:
            while True:
                try:
                    answers(listener)
                    break
                except (OSError, http.client.HTTPException) as error:
                    last = error
                state = self.properties()["ActiveState"]
                if state in ("failed", "inactive") or time.monotonic() > deadline:
                    self.fail(f"is {state}, and {listener} does not answer ({last})")
                time.sleep(0.1)
        if self.properties()["ActiveState"] not in RUNNING:
            self.fail("does not stay active")


def main():
    paths = {"type": "list", "elements": "path", "default": []}
    module = AnsibleModule(
        argument_spec={
            "services": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "unit": {"type": "str", "required": True},
                    "only_if_active": {"type": "bool", "default": False},
                    "restart": paths,
                    "program": {"type": "path"},
                    "may_restart": {"type": "str"},
                    "reload": paths,
                    "command": {"type": "str"},
                    "name": {"type": "str"},
                    "first_run": {"type": "str"},
                    "listens": {"type": "list", "elements": "str", "default": []},
                },
            },
        },
        supports_check_mode=True,
    )
    actions, postponed = {}, {}
    for options in module.params["services"]:
        service = Service(module, options)
        action, reasons = service.make_current()
        if action == "postpone":
            postponed[service.name] = reasons[0]
        elif action != "none":
            actions[service.name] = {"action": action, "files": reasons}
    module.exit_json(changed=bool(actions), actions=actions, postponed=postponed)


if __name__ == "__main__":
    main()
