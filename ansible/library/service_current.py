#!/usr/bin/python
"""Keeps a service running with the files that it has now."""

import datetime
import http.client
import os
import socket
import time
import urllib.request

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: service_current
short_description: Keeps a service running with its present files
description:
  - Enables and starts a unit, and restarts or reloads the unit when a file is newer than what the process has read.
  - Handlers are lost when a run ends between a change and its handler. This module compares times instead, so the next
    run restarts or reloads what the last one did not.
options:
  name:
    description: Unit, such as C(prometheus.service).
    type: str
    required: true
  restart:
    description: Files that the process reads only when it starts. A file that does not exist is ignored.
    type: list
    elements: path
    default: []
  reload:
    description: Files that the process reads again on a reload. A file that does not exist is ignored.
    type: list
    elements: path
    default: []
  only_if_active:
    description: Whether an inactive unit stays as it is, neither enabled nor started, because another unit starts it.
    type: bool
    default: false
  listens:
    description: Addresses with ports that accept connections within 30 s, such as C(127.0.0.1:9090), or URLs that answer with 200.
    type: list
    elements: str
    default: []
author: Causeway
"""

EXAMPLES = r"""
- name: Prometheus runs with its present settings
  service_current:
    name: prometheus.service
    restart: [/etc/default/prometheus]
    reload: [/etc/prometheus/prometheus.yml]
    listens: ["127.0.0.1:9090"]
"""

RETURN = r"""
action:
  description: What was done, `none`, `start`, `restart` or `reload`.
  returned: always
  type: str
newer:
  description: Files that the process had not read.
  returned: always
  type: list
  elements: str
"""

SYSTEMCTL = "/usr/bin/systemctl"
# Emptied at boot, as every process starts anew then.
STAMPS = "/run/causeway-service"
LISTEN_SECS = 30
PROPERTIES = [
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "InvocationID",
    "ExecMainStartTimestamp",
    "ActiveEnterTimestamp",
]


class Service:
    """A unit, and when its process last read its files."""

    def __init__(self, module):
        self.module = module
        self.name = module.params["name"]

    def systemctl(self, *arguments, check=True):
        code, out, err = self.module.run_command([SYSTEMCTL, *arguments], environ_update={"TZ": "UTC", "LC_ALL": "C"})
        if check and code != 0:
            self.module.fail_json(
                msg=f"`systemctl {' '.join(arguments)}` failed: {(err or out).strip().splitlines()[:1]}. Read `journalctl --unit {self.name}` on the host."
            )
        return out

    def state(self):
        out = self.systemctl("show", self.name, "--timestamp=us+utc", *(f"--property={name}" for name in PROPERTIES))
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def outdated(self, state):
        """Whether systemd has to read unit files again. It does not notice a drop-in in a new directory."""
        known = [state.get("FragmentPath"), *state.get("DropInPaths", "").split()]
        units = [path for path in self.module.params["restart"] if path.startswith("/etc/systemd/system/")]
        unread = any(os.path.exists(path) and path not in known for path in units)
        return unread or state.get("NeedDaemonReload") == "yes" or state.get("LoadState") == "not-found"

    def stamp(self, state):
        return os.path.join(STAMPS, f"{self.name}.{state['InvocationID']}")

    @staticmethod
    def started_at(state):
        """Returns when the process started, in seconds since 1970, by the same clock as the times of files. A timer has no process."""
        try:
            started = state.get("ExecMainStartTimestamp") or state["ActiveEnterTimestamp"]
            started = datetime.datetime.strptime(started, "%a %Y-%m-%d %H:%M:%S.%f UTC")
        except (KeyError, ValueError):
            return 0.0
        return started.replace(tzinfo=datetime.timezone.utc).timestamp()

    def read_at(self, state):
        """Returns when the process last read its files: at its start, or at a reload by this module."""
        try:
            reloaded = os.stat(self.stamp(state)).st_mtime
        except OSError:
            reloaded = 0.0
        return max(reloaded, self.started_at(state))

    def newer(self, paths, since):
        found = []
        for path in paths:
            try:
                if os.stat(path).st_mtime > since:
                    found.append(path)
            except FileNotFoundError:
                continue
        return found

    @staticmethod
    def answers(listener):
        """Raises an error unless a port accepts a connection, or a URL answers with 200."""
        if listener.startswith("http://"):
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(listener, timeout=10) as response:
                response.read()
        else:
            host, _, port = listener.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), 2).close()

    def wait_for(self, listener):
        """Waits for a listener: a unit of the type `simple` counts as active before its program has read its settings."""
        deadline = time.monotonic() + LISTEN_SECS
        while True:
            try:
                return self.answers(listener)
            except (OSError, http.client.HTTPException) as error:
                last = error
            state = self.state().get("ActiveState")
            if state in ("failed", "inactive") or time.monotonic() > deadline:
                self.module.fail_json(
                    msg=f"`{self.name}` is {state}, and {listener} does not answer ({last}): read `journalctl --unit {self.name}` on the host"
                )
            time.sleep(0.1)

    def mark(self, state, when):
        """Notes a reload. The time is that before the reload, so a write during the reload is not lost."""
        os.makedirs(STAMPS, 0o755, exist_ok=True)
        path = self.stamp(state)
        with open(path, "w", encoding="ascii"):
            pass
        os.utime(path, (when, when))


def decide(service, state):
    """Returns the action and the files that are its reason."""
    if state.get("ActiveState") not in ("active", "activating", "reloading"):
        return "start", []
    old = service.newer(service.module.params["restart"], service.started_at(state))
    if old:
        return "restart", old
    old = service.newer(service.module.params["reload"], service.read_at(state))
    return ("reload", old) if old else ("none", [])


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "restart": {"type": "list", "elements": "path", "default": []},
            "reload": {"type": "list", "elements": "path", "default": []},
            "only_if_active": {"type": "bool", "default": False},
            "listens": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    service = Service(module)
    state = service.state()
    if state.get("LoadState") == "not-found" and module.check_mode:
        module.exit_json(changed=True, action="start", newer=[])
    if service.outdated(state) and not module.check_mode:
        service.systemctl("daemon-reload")
        state = service.state()
    if state.get("LoadState") == "masked":
        module.fail_json(msg=f"`{service.name}` is masked: run `systemctl unmask {service.name}` on the host, or leave its role out")
    if state.get("LoadState") == "not-found":
        module.fail_json(msg=f"`{service.name}` does not exist: install its package first")
    follows = module.params["only_if_active"]
    # A unit that another one starts does not start at boot.
    verb, wanted = ("disable", ("disabled", "static")) if follows else ("enable", ("enabled", "static", "generated", "indirect"))
    change_at_boot = state.get("UnitFileState") not in wanted
    now = time.time()
    action, newer = decide(service, state)
    if follows and action == "start":
        action = "none"
    idle = follows and state.get("ActiveState") in ("inactive", "failed")
    if not module.check_mode:
        if change_at_boot:
            service.systemctl(verb, service.name)
        if action != "none":
            service.systemctl("reset-failed", service.name, check=False)
            service.systemctl(action, service.name)
            state = service.state()
        for listener in [] if idle else module.params["listens"]:
            service.wait_for(listener)
        if action == "reload":
            service.mark(state, now)
        if not idle and service.state().get("ActiveState") not in ("active", "reloading"):
            module.fail_json(msg=f"`{service.name}` does not stay active: read `journalctl --unit {service.name}` on the host")
    module.exit_json(changed=change_at_boot or action != "none", action=action, newer=newer)


if __name__ == "__main__":
    main()
