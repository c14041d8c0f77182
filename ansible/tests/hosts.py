#!/usr/bin/env python3
"""Real systemd hosts of a bare Debian 12 for `ansible-playbook`, in containers, with AWS beside them.

    hosts.py up [HOST...]            start hosts, the nodes and the monitoring unless given; print the inventory's directory
    hosts.py exec HOST -- COMMAND    run a command as root
    hosts.py replace HOST            a new host with the volumes and the address of the old one
    hosts.py kill|stop|start HOST    power off, shut down, boot
    hosts.py cut REGION | heal       separate a region from the others, or nothing
    hosts.py status | down

`--number N` keeps runs apart: networks 10.<76+N>.x.0/24, state in target/ansible-tests/N.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "compose" / "tests"))

import image
from aws import Aws
from engine import Engine
from inventory import Inventory
from network import Network
from topology import FIRST, HOSTS, PROXY_PORT, REGIONS, Topology, volume_id

BOOT_TIMEOUT_SECS = 90
VOLUME_MIB = {"data": 1536, "wal": 1024}


def say(text):
    print(f"hosts: {text}", file=sys.stderr, flush=True)


class Hosts:
    """Hosts of one run, and the AWS that they reach."""

    def __init__(self, number, engine=None):
        self.topology = Topology(number)
        self.directory = self.topology.directory
        self.engine = engine or Engine("docker")
        self.network = Network(self.topology, self.engine)
        self.aws = Aws(self.topology)
        self.inventory = Inventory(self.topology, self.aws)

    def up(self, names=FIRST):
        """Starts everything that does not run. Returns the inventory's directory."""
        if not self.engine.answers():
            raise SystemExit("error: no Docker engine answers\nhint: start dockerd, or run `make test-ansible`, which does")
        name = image.ensure(self.engine, say)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.network.up()
        self.aws.up()
        self._make_keys()
        for host in names:
            self.create(host, name)
        for host in names:
            self.wait(host)
        return self.inventory.write(sorted(self.running(), key=list(HOSTS).index))

    def down(self):
        for name in self.existing():
            self.engine.run("rm", "--force", "--volumes", self.topology.container(name))
        self.network.down()
        self.aws.down()
        for file in (self.directory / "volumes").glob("*"):
            self._detach(file)
        shutil.rmtree(self.directory, ignore_errors=True)

    def existing(self):
        return self._containers("--all")

    def running(self):
        return self._containers()

    def _containers(self, *options):
        prefix = f"{self.topology.prefix}-"
        listed = self.engine.run("ps", *options, f"--filter=name=^{prefix}", "--format={{.Names}}").split()
        return [name.removeprefix(prefix) for name in listed if name.removeprefix(prefix) in HOSTS]

    def create(self, name, image_name=None):
        """Creates and boots a host, with its volumes, unless the host exists."""
        if name in self.existing():
            self.start(name)
            return
        topology, host = self.topology, HOSTS[name]
        self._make_host_key(name)
        volumes = {kind: self._attach(name, kind) for kind in host.volumes}
        self.engine.run(
            "create",
            f"--name={topology.container(name)}",
            f"--hostname={name}",
            f"--network={topology.network(host.region)}",
            f"--ip={topology.address(name)}",
            f"--dns={topology.gateway(host.region)}",
            "--cap-add=SYS_ADMIN",
            "--cap-add=NET_ADMIN",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
            "--tmpfs=/run",
            "--tmpfs=/run/lock",
            "--tmpfs=/tmp:exec",
            "--shm-size=512m",
            "--env=container=docker",
            "--stop-signal=SIGRTMIN+3",
            "--volume=/sys/fs/cgroup:/sys/fs/cgroup",
            *(f"--device={device}" for device in volumes.values()),
            image_name or image.ensure(self.engine, say),
            "/sbin/init",
        )
        links = "".join(f"{volume_id(name, kind).replace('-', '')} {device}\n" for kind, device in volumes.items())
        self._put(name, "/etc/ebs-stand-in", links)
        proxy = f'Acquire::http::Proxy "http://{topology.gateway(host.region)}:{PROXY_PORT}";\n'
        self._put(name, "/etc/apt/apt.conf.d/90proxy", proxy)
        self._put(name, "/home/admin/.ssh/authorized_keys", self._key().with_suffix(".pub").read_text(), owner=1000)
        key = self.directory / "ssh" / name
        self._put(name, "/etc/ssh/ssh_host_ed25519_key", key.read_text(), mode=0o600)
        self._put(name, "/etc/ssh/ssh_host_ed25519_key.pub", key.with_suffix(".pub").read_text())
        self.start(name)

    def replace(self, name):
        """Replaces a host by an empty one with the same volumes and address, as Terraform does."""
        self.engine.run("rm", "--force", "--volumes", self.topology.container(name), check=False)
        self.create(name)
        self.wait(name)

    def remove(self, name):
        """Removes a host and its volumes."""
        self.engine.run("rm", "--force", "--volumes", self.topology.container(name), check=False)
        for file in (self.directory / "volumes").glob(f"{name}.*"):
            self._detach(file)
            file.unlink()

    def start(self, name):
        self.engine.run("start", self.topology.container(name))

    def kill(self, name):
        """Power off."""
        self.engine.run("kill", self.topology.container(name))

    def stop(self, name):
        self.engine.run("stop", "--time=60", self.topology.container(name))

    def wait(self, name):
        """Waits until a host has booted and accepts SSH."""
        deadline = time.monotonic() + BOOT_TIMEOUT_SECS
        while True:
            state = self.exec(name, "systemctl", "is-system-running", check=False)
            if state in ("running", "degraded") and self.ssh(name, "true").returncode == 0:
                return
            if time.monotonic() > deadline:
                failed = self.exec(name, "systemctl", "--failed", "--no-legend", "--plain", check=False)
                raise SystemExit(f"error: `{name}` has not booted after {BOOT_TIMEOUT_SECS} s: {state or 'no answer'}\n{failed}")
            time.sleep(0.25)

    def exec(self, name, *command, check=True, **options):
        """Runs a command as root, and returns its output."""
        interactive = ["--interactive"] if "input" in options else []
        return self.engine.run("exec", *interactive, self.topology.container(name), *command, check=check, **options)

    def ssh(self, name, *command, timeout=10):
        return subprocess.run(
            [
                "ssh",
                f"-i{self._key()}",
                f"-oUserKnownHostsFile={self.directory / 'ssh' / 'known_hosts'}",
                "-oBatchMode=yes",
                f"-oConnectTimeout={timeout}",
                f"admin@{self.topology.address(name)}",
                *command,
            ],
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )

    def _put(self, name, path, text, mode=0o644, owner=0):
        """Writes a file into a host, which need not run."""
        import io
        import tarfile

        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.size, entry.mode, entry.uid, entry.gid = len(text.encode()), mode, owner, owner
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.addfile(entry, io.BytesIO(text.encode()))
        container = self.topology.container(name)
        done = subprocess.run([self.engine.docker, "cp", "-", f"{container}:/"], input=packed.getvalue(), capture_output=True, env=self.engine.environment)
        if done.returncode != 0:
            raise SystemExit(f"error: `{path}` could not be written into `{name}`: {done.stderr.decode().strip()}")

    def _key(self):
        return self.directory / "ssh" / "id"

    def _make_keys(self):
        (self.directory / "ssh").mkdir(mode=0o700, exist_ok=True)
        if not self._key().exists():
            _ssh_keygen(self._key(), "operator")

    def _make_host_key(self, name):
        key = self.directory / "ssh" / name
        if not key.exists():
            _ssh_keygen(key, name)
            kind, public = key.with_suffix(".pub").read_text().split()[:2]
            with (self.directory / "ssh" / "known_hosts").open("a") as file:
                file.write(f"{self.topology.address(name)} {kind} {public}\n")

    def _attach(self, name, kind):
        """Returns the loop device of a volume, whose content outlives the host."""
        file = self.directory / "volumes" / f"{name}.{kind}"
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            with file.open("wb") as empty:
                empty.truncate(VOLUME_MIB[kind] << 20)
        return _losetup("--associated", str(file)).partition(":")[0] or _losetup("--find", "--show", str(file))

    def _detach(self, file):
        device = _losetup("--associated", str(file)).partition(":")[0]
        if device:
            _losetup("--detach", device)


def _losetup(*arguments):
    done = subprocess.run(["losetup", *arguments], text=True, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"error: `losetup {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def _ssh_keygen(path, comment):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=int(os.environ.get("CAUSEWAY_ANSIBLE_NUMBER", "1")))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up").add_argument("names", nargs="*", choices=[*HOSTS, []], default=[])
    for name in ("kill", "stop", "start", "replace"):
        commands.add_parser(name).add_argument("name", choices=HOSTS)
    execute = commands.add_parser("exec")
    execute.add_argument("name", choices=HOSTS)
    execute.add_argument("arguments", nargs=argparse.REMAINDER)
    commands.add_parser("cut").add_argument("region", choices=REGIONS)
    for name in ("heal", "status", "down"):
        commands.add_parser(name)
    arguments = parser.parse_args()
    hosts = Hosts(arguments.number)
    match arguments.command:
        case "up":
            print(hosts.up(arguments.names or FIRST))
        case "exec":
            command = [word for index, word in enumerate(arguments.arguments) if (index, word) != (0, "--")]
            terminal = ["--tty"] if sys.stdin.isatty() else []
            os.execvp("docker", ["docker", "exec", "--interactive", *terminal, hosts.topology.container(arguments.name), *command])
        case "cut":
            hosts.network.cut(arguments.region)
        case "heal":
            hosts.network.heal()
        case "status":
            for name in hosts.existing():
                state = "running" if name in hosts.running() else "stopped"
                print(f"{name}\t{hosts.topology.address(name)}\t{state}")
        case "down":
            hosts.down()
        case action:
            getattr(hosts, action)(arguments.name)


if __name__ == "__main__":
    main()
