#!/usr/bin/python
"""Reads what a database host has, and changes nothing."""

import os
import stat
import struct
import subprocess
import time
import tomllib

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_survey
short_description: Reads what a database host has
description:
  - Reads volumes, mounts, data directory, packages, ports and clock of a host, in one call and without a change.
  - The data directory is not visible before its volume is mounted.
options:
  data_directory:
    description: Data directory of PostgreSQL.
    type: path
    required: true
  devices:
    description: Devices by the directory that they are mounted at; an empty name is a directory without a volume of its own.
    type: dict
    default: {}
  packages:
    description: Debian packages whose version is read.
    type: list
    elements: str
    default: []
  ports:
    description: Ports that only the platform may listen on.
    type: list
    elements: int
    default: []
author: Causeway
"""

EXAMPLES = r"""
- name: What the host has is known
  host_survey:
    data_directory: /var/lib/postgresql/15/main
    devices: { /var/lib/postgresql: /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0a }
    packages: [postgresql-15, failover-ctl]
    ports: [5432, 8009]
"""

RETURN = r"""
survey:
  description: What the host has.
  returned: always
  type: dict
"""

# The mark of a first database, written before the directory gets its name.
FIRST_DATABASE = "/var/lib/causeway/first-database"

# The agent's, in its `state-directory`, until a copy or rewind is complete.
MARKER = "/var/lib/causeway/failover-ctl/rewinding"

# What the agent reads of `ControlFileData`.
CONTROL_FILE_BYTES = 200

GUARD = "failover-ctl-guard.service"


def output(*command):
    """Returns what a program prints, or nothing if the program fails or is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def mounts():
    """Returns the device and type of each mount point."""
    found = {}
    for line in read("/proc/self/mounts").splitlines():
        device, point, kind = line.split()[:3]
        found[point] = {"device": device, "type": kind}
    return found


def filesystem(device):
    """Returns the type of a device's file system: empty if nothing is on the device, `unknown` if that is not certain."""
    try:
        found = subprocess.run(["/usr/sbin/blkid", "--probe", "--match-tag", "TYPE", "--output", "value", device], capture_output=True, text=True, timeout=20, check=False)
        signatures = subprocess.run(["/usr/sbin/wipefs", "--no-act", "--noheadings", device], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    if found.returncode == 0 and found.stdout.strip():
        return found.stdout.strip()
    name = os.path.basename(device)
    parts = [entry for entry in os.listdir(f"/sys/class/block/{name}") if entry.startswith(name)] if os.path.isdir(f"/sys/class/block/{name}") else []
    holders = os.listdir(f"/sys/class/block/{name}/holders") if os.path.isdir(f"/sys/class/block/{name}/holders") else []
    # 2: nothing was found.
    is_empty = found.returncode == 2 and signatures.returncode == 0 and not signatures.stdout.strip() and not parts and not holders
    return "" if is_empty else "unknown"


def volume(device, point, mounted):
    """Describes a device, and what is mounted where it belongs."""
    described = {"device": device, "mounted": point in mounted, "exists": True, "size": 0, "filesystem": ""}
    if device:
        described["exists"] = os.path.exists(device)
        if described["exists"]:
            real = os.path.realpath(device)
            described["block"] = stat.S_ISBLK(os.stat(real).st_mode)
            described["filesystem"] = filesystem(real)
            described["size"] = int(output("/usr/sbin/blockdev", "--getsize64", real) or 0)
            described["elsewhere"] = sorted(at for at, by in mounted.items() if os.path.realpath(by["device"]) == real and at != point)
            if described["mounted"]:
                described["other"] = os.path.realpath(mounted[point]["device"]) != real and mounted[point]["device"] or ""
    place = point
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    room = os.statvfs(place)
    described["free"] = room.f_bavail * room.f_frsize
    described["size"] = described["size"] or room.f_blocks * room.f_frsize
    return described


def control_identifier(directory):
    """Returns the system identifier in the control file: empty if there is no complete one, none if that is not certain."""
    try:
        with open(os.path.join(directory, "global/pg_control"), "rb") as file:
            content = file.read(CONTROL_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError:
        return None
    # The first field of ControlFileData.
    return str(struct.unpack("=Q", content[:8])[0]) if len(content) == CONTROL_FILE_BYTES else ""


def database(directory, marker=MARKER, first=FIRST_DATABASE):
    """Describes a data directory as the agent does (failover-ctl/src/data_directory.rs, and find_obstacle of the agent's
    preconditions):

    absent      there is no directory
    empty       nothing, or a link `pg_wal` to an empty or missing directory: the agent may fill it
    unfinished  a first database that has not got its name yet
    rewinding   the agent copies or rewinds it, or continues with that, whatever is there
    database    has a complete control file
    damaged     has PG_VERSION and no complete control file
    foreign     has something else
    unreadable  an error of the volume: nothing is certain
    """
    described = {"directory": directory, "state": "unreadable", "release": "", "system_id": "", "wal": ""}
    try:
        names = set(os.listdir(directory))
    except FileNotFoundError:
        names = None
    except OSError:
        return described
    link = os.path.join(directory, "pg_wal")
    if os.path.islink(link):
        described["wal"] = os.readlink(link)
    described["release"] = read(os.path.join(directory, "PG_VERSION")).strip()
    identifier = control_identifier(directory)
    try:
        os.stat(marker)
        described["state"] = "rewinding"
        return described
    except FileNotFoundError:
        pass
    except OSError:
        return described
    if identifier is None:
        return described
    described["system_id"] = identifier
    if identifier:
        described["state"] = "database"
    elif described["release"]:
        described["state"] = "damaged"
    elif os.path.exists(first):
        described["state"] = "unfinished"
    elif names is None:
        described["state"] = "absent"
    else:
        is_linked = os.path.islink(link) and not (os.path.isdir(link) and os.listdir(link))
        described["state"] = "empty" if not names or names == {"pg_wal"} and is_linked else "foreign"
    return described


def listeners(ports):
    """Returns the programs that listen on these ports, by port."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(table).splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rsplit(":", 1)[1], 16)
            if fields[3] == "0A" and port in ports:
                inodes[f"socket:[{fields[9]}]"] = port
    found = {}
    if not inodes:
        return found
    for process in (name for name in os.listdir("/proc") if name.isdigit()):
        try:
            descriptors = os.listdir(f"/proc/{process}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                port = inodes.get(os.readlink(f"/proc/{process}/fd/{descriptor}"))
            except OSError:
                continue
            if port:
                found[str(port)] = {"program": read(f"/proc/{process}/comm").strip(), "unit": read(f"/proc/{process}/cgroup").strip().rsplit("/", 1)[-1]}
    return found


def present_lease():
    """Returns the bucket and region of the lease in the present settings, or nothing."""
    try:
        lease = tomllib.loads(read("/etc/causeway/failover-ctl.toml")).get("lease", {})
    except tomllib.TOMLDecodeError:
        return {}
    return {name: lease.get(name) for name in ("bucket", "region")} if lease else {}


def versions(packages):
    """Returns the version of each installed package. dpkg-query knows packages that are only suggested, without a version."""
    found = {}
    for package in packages:
        state, _, version = output("/usr/bin/dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", package).partition(" ")
        if state == "installed":
            found[package] = version
    return found


def guard():
    """Returns whether the guard runs, and whether its program was replaced since it started."""
    shown = output("/usr/bin/systemctl", "show", "--timestamp=unix", "--property=ActiveState,ExecMainStartTimestamp", GUARD)
    known = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    running = known.get("ActiveState") == "active"
    # A second more: the time has no fraction.
    started = int(known.get("ExecMainStartTimestamp", "").lstrip("@") or 0) + 1
    try:
        installed = os.stat("/usr/bin/failover-ctl").st_ctime
    except OSError:
        installed = 0.0
    return {"running": running, "outdated": running and installed > started}


def main():
    module = AnsibleModule(
        argument_spec={
            "data_directory": {"type": "path", "required": True},
            "devices": {"type": "dict", "default": {}},
            "packages": {"type": "list", "elements": "str", "default": []},
            "ports": {"type": "list", "elements": "int", "default": []},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    mounted = mounts()
    memory = next((int(line.split()[1]) for line in read("/proc/meminfo").splitlines() if line.startswith("MemTotal:")), 0)
    release = dict(line.split("=", 1) for line in read("/etc/os-release").splitlines() if "=" in line)
    module.exit_json(
        changed=False,
        survey={
            "distribution": f"{release.get('ID', '')} {release.get('VERSION_ID', '')}".replace('"', ""),
            "architecture": output("/usr/bin/dpkg", "--print-architecture"),
            "memory_mib": memory // 1024,
            "libc": os.confstr("CS_GNU_LIBC_VERSION"),
            "volumes": {point: volume(device, point, mounted) for point, device in wanted["devices"].items()},
            "database": database(wanted["data_directory"]),
            "marked_first": read(FIRST_DATABASE).strip(),
            "packages": versions(wanted["packages"]),
            "listeners": listeners(set(wanted["ports"])),
            "guard": guard(),
            "restoring": os.path.exists("/var/lib/causeway/restoring"),
            "lease": present_lease(),
            "configured": os.path.exists("/etc/causeway/failover-ctl.toml"),
            "time": time.time(),
        },
    )


if __name__ == "__main__":
    main()
