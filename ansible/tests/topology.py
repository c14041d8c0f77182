"""Hosts, networks and addresses of a run. Each network stands for a region."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
DOMAIN = "causeway.test"
WRITER = f"db-writer.{DOMAIN}"
API = f"api.{DOMAIN}"
# In notifications; nothing answers there.
RUNBOOKS = f"https://git.{DOMAIN}/docs/runbooks"
PRIMARY_REGION = "eu-west-1"
LEASE_REGION = "eu-north-1"
REGIONS = {"eu-west-1": 1, "eu-central-1": 2, LEASE_REGION: 3}
S3_PORT = 9000
MOTO_PORT = 5000
PROXY_PORT = 3142
UNCONDITIONAL_PORT = 9001
WEBHOOK_PORT = 9002
CACHE = Path.home() / ".cache" / "causeway"


@dataclass(frozen=True)
class Host:
    """A host, with the last byte of its address."""

    name: str
    region: str
    zone: str
    byte: int
    groups: tuple = ("postgres",)

    @property
    def is_node(self):
        return "postgres" in self.groups

    @property
    def volumes(self):
        if self.is_node:
            return ("data", "wal")
        return ("data",) if "restore_drill" in self.groups else ()


HOSTS = {
    host.name: host
    for host in (
        Host("eu-west-1a-1", "eu-west-1", "eu-west-1a", 11),
        Host("eu-west-1b-1", "eu-west-1", "eu-west-1b", 12),
        Host("eu-central-1a-1", "eu-central-1", "eu-central-1a", 11),
        # Not in the first cluster: for add-node.
        Host("eu-central-1b-1", "eu-central-1", "eu-central-1b", 12),
        Host("monitoring-1", "eu-west-1", "eu-west-1a", 21, ("monitoring",)),
        Host("restore-drill-1", "eu-central-1", "eu-central-1a", 22, ("restore_drill",)),
    )
}
NODES = ("eu-west-1a-1", "eu-west-1b-1", "eu-central-1a-1")
SPARE = "eu-central-1b-1"
MONITORING = "monitoring-1"
DRILL = "restore-drill-1"
# Hosts of a new cluster.
FIRST = (*NODES, MONITORING)


class Topology:
    """Names and addresses of run `number`; runs with different numbers share nothing but the image."""

    def __init__(self, number):
        if not 1 <= number <= 100:
            raise SystemExit(f"error: number {number} is not in 1..100: it is part of the networks 10.<76+number>.x.0/24")
        self.number = number
        self.prefix = f"causeway-ansible-{number}"
        self.directory = ROOT / "target" / "ansible-tests" / str(number)
        self.everything = f"10.{76 + number}.0.0/16"

    def network(self, region):
        return f"{self.prefix}-{region}"

    def subnet(self, region):
        return f"10.{76 + self.number}.{REGIONS[region]}.0/24"

    def gateway(self, region):
        """Address of this machine in a region's network, where the region's S3 listens."""
        return f"10.{76 + self.number}.{REGIONS[region]}.1"

    def bridge(self, region):
        return f"cwa{self.number}-{REGIONS[region]}"

    def address(self, name):
        host = HOSTS[name]
        return f"10.{76 + self.number}.{REGIONS[host.region]}.{host.byte}"

    def container(self, name):
        return f"{self.prefix}-{name}"

    def s3(self, region):
        return f"http://{self.gateway(region)}:{S3_PORT}"

    def moto(self):
        return f"http://{self.gateway(LEASE_REGION)}:{MOTO_PORT}"


def bucket(region):
    return "causeway-lease" if region == LEASE_REGION else f"causeway-backup-{region}"


def instance_id(name):
    return "i-" + hashlib.sha256(name.encode()).hexdigest()[:17]


def volume_id(name, kind):
    return "vol-" + hashlib.sha256(f"{name} {kind}".encode()).hexdigest()[:17]
