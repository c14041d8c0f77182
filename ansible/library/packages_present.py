#!/usr/bin/python
"""Installs Debian packages, and starts none of their services."""

import contextlib
import fcntl
import os
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: packages_present
short_description: Installs Debian packages, and starts none of their services
description:
  - Installs the packages that are missing, without recommended ones. Packages that are installed are not upgraded.
  - Services of the packages are not started, so that none listens with Debian's settings before it has its own.
  - Packages that an interrupted run left unpacked are configured first. A run that finds every package needs 20 ms,
    where C(ansible.builtin.apt) needs seconds.
options:
  name:
    description: Packages.
    type: list
    elements: str
    default: []
  files:
    description: Package files on the host, which are installed, also over another version. Their dependencies come from apt.
    type: list
    elements: path
    default: []
  start:
    description: Whether services of the packages start with Debian's settings.
    type: bool
    default: false
  cache_valid_secs:
    description: Age of the package lists above which they are updated before an installation.
    type: int
    default: 3600
author: Causeway
"""

EXAMPLES = r"""
- name: Prometheus's package, not started before its settings
  packages_present:
    name: [prometheus]
"""

RETURN = r"""
missing:
  description: Packages that were not installed.
  returned: always
  type: list
  elements: str
"""

POLICY = "/usr/sbin/policy-rc.d"
MARK = "# Causeway: no service is started while packages are installed\n"
# For this module's apt-get only: unattended upgrades go on beside it.
POLICY_TEXT = f'#!/bin/sh\n{MARK}test -n "$CAUSEWAY_STARTS_NO_SERVICE" && exit 101\nexit 0\n'
UPDATED = "/var/lib/apt/lists/.causeway-updated"
LOCK = "/run/causeway-packages.lock"
LOCK_SECS = 300


def states(names):
    """Returns the state of each package by name, such as `installed` or `half-configured`."""
    done = subprocess.run(
        ["/usr/bin/dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def stated(path, field):
    """Returns a field of a package file."""
    return subprocess.run(["/usr/bin/dpkg-deb", "--field", path, field], capture_output=True, text=True, check=True).stdout.strip()


def installed_version(package):
    """Returns the installed version of a package, or an empty text."""
    done = subprocess.run(["/usr/bin/dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", package], capture_output=True, text=True, check=False)
    state, _, version = done.stdout.partition(" ")
    return version if done.returncode == 0 and state == "installed" else ""


def other_version(files):
    """Returns the package files that are not installed in their version. In check mode a file may not be there yet."""
    return [path for path in files if not os.path.exists(path) or installed_version(stated(path, "Package")) != stated(path, "Version")]


def lists_are_older_than(seconds):
    """Whether no complete update of the lists, by this module or by apt's timer, was within so many seconds."""
    times = []
    for stamp in (UPDATED, "/var/lib/apt/periodic/update-success-stamp"):
        try:
            times.append(os.stat(stamp).st_mtime)
        except OSError:
            continue
    return time.time() - max(times, default=0.0) > seconds


class NoServices:
    """Denies starts of services while it is entered, unless the host has a policy of its own."""

    def __enter__(self):
        self.own = not os.path.exists(POLICY)
        if self.own:
            with open(POLICY, "w", encoding="ascii") as file:
                file.write(POLICY_TEXT)
            os.chmod(POLICY, 0o755)

    def __exit__(self, *_failure):
        if self.own:
            os.remove(POLICY)


def remove_leftover():
    """Removes the policy of a run that was killed: with it no package could ever start a service."""
    try:
        with open(POLICY, encoding="utf-8", errors="replace") as file:
            left = MARK in file.read()
    except OSError:
        return
    if left:
        os.remove(POLICY)


def wait_for_other_run(module):
    """Waits until no other run installs packages. A run whose controller was killed goes on for a while on the host."""
    lock = os.open(LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_SECS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                module.fail_json(msg=f"Another run has installed packages on this host for {LOCK_SECS} s: wait until it ends, or end it")
            time.sleep(0.5)


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "list", "elements": "path", "default": []},
            "start": {"type": "bool", "default": False},
            "cache_valid_secs": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    names = module.params["name"]
    files = module.params["files"]
    absent = [path for path in files if not os.path.exists(path)]
    if absent and not module.check_mode:
        module.fail_json(msg=f"`{absent[0]}` is not on the host: copy the package first")
    found = states(names)
    missing = [name for name in names if found.get(name) != "installed"] + other_version(files)
    if module.check_mode:
        module.exit_json(changed=bool(missing), missing=missing)
    if not missing and not os.path.exists(POLICY):
        module.exit_json(changed=False, missing=[])
    # apt-get inherits the lock, and so keeps it if this process is killed.
    lock = wait_for_other_run(module)
    remove_leftover()
    found = states([*names, *(stated(path, "Package") for path in files)])
    missing = [name for name in names if found.get(name) != "installed"] + other_version(files)
    if not missing:
        module.exit_json(changed=False, missing=[])

    def run(*command, failure):
        environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "NEEDRESTART_SUSPEND": "1", "CAUSEWAY_STARTS_NO_SERVICE": "1"}
        deadline = time.monotonic() + LOCK_SECS
        while True:
            code, out, err = module.run_command(list(command), environ_update=environment, pass_fds=[lock])
            # apt-get waits for a lock, and dpkg does not.
            if code == 0 or not any(words in err for words in ("lock was locked", "Could not get lock")) or time.monotonic() > deadline:
                break
            time.sleep(1)
        if code != 0:
            module.fail_json(msg=f"{failure}: {(err.strip() or out.strip())[-2000:]}")

    apt = ["/usr/bin/apt-get", "--yes", "--quiet", "--no-install-recommends", f"--option=DPkg::Lock::Timeout={LOCK_SECS}"]
    apt += ["--option=Dpkg::Options::=--force-confdef", "--option=Dpkg::Options::=--force-confold"]
    wanted = ", ".join(f"`{name}`" for name in missing)
    with contextlib.nullcontext() if module.params["start"] else NoServices():
        if any(state not in ("installed", "config-files", "not-installed") for state in found.values()):
            run("/usr/bin/dpkg", "--configure", "--pending", failure="Packages that an interrupted run left unpacked cannot be configured: run `dpkg --configure -a` on the host")
        # A host without a way to the repositories can still install files whose dependencies are there.
        if any(name in missing for name in names) and lists_are_older_than(module.params["cache_valid_secs"]):
            run(*apt, "update", "--error-on=any", failure="The package lists cannot be updated: check the host's way to its apt repositories")
            with open(UPDATED, "w", encoding="ascii"):
                pass
        run(*apt, "install", "--allow-downgrades", *missing, failure=f"{wanted} cannot be installed")
    left = [name for name in names if states(names).get(name) != "installed"]
    left += other_version(files)
    if left:
        module.fail_json(msg=f"{', '.join(left)} not installed, although apt-get reported success")
    module.exit_json(changed=True, missing=missing)


if __name__ == "__main__":
    main()
