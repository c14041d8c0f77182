"""Inventory of a run: what Terraform writes for a cluster on AWS, and an operator's secrets and CA."""

import secrets
import subprocess

import yaml
from aws import write_secret
from topology import (
    API, DOMAIN, HOSTS, LEASE_REGION, PRIMARY_REGION, PROGRAMS, REGIONS, ROOT, RUNBOOKS, WEBHOOK_PORT, WRITER, bucket, instance_id, volume_id,
)

SECRETS = ("replicator", "rewinder", "command-signing-key", "api-owner", "api-service", "monitoring", "pooler")
NAME = "causeway-harness"


class Inventory:
    def __init__(self, topology, aws):
        self.topology = topology
        self.aws = aws
        self.directory = topology.directory / "inventory"
        self.secrets = topology.directory / "secrets"
        self.ssh = topology.directory / "ssh"

    @property
    def authorities(self):
        """CAs that the nodes trust, by file name; the first signs."""
        file = self.secrets / "authorities"
        return file.read_text().split() if file.exists() else ["ca"]

    def set_authorities(self, names):
        (self.secrets / "authorities").write_text(" ".join(names))
        variables = self.directory / "group_vars" / "all.yml"
        variables.write_text(_yaml(yaml.safe_load(variables.read_text()) | self._tls()))

    def _tls(self):
        names = self.authorities
        return {
            "tls_ca_certificates": [_lookup(self.secrets / f"{name}.crt") for name in names],
            "tls_ca_key": _lookup(self.secrets / f"{names[0]}.key"),
        }

    def names(self):
        """Hosts of the inventory."""
        groups = yaml.safe_load((self.directory / "hosts.yml").read_text())["all"]["children"]
        found = {name for region in groups["postgres"]["children"].values() for name in region["hosts"]}
        found.update(name for group in groups.values() for name in group.get("hosts", ()))
        return [name for name in HOSTS if name in found]

    @property
    def poolers(self):
        """Whether the nodes have poolers."""
        return (self.secrets / "poolers").exists()

    def add(self, *names):
        """Adds hosts."""
        self.write([name for name in HOSTS if name in (*self.names(), *names)])

    def remove(self, name):
        """Removes a host."""
        self.write([other for other in self.names() if other != name])

    def add_poolers(self):
        """Adds a pooler to every node."""
        (self.secrets / "poolers").touch()
        self.add()

    def write(self, names):
        """Writes the inventory of these hosts. The nodes among them are those in the settings of the cluster."""
        nodes = [name for name in names if HOSTS[name].is_node]
        for name in SECRETS:
            file = self.secrets / name
            if not file.exists():
                write_secret(file, secrets.token_hex(32))
        make_ca(self.secrets)
        variables = self.directory / "group_vars"
        variables.mkdir(parents=True, exist_ok=True)
        (self.directory / "hosts.yml").write_text(_yaml(self._hosts(names)))
        (variables / "all.yml").write_text(_yaml(self._variables(nodes)))
        for region in {HOSTS[name].region for name in nodes}:
            file = variables / f"{region.replace('-', '_')}.yml"
            file.write_text(_yaml(self._region_variables(region)))
        return self.directory

    def _hosts(self, names):
        groups = {"postgres": {"children": {}}}
        for name in names:
            host = HOSTS[name]
            variables = {
                "ansible_host": self.topology.address(name),
                "ansible_user": "admin",
                "ansible_ssh_private_key_file": str(self.ssh / "id"),
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.ssh / 'known_hosts'} -o StrictHostKeyChecking=yes",
                "region": host.region,
                "zone": host.zone,
                "address": f"{name}.{DOMAIN}",
                "private_ip": self.topology.address(name),
            }
            variables |= {f"{kind}_volume_id": volume_id(name, kind) for kind in host.volumes}
            if host.is_node:
                region = host.region.replace("-", "_")
                groups["postgres"]["children"].setdefault(region, {"hosts": {}})["hosts"][name] = variables
                if self.poolers:
                    groups.setdefault("pooler", {"hosts": {}})["hosts"][name] = {}
                continue
            variables |= self._region_variables(host.region)
            for group in host.groups:
                groups.setdefault(group, {"hosts": {}})["hosts"][name] = variables
        return {"all": {"children": groups}}

    def _variables(self, nodes):
        return {
            "failover_ctl_settings": self.failover_ctl(nodes),
            "backup_agent_settings": self.backup_agent(PRIMARY_REGION),
            "causeway_secrets": {name: _lookup(self.secrets / name) for name in SECRETS},
            "backup_agent_recipients": [self.recipient()],
            "causeway_aws_credentials": _lookup(self.aws.credentials_file()),
            **self._tls(),
            "tls_extra_names": [WRITER],
            "causeway_packages": str(ROOT / "target" / "package"),
            "postgres_client_cidrs": [self.topology.everything],
            # A container shows the machine's memory.
            "postgres_shared_buffers_mib": 128,
            "postgres_effective_cache_mib": 512,
            "common_ssh_listen": ["0.0.0.0"],
            "volumes_reserve_mib": 16,
            "causeway_name": NAME,
            "restore_drill_secret_endpoint": self.topology.moto(),
            "prometheus_scrape_interval": "5s",
            "prometheus_evaluation_interval": "5s",
            "prometheus_runbooks_url": RUNBOOKS,
            "alertmanager_receivers": [{"name": "harness", "webhook_configs": [{"url": f"http://{self.topology.gateway(PRIMARY_REGION)}:{WEBHOOK_PORT}/"}]}],
            "pooler_databases": [{"name": "causeway", "pool_mode": "session"}],
            "pooler_users": [{"name": "harness"}],
            "pooler_password": _lookup(self.secrets / "pooler"),
        }

    def _region_variables(self, region):
        return {"backup_agent_settings": self.backup_agent(region), "common_ntp_servers": [self.topology.gateway(region)]}

    def failover_ctl(self, nodes):
        """As infra-modules/settings renders the file, with the endpoints of this machine."""
        zones = self.aws.zones()
        text = f'cluster = "main"\nprimary-region = "{PRIMARY_REGION}"\n'
        for name in nodes:
            host = HOSTS[name]
            text += f"""
[[nodes]]
name = "{name}"
region = "{host.region}"
zone = "{host.zone}"
address = "{name}.{DOMAIN}"
port = 5432
agent = "{self.topology.address(name)}:8009"
instance-id = "{instance_id(name)}"
"""
        targets = "".join(
            f'{region} = "{self.topology.gateway(region)}"\n' for region in sorted({HOSTS[name].region for name in nodes})
        )
        return f"""{text}
[lease]
bucket = "{bucket(LEASE_REGION)}"
region = "{LEASE_REGION}"
endpoint = "{self.topology.s3(LEASE_REGION)}"

[dns]
zone-id = "{zones['private']}"
region = "us-east-1"
endpoint = "{self.topology.moto()}"
writer = "{WRITER}"
ttl-secs = 5

[dns.api]
name = "{API}"
zone-id = "{zones['public']}"

[dns.api.targets]
{targets}
[ec2]
endpoint = "{self.topology.moto()}"
"""

    def backup_agent(self, region):
        """The nearest bucket first."""
        text = 'cluster = "main"\n'
        for there in sorted((each for each in REGIONS if each != LEASE_REGION), key=lambda each: each != region):
            text += f"""
[[buckets]]
name = "{bucket(there)}"
region = "{there}"
endpoint = "{self.topology.s3(there)}"
"""
        return text

    def recipient(self):
        """Public key of backups. The identity is beside it, for restores."""
        file = self.secrets / "recipient"
        if not file.exists():
            agent = PROGRAMS / "backup-agent"
            identity = self.secrets / "identity.txt"
            done = subprocess.run([str(agent), "keygen", "--output", str(identity)], text=True, capture_output=True)
            if done.returncode != 0:
                raise SystemExit(f"error: `{agent} keygen` ended with {done.returncode}: {done.stderr.strip()}")
            file.write_text(next(word for word in done.stdout.split() if word.startswith("age1")))
        return file.read_text().strip()


def _lookup(file):
    return f"{{{{ lookup('ansible.builtin.file', '{file}') }}}}"


def make_ca(directory, name="ca"):
    """Makes the CA of the run, as docs/guides/from-an-empty-account.md does."""
    if (directory / f"{name}.crt").exists():
        return
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "3650", "-noenc",
        "-subj", f"/CN=Causeway {name}", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout", str(directory / f"{name}.key"), "-out", str(directory / f"{name}.crt"),
    ]
    subprocess.run(command, check=True, capture_output=True)


def _yaml(value):
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data):
            return True

    def text(dumper, data):
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)

    Dumper.add_representer(str, text)
    return "# Generated by hosts.py.\n" + yaml.dump(value, Dumper=Dumper, sort_keys=False, width=10_000)
