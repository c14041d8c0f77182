"""Patroni and etcd from Debian, with Patroni's times at the least that it allows."""

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import processes
from .writer import Node

BIN = Path(os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin"))
# Patroni refuses less than 20 s, 1 s and 3 s.
TTL, LOOP_WAIT, RETRY_TIMEOUT = 20, 1, 3
PATIENCE = 300
NAMES = "abc"
# As the lab's postgresql.conf has it, so that the servers cost and recover alike.
PARAMETERS = {
    "max_connections": 100, "shared_buffers": "64MB", "wal_level": "replica", "wal_log_hints": "on",
    "hot_standby": "on", "max_wal_senders": 10, "wal_keep_size": "512MB", "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s", "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "500ms", "recovery_init_sync_method": "syncfs",
    "password_encryption": "scram-sha-256",
}


class Patroni:
    """Three nodes and one etcd, gone when the context ends."""

    name = "patroni"
    parts = ("patroni",)

    def __init__(self) -> None:
        self._dir = Path(tempfile.mkdtemp(prefix="bench-failover-", dir="/var/tmp"))
        self._password = secrets.token_hex(16)
        self._owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self._ports = {name: (free_port(), free_port()) for name in NAMES}
        self._etcd_port = free_port()
        self._processes: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Patroni":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error) -> None:
        for name in NAMES:
            if name in self._processes:
                processes.tell([self._processes[name].pid], signal.SIGKILL)
            processes.tell(processes.inside(self._data(name)), signal.SIGKILL)
        for process in self._processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self._dir, ignore_errors=True)

    def _start(self) -> None:
        self._own(self._dir)
        url = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{free_port()}"
        self._spawn("etcd", ["etcd", "--data-dir", self._dir / "etcd", "--listen-client-urls", url,
                             "--advertise-client-urls", url, "--listen-peer-urls", peer,
                             "--initial-advertise-peer-urls", peer,
                             "--initial-cluster", f"default={peer}", "--log-level", "warn"])
        for name in NAMES:
            path = self._settings(name)
            path.write_text(json.dumps(self._configuration(name)))
            path.chmod(0o600)
            self._own(path)
            self._spawn(name, ["/usr/bin/patroni", path])
            if name == NAMES[0]:
                self._wait("the first primary", lambda: self._role(name) in ("master", "primary"))
        self._wait("both standbys", lambda: self._streaming(NAMES[0]) == 2)

    def _configuration(self, name: str) -> dict:
        """Returns the settings of a node. JSON is YAML."""
        rest, port = self._ports[name]
        role = {"password": self._password}
        return {
            "scope": "bench", "name": name,
            "restapi": {"listen": f"127.0.0.1:{rest}", "connect_address": f"127.0.0.1:{rest}"},
            "etcd3": {"hosts": [f"127.0.0.1:{self._etcd_port}"]},
            "bootstrap": {
                "dcs": {"ttl": TTL, "loop_wait": LOOP_WAIT, "retry_timeout": RETRY_TIMEOUT,
                        "postgresql": {"use_pg_rewind": True, "parameters": PARAMETERS}},
                "initdb": ["data-checksums", {"encoding": "UTF8"}, {"locale": "C.UTF-8"}],
                "pg_hba": ["local all all trust", "host replication replicator 127.0.0.0/8 scram-sha-256",
                           "host all all 127.0.0.0/8 scram-sha-256"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{port}", "connect_address": f"127.0.0.1:{port}",
                "data_dir": str(self._data(name)), "bin_dir": str(BIN),
                "authentication": {"superuser": {"username": "postgres", **role},
                                   "replication": {"username": "replicator", **role},
                                   "rewind": {"username": "rewinder", **role}},
                "parameters": {"unix_socket_directories": str(self._dir)},
            },
        }

    def nodes(self) -> list[Node]:
        """Returns where each node's PostgreSQL is."""
        return [Node(name, "127.0.0.1", port, "postgres", self._password, "postgres")
                for name, (_rest, port) in self._ports.items()]

    def pids(self, node: str, part: str) -> list[int]:
        """Returns the process of a node's Patroni."""
        del part
        return [self._processes[node].pid]

    def etcd_pid(self) -> int:
        """Returns the process of etcd."""
        return self._processes["etcd"].pid

    def postmaster_killed(self, node: str) -> None:
        """Kills the postmaster of a node, whose Patroni is alive."""
        processes.tell([processes.postmaster(self._data(node))], signal.SIGKILL)

    def node_lost(self, node: str) -> None:
        """Ends everything of a node."""
        self._processes[node].kill()
        self._processes[node].wait()
        while left := processes.inside(self._data(node)):
            processes.tell(left, signal.SIGKILL)

    def agent_frozen(self, node: str) -> None:
        """Freezes what decides on a node, while PostgreSQL runs on."""
        processes.tell([self._processes[node].pid], signal.SIGSTOP)

    def heal(self) -> None:
        """Puts everything right."""
        for name in NAMES:
            processes.tell([self._processes[name].pid], signal.SIGCONT)
            if self._processes[name].poll() is not None:
                self._spawn(name, ["/usr/bin/patroni", self._settings(name)])

    def region_lost(self, primary: str) -> str:
        """Ends every node but one, and returns that."""
        left = next(name for name in reversed(NAMES) if name != primary)
        # The one that is left takes over only by command.
        self._control("pause", "--wait")
        for name in NAMES:
            if name != left:
                self.node_lost(name)
        # Before its key expires the command would act on a primary that is thought to live.
        self._wait("the leader's key to expire", lambda: self._leader(left) is None)
        return left

    def promote(self, node: str) -> subprocess.Popen:
        """Promotes a node by an operator's command."""
        return self._popen("patronictl", "failover", "bench", "--candidate", node, "--force")

    def region_returned(self) -> None:
        """Puts the region right."""
        self._control("resume")
        self.heal()

    def _control(self, *arguments: str) -> None:
        command = self._popen("patronictl", *arguments[:1], "bench", *arguments[1:])
        output, errors = command.communicate(timeout=PATIENCE)
        if command.returncode != 0:
            raise RuntimeError(f"patronictl {' '.join(arguments)}: {output}{errors}")

    def _popen(self, *words: str) -> subprocess.Popen:
        program, *arguments = words
        settings = self._settings(NAMES[-1])
        return subprocess.Popen([f"/usr/bin/{program}", "--config-file", settings, *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=os.environ | {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"})

    def _leader(self, name: str) -> str | None:
        members = self._get(name, "cluster").get("members", [])
        return next((member["name"] for member in members if member["role"] == "leader"), None)

    def _role(self, name: str) -> str:
        status = self._get(name, "patroni")
        return status.get("role", "") if status.get("state") == "running" else ""

    def _streaming(self, name: str) -> int:
        return len(self._get(name, "patroni").get("replication", []))

    def _get(self, name: str, what: str) -> dict:
        try:
            url = f"http://127.0.0.1:{self._ports[name][0]}/{what}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)
        except OSError:
            return {}

    def _wait(self, what: str, condition) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{path.name}: {path.read_text()[-500:]}" for path in self._dir.glob("*.log"))
                raise RuntimeError(f"waited for {what}: {logs}")
            time.sleep(0.1)

    def _spawn(self, name: str, command: list) -> None:
        owner = {}
        if self._owner:
            owner = {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        with (self._dir / f"{name}.log").open("a") as log:
            self._processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", start_new_session=True, **owner,
                env=os.environ | {"HOME": str(self._dir), "LC_ALL": "C.UTF-8"})

    def _own(self, path: Path) -> None:
        if self._owner:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def _data(self, name: str) -> Path:
        return self._dir / f"data-{name}"

    def _settings(self, name: str) -> Path:
        return self._dir / f"{name}.yml"


def free_port() -> int:
    """Returns a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
