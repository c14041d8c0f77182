"""AWS of a run: S3 in three regions by `lab s3`, Route 53, EC2, SSM and Secrets Manager by moto."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from topology import (
    API, DOMAIN, LEASE_REGION, MOTO_PORT, NODES, PRIMARY_REGION, PROGRAMS, PROXY_PORT, REGIONS, ROOT, S3_PORT, WRITER, bucket,
)

START_TIMEOUT_SECS = 60
TTL_SECS = 5


class Aws:
    def __init__(self, topology):
        self.topology = topology
        self.directory = topology.directory / "aws"
        # What Alertmanager sent to the webhook, a notification in each line.
        self.alerts = self.directory / "alerts.jsonl"

    def up(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        self._make_credentials()
        environment = os.environ | self.environment()
        lab = PROGRAMS / "lab"
        if not lab.exists():
            raise SystemExit(f"error: `{lab}` does not exist\nhint: run `cargo build --bin lab`")
        for region in REGIONS:
            root = self.directory / region
            (root / bucket(region)).mkdir(parents=True, exist_ok=True)
            listen = f"{self.topology.gateway(region)}:{S3_PORT}"
            self._start(f"s3-{region}", [str(lab), "s3", "--atomic", "--root", str(root), "--listen", listen], environment)
        moto = os.environ.get("CAUSEWAY_MOTO", str(ROOT / ".venv" / "bin" / "moto_server"))
        # The lab's moto, which keeps the rules of Route 53 that moto's own lacks.
        if not Path(moto).exists():
            raise SystemExit(f"error: `{moto}` does not exist\nhint: run `make setup`, or name moto_server in CAUSEWAY_MOTO")
        python, rules = Path(moto).parent / "python", ROOT / "lab" / "src" / "aws" / "moto_server.py"
        gateway = self.topology.gateway(LEASE_REGION)
        self._start("moto", [str(python), str(rules), "--host", gateway, "--port", str(MOTO_PORT)], environment)
        for region in REGIONS:
            _wait_for_port(self.topology.gateway(region), S3_PORT)
        _wait_for_port(gateway, MOTO_PORT)
        self._make_zones()
        servers = [sys.executable, str(Path(__file__).resolve().parent / "servers.py"), str(self.topology.number)]
        self._start("servers", servers, environment)
        _wait_for_port(gateway, PROXY_PORT)

    def environment(self):
        """Environment of a client on this machine."""
        key, secret = json.loads((self.directory / "key.json").read_text())
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_EC2_METADATA_DISABLED": "true"}

    def credentials_file(self):
        return self.directory / "credentials"

    def zones(self):
        """Returns the ids of the private and the public zone."""
        return json.loads((self.directory / "zones.json").read_text())

    def client(self, service, region="us-east-1", endpoint=None):
        import boto3  # only in ansible's environment
        from botocore.config import Config

        environment = self.environment()
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=endpoint or (self.topology.s3(region) if service == "s3" else self.topology.moto()),
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}),
        )

    def down(self):
        for pid_file in self.directory.glob("*.pid"):
            self._stop(pid_file.stem)

    def _make_credentials(self):
        file = self.directory / "key.json"
        if file.exists():
            return
        key, secret = f"AKIA{secrets.token_hex(8).upper()}", secrets.token_hex(20)
        write_secret(file, json.dumps([key, secret]))
        write_secret(self.credentials_file(), f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")

    def _make_zones(self):
        """Creates the zones and their records, as infra-modules/dns does."""
        zones = self.directory / "zones.json"
        if zones.exists() and self._zones_exist():
            return
        route53 = self.client("route53")
        ids = {}
        for kind, private in (("private", True), ("public", False)):
            made = route53.create_hosted_zone(
                Name=DOMAIN,
                CallerReference=f"{kind} {time.time()}",
                HostedZoneConfig={"PrivateZone": private, "Comment": kind},
                **({"VPC": {"VPCRegion": PRIMARY_REGION, "VPCId": "vpc-0"}} if private else {}),
            )
            ids[kind] = made["HostedZone"]["Id"].removeprefix("/hostedzone/")
        first = self.topology.address(NODES[0])
        records = {"private": [(WRITER, "A", first)], "public": [(API, "A", self.topology.gateway(PRIMARY_REGION))]}
        for kind, listed in records.items():
            changes = [
                {
                    "Action": "CREATE",
                    "ResourceRecordSet": {"Name": name, "Type": kind_of, "TTL": TTL_SECS, "ResourceRecords": [{"Value": value}]},
                }
                for name, kind_of, value in listed
            ]
            route53.change_resource_record_sets(HostedZoneId=ids[kind], ChangeBatch={"Changes": changes})
        zones.write_text(json.dumps(ids))

    def _zones_exist(self):
        """moto keeps its state in memory."""
        listed = self.client("route53").list_hosted_zones()["HostedZones"]
        return {zone["Id"].removeprefix("/hostedzone/") for zone in listed} >= set(self.zones().values())

    def _start(self, name, command, environment):
        pid_file = self.directory / f"{name}.pid"
        if _alive(pid_file):
            return
        with (self.directory / f"{name}.log").open("a") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        pid_file.write_text(f"{process.pid} {_started(process.pid)}")

    def _stop(self, name):
        pid_file = self.directory / f"{name}.pid"
        if _alive(pid_file):
            pid = int(pid_file.read_text().split()[0])
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 5
            while _alive(pid_file):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
        pid_file.unlink(missing_ok=True)


def _started(pid):
    """Start time of a process and whether it runs; a process id alone may be another's by now."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _alive(pid_file):
    try:
        pid, started = pid_file.read_text().split()
    except (OSError, ValueError):
        return False
    return _started(pid) == started


def _wait_for_port(address, port):
    deadline = time.monotonic() + START_TIMEOUT_SECS
    while True:
        try:
            socket.create_connection((address, port), 1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"error: nothing listens on {address}:{port} after {START_TIMEOUT_SECS} s: {error}") from None
        time.sleep(0.1)


def write_secret(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
