"""What must hold before anything is changed: pure functions of the inventory and of what was read on the hosts.

`cryptography` is imported where it is needed: see certificates.py.
"""

import ipaddress
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import yaml

from ansible.errors import AnsibleFilterError

# Beyond what a synchronised clock is off by.
CLOCK_TOLERANCE_SECS = 1.0

ROLES = Path(__file__).resolve().parents[1] / "roles"

TYPES = {
    "list": ((list, tuple), "a list"),
    "dict": (Mapping, "a dictionary"),
    "int": (int, "a number"),
}

KINDS = ((bool, "true or false"), (int, "a number"), (str, "a text"), ((list, tuple), "a list"), (Mapping, "a dictionary"))

SECRETS = ["command-signing-key", "replicator", "rewinder", "monitoring", "api-owner", "api-service"]

HOST_VARIABLES = ["region", "zone", "address", "private_ip"]


# Data directories that the agent would refuse, or replace although they may have been a database.
REFUSED = {
    "foreign": "is not empty and has no PG_VERSION: move its contents away",
    "damaged": "has no complete control file (global/pg_control): restore a backup, or empty the directory, so that the agent copies the primary",
    "unreadable": "cannot be read: check the volume. `journalctl --dmesg` on the host says more",
}


def cluster_findings(variables, names, has_lease):
    """Returns what is wrong with the variables that all hosts share."""
    found = []
    try:
        settings = tomllib.loads(variables.get("failover_ctl_settings") or "")
    except tomllib.TOMLDecodeError as error:
        return [f"`failover_ctl_settings` is no TOML ({error}): use the text of Terraform's parameter `failover-ctl`"]
    nodes = {node.get("name"): node for node in settings.get("nodes", [])}
    if not nodes:
        return ["`failover_ctl_settings` has no [[nodes]]: use the text of Terraform's parameter `failover-ctl`, or of docs/examples/failover-ctl.toml"]
    for name in sorted(set(names) - set(nodes)):
        found.append(f"{name} is in the inventory and not in [[nodes]] of `failover_ctl_settings`: apply infra-primary once more, or remove the host from the inventory")
    for name in sorted(set(nodes) - set(names)) if not has_lease else ():
        found.append(f"{name} is in [[nodes]] of `failover_ctl_settings` and not in the inventory: start its instance, or remove the node")
    if not any(node.get("region") == settings.get("primary-region") for node in nodes.values()):
        found.append(f"no node is in `primary-region`, {settings.get('primary-region')}: none would take the lease")
    try:
        tomllib.loads(variables.get("backup_agent_settings") or "")
    except tomllib.TOMLDecodeError as error:
        found.append(f"`backup_agent_settings` is no TOML ({error}): use the text of Terraform's parameter `backup-agent`")
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", str(variables.get("database"))):
        found.append(f"`causeway_database` is {variables.get('database')}: use lower-case letters, digits and underscores, beginning with a letter")
    found += recipient_findings(variables.get("backup_agent_recipients") or [])
    found += secret_findings(variables.get("causeway_secrets") or {})
    return found


def type_findings(host, variables):
    """Returns variables of another type than their role's spec says. Ansible would split a text into a list."""
    found = []
    for file in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        for name, option in yaml.safe_load(file.read_text())["argument_specs"]["main"]["options"].items():
            if name not in variables or option["type"] not in TYPES:
                continue
            kinds, stated = TYPES[option["type"]]
            if isinstance(variables[name], bool) or not isinstance(variables[name], kinds):
                found.append(f"{host}: `{name}` is {describe(variables[name])}, and has to be {stated}: {option['description'].strip()}")
    return found


def describe(value):
    return next((text for kind, text in KINDS if isinstance(value, kind)), type(value).__name__)


def recipient_findings(recipients):
    if isinstance(recipients, str):
        return []
    if not recipients:
        return ["`backup_agent_recipients` is empty, so no backup could be encrypted: run `backup-agent keygen --output identity.txt` on a safe machine, and write the public key that it prints"]
    found = []
    for number, recipient in enumerate(recipients, 1):
        if "AGE-SECRET-KEY" in recipient.upper():
            found.append(f"number {number} of `backup_agent_recipients` is a private key: every host would hold what decrypts the backups. Write the public key, age1…, and consider the private key exposed")
        elif not re.fullmatch(r"age1[0-9a-z]{58}", recipient):
            found.append(f"number {number} of `backup_agent_recipients` is no public key of age: it starts with age1 and has 62 characters")
    return found


def secret_findings(secrets):
    found = []
    for name in SECRETS:
        value = str(secrets.get(name) or "").strip()
        if not value:
            found.append(f"`causeway_secrets` has no `{name}`: name its lookup, as in inventories/example/group_vars/all")
        elif name == "command-signing-key" and len(value) < 32:
            found.append("the command signing key has less than 32 bytes: make one with `openssl rand -hex 32`")
        elif len(value) < 16:
            found.append(f"the secret `{name}` has less than 16 characters: make a longer one")
    return found


def certificate_findings(host, variables, is_configured):
    """Returns what is wrong with the certificates of a host. A configured one needs the CA's key only when one is due."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    authorities = variables.get("tls_ca_certificates") or []
    if not authorities:
        return ["`tls_ca_certificates` is empty: write the PEM certificate of the CA that signs the nodes' certificates"]
    loaded = []
    for number, text in enumerate(authorities, 1):
        try:
            loaded.append(x509.load_pem_x509_certificate(text.encode()))
        except ValueError:
            return [f"number {number} of `tls_ca_certificates` is no PEM certificate: paste it from -----BEGIN CERTIFICATE----- on"]
    if variables.get("tls_certificate"):
        return given_certificate_findings(host, variables)
    key = variables.get("tls_ca_key") or ""
    if not key and is_configured:
        return []
    if not key:
        return ["`tls_ca_key` is empty, so no certificate can be signed: name the lookup of the CA's private key, or give each host `tls_certificate` and `tls_private_key`"]
    passphrase = str(variables.get("tls_ca_key_passphrase") or "").encode() or None
    try:
        private = serialization.load_pem_private_key(key.encode(), passphrase)
    except (ValueError, TypeError):
        return ["`tls_ca_key` cannot be read: check that it is PEM, and `tls_ca_key_passphrase`"]
    if public_bytes(private.public_key()) != public_bytes(loaded[0].public_key()):
        return ["`tls_ca_key` is not the key of the first of `tls_ca_certificates`: put the CA that signs first"]
    return []


def name_findings(host, variables):
    """Returns names that a certificate request would read as something else."""
    names = [variables.get("address"), *(variables.get("tls_extra_names") or []), *(variables.get("tls_names") or [])]
    return [f"{host}: `{name}` is no host name for a certificate" for name in names if name and not re.fullmatch(r"[A-Za-z0-9*]([A-Za-z0-9.-]*[A-Za-z0-9])?", str(name))]


def public_bytes(key):
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def given_certificate_findings(host, variables):
    """Returns what is wrong with a certificate and key that another CA's owner gave."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        certificate = x509.load_pem_x509_certificates(variables["tls_certificate"].encode())[0]
        private = serialization.load_pem_private_key((variables.get("tls_private_key") or "").encode(), None)
    except (ValueError, TypeError, IndexError):
        return [f"{host}: `tls_certificate` or `tls_private_key` cannot be read: both are PEM, and the key has no passphrase, since PostgreSQL starts without a person"]
    if public_bytes(private.public_key()) != public_bytes(certificate.public_key()):
        return [f"{host}: `tls_private_key` is not the key of `tls_certificate`: correct one of the lookups"]
    return []


def address_findings(hosts):
    """Returns addresses that are missing, wrong, or given twice."""
    found, owners = [], {}
    for name, host in sorted(hosts.items()):
        for variable in HOST_VARIABLES:
            if not host["variables"].get(variable):
                found.append(f"{name} has no `{variable}`: the inventory gives it, from Terraform's parameter `inventory` or by hand")
        for variable, device in (("data_volume_id", "causeway_data_device"), ("wal_volume_id", "causeway_wal_device")):
            if not host["variables"].get(variable) and host["variables"].get(device) is None:
                found.append(
                    f"{name} has no `{variable}`, so its files would be on the root file system: attach the volume, or write the device into `{device}`, empty if the root file system is meant"
                )
        address = host["variables"].get("private_ip")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            if address:
                found.append(f"{name}: `private_ip` is {address}, which is no IP address")
            continue
        for kind in ("private_ip", "address"):
            value = host["variables"].get(kind)
            other = owners.setdefault((kind, value), name)
            if value and other != name:
                found.append(f"{name} and {other} both have the {kind.replace('_', ' ')} {value}: correct one of them")
        node = host["node"]
        if node and node.get("agent", "").rsplit(":", 1)[0].strip("[]") != address:
            found.append(f"{name}: `private_ip` is {address}, and its `agent` in [[nodes]] is {node.get('agent')}: correct one of them")
    return found


def volume_findings(name, volumes):
    found = []
    devices = [volume["device"] for volume in volumes.values() if volume["device"]]
    if len(devices) != len(set(devices)):
        found.append(f"{name}: data and WAL have one volume, {devices[0]}: give each its own")
    for point, volume in volumes.items():
        device = volume["device"]
        if not device:
            continue
        if not volume["exists"]:
            found.append(f"{name}: the volume of {point}, {device}, is not attached: attach it, or correct its id in the inventory")
        elif not volume.get("block"):
            found.append(f"{name}: {device} is no block device")
        elif volume["filesystem"] not in ("", "ext4"):
            found.append(f"{name}: {device} has {volume['filesystem'] or 'unknown data'} and not ext4: attach the right volume. Nothing is formatted over it")
        if volume.get("elsewhere"):
            found.append(f"{name}: {device} is mounted at {', '.join(volume['elsewhere'])}: unmount it, since it belongs at {point}")
        if volume.get("other"):
            found.append(f"{name}: {volume['other']} is mounted at {point}, where {device} belongs: unmount it")
    return found


def database_findings(name, database, release, wal):
    if database["state"] == "rewinding":
        return []
    if database["state"] in REFUSED:
        return [f"{name}: `{database['directory']}` {REFUSED[database['state']]}"]
    if database["state"] == "database" and database["release"] != release:
        return [
            f"{name}: `{database['directory']}` is of PostgreSQL {database['release']}, and `causeway_postgres_release` is {release}: set `causeway_postgres_release`, or upgrade with pg_upgrade first"
        ]
    if database["wal"] and database["wal"] != wal:
        return [f"{name}: its pg_wal is a link to `{database['wal']}`, and `causeway_wal_directory` is `{wal}`: correct the variable"]
    return []


def listener_findings(name, listeners):
    ours = ("failover-ctl-guard.service", "failover-ctl-agent.service", "pgbouncer.service")
    return [
        f"{name}: `{one['program']}` of {one['unit'] or 'no unit'} listens on port {port}: stop it, and disable it"
        for port, one in sorted(listeners.items())
        if not any(unit in one["unit"] for unit in ours)
    ]


def package_findings(name, survey, directory, packages):
    if not directory:
        return []
    found = []
    for package in packages:
        if not package_file(directory, package, survey["architecture"]):
            found.append(f"{name}: `causeway_packages` ({directory}) has no {package} for {survey['architecture']}: run `make package` on that architecture, or leave it empty if the image has the packages")
    return sorted(set(found))


def clock_findings(name, read, asked_at, answered_at):
    """Returns whether a clock, read at an unknown time between the two, cannot be right."""
    ahead, behind = read - answered_at, asked_at - read
    if max(ahead, behind) <= CLOCK_TOLERANCE_SECS:
        return []
    stated = f"{ahead:.0f} s ahead of" if ahead > behind else f"{behind:.0f} s behind"
    return [f"{name}: its clock is at least {stated} the controller's: synchronise both (chronyc tracking, chronyc makestep)"]


def identifier_findings(hosts):
    """Returns databases that are not copies of one another."""
    owners = {}
    for name, host in sorted(hosts.items()):
        database = host["survey"]["database"] if host["survey"] else {"system_id": ""}
        if database["system_id"]:
            owners.setdefault(database["system_id"], []).append(name)
    if len(owners) < 2:
        return []
    stated = "; ".join(f"{', '.join(names)}: {identifier}" for identifier, names in owners.items())
    return [f"the hosts have databases of different clusters (system identifiers: {stated}): move the data directory away that does not belong here"]


def settings_findings(hosts, has_lease, variables):
    """Returns hosts whose settings differ from the others', and a lease that would move."""
    texts = {}
    for name, host in sorted(hosts.items()):
        texts.setdefault(host["variables"].get("failover_ctl_settings"), []).append(name)
    if len(texts) > 1:
        stated = "; ".join(", ".join(names) for names in texts.values())
        return [f"`failover_ctl_settings` is not the same on all hosts ({stated}): apply infra-primary and infra-dr once more, which write it in both regions"]
    try:
        lease = tomllib.loads(variables.get("failover_ctl_settings") or "").get("lease", {})
    except tomllib.TOMLDecodeError:
        return []
    moved = [name for name, host in sorted(hosts.items()) if host["survey"] and host["survey"]["lease"] and host["survey"]["lease"] != {one: lease.get(one) for one in ("bucket", "region")}]
    if has_lease and moved and not variables.get("moves_lease"):
        return [f"{', '.join(moved)}: `[lease]` names another bucket than now, and the primary would lose its lease: follow docs/guides/replace-the-lease.md, and set `preflight_moves_lease=true` for its step 2"]
    return []


def size_findings(hosts):
    """Returns standbys whose volume is smaller than another's, which would fill first."""
    sizes = {
        (point, name): volume["size"]
        for name, host in hosts.items()
        if host["survey"]
        for point, volume in host["survey"]["volumes"].items()
        if volume["device"] and volume["exists"]
    }
    found = []
    for point in sorted({point for point, _ in sizes}):
        at = {name: size for (where, name), size in sizes.items() if where == point}
        largest = max(at, key=at.get)
        for name in sorted(at):
            if at[name] < at[largest] * 0.99:
                found.append(
                    f"{name}: the volume of {point} has {at[name] >> 30} GiB, and that of {largest} {at[largest] >> 30}: the smaller one fills first. Enlarge it"
                )
    return found


def preflight_findings(hosts, variables, has_lease):
    """Returns a sentence for each thing that is wrong. `hosts` has `variables` and `survey`, or none, by name."""
    names = sorted(hosts)
    found = cluster_findings(variables, variables["inventory"], has_lease)
    if not has_lease:
        found += [
            f"{name} does not answer, and a new cluster needs every node: start it, or correct `ansible_host`. `ansible -m ping {name}` shows the reason"
            for name in names
            if not hosts[name]["survey"]
        ]
    try:
        nodes = {node.get("name"): node for node in tomllib.loads(variables.get("failover_ctl_settings") or "").get("nodes", [])}
    except tomllib.TOMLDecodeError:
        nodes = {}
    for name in names:
        hosts[name]["node"] = nodes.get(name)
    found += address_findings(hosts)
    for name in names:
        host = hosts[name]
        survey = host["survey"]
        found += host["types"]
        found += name_findings(name, host["variables"])
        found += certificate_findings(name, host["variables"], survey and survey["configured"])
        if not survey:
            continue
        if survey["distribution"] not in ("debian 12", "debian 13"):
            found.append(f"{name} runs {survey['distribution']}: the packages are for Debian 12. Use its AMI")
        found += volume_findings(name, survey["volumes"])
        if not survey["restoring"]:
            found += database_findings(name, survey["database"], str(variables["release"]), variables["wal_directory"])
        found += listener_findings(name, survey["listeners"])
        found += package_findings(name, survey, variables.get("causeway_packages") or "", ["failover-ctl", "backup-agent"])
        found += clock_findings(name, survey["time"], float(variables["asked_at"]), float(variables["answered_at"]))
    found += identifier_findings(hosts)
    found += settings_findings(hosts, has_lease, variables)
    if not has_lease:
        found += size_findings(hosts)
    return list(dict.fromkeys(found))


def package_file(directory, package, architecture):
    """Returns the file of a package in a directory, or an empty text. Several versions are an error."""
    files = sorted(Path(directory).glob(f"{package}_*_{architecture}.deb")) if directory else []
    if len(files) > 1:
        raise AnsibleFilterError(f"`causeway_packages` ({directory}) has {', '.join(file.name for file in files)}: keep one version")
    return str(files[0]) if files else ""


def program_findings(hosts, absent):
    """Returns what the programs' own checks failed at, on hosts that ran them. `absent` are nodes known to be away."""
    found = []
    for name, host in sorted(hosts.items()):
        for program, result in host["checks"].items():
            try:
                checks = json.loads(result["stdout"])["checks"]
            except (ValueError, KeyError):
                # Without a report, the settings are invalid, or the program is missing.
                found.append(f"{name}: {program}: {' '.join(result.get('stderr', '').split()) or result.get('msg')}")
                continue
            for check in checks:
                if any(check["name"].endswith(f" of {node}") for node in absent):
                    continue
                if check.get("result") == "failed" or check.get("ok") is False:
                    found.append(f"{name}: {check['name']}: {check.get('detail') or check.get('why')}")
    return list(dict.fromkeys(found))


def preflight_host(variables):
    """Returns what the checks read of a host's variables, evaluated."""
    wanted = HOST_VARIABLES + ["data_volume_id", "wal_volume_id", "causeway_data_device", "causeway_wal_device", "failover_ctl_settings", "tls_names", "tls_extra_names", "tls_ca_certificates", "tls_ca_key", "tls_ca_key_passphrase", "tls_certificate", "tls_private_key"]
    read = variables.get("preflight_host") or {}
    return {
        "variables": {name: variables.get(name) for name in wanted},
        "survey": read.get("survey"),
        "types": type_findings(variables.get("inventory_hostname"), variables),
        "checks": variables.get("common_checks") or {},
    }


def preflight_notes(hosts):
    """Returns what is no reason to stop, and worth a look."""
    libraries = {}
    for name, host in sorted(hosts.items()):
        if host["survey"]:
            libraries.setdefault(host["survey"]["libc"], []).append(name)
    notes = [f"{name} does not answer, and is left out: start it, and run the playbook again" for name, host in sorted(hosts.items()) if not host["survey"]]
    if len(libraries) > 1:
        stated = "; ".join(f"{', '.join(names)}: {version}" for version, names in libraries.items())
        notes.append(f"the hosts have different C libraries ({stated}): text may sort differently after a failover. Upgrade the older ones, and reindex")
    notes += size_findings(hosts)
    notes += [f"{name}: guard runs an older program than the installed one: the playbook minor-upgrade restarts it" for name, host in sorted(hosts.items()) if host["survey"] and host["survey"]["guard"]["outdated"]]
    return notes


class FilterModule:
    """Filters of the playbook `preflight`."""

    def filters(self):
        return {"preflight_host": preflight_host, "preflight_findings": preflight_findings, "preflight_notes": preflight_notes, "package_file": package_file, "program_findings": program_findings}
