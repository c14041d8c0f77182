"""Causeway in its lab: three nodes, the lease in S3, and the production programs."""

import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path

from . import processes
from .writer import Node

# Numbers of the benchmark's labs, apart from those that are started by hand.
NUMBERS = range(90, 100)
# Timeout of a lab command, in seconds: many times what it needs.
TIMEOUT = 300


class Causeway:
    """A lab that is up until the context ends."""

    name = "causeway"
    # The processes that manage each node's PostgreSQL.
    parts = ("agent", "guard")

    def __init__(self, lab: Path, programs: Path) -> None:
        self._lab = lab.resolve()
        self._programs = programs.resolve()
        self._number = 0

    def __enter__(self) -> "Causeway":
        for number in NUMBERS:
            self._number = number
            if not self._directory.exists():
                break
        self._run("up")
        return self

    def __exit__(self, *_error) -> None:
        self._run("down")

    @property
    def _directory(self) -> Path:
        return Path(f"/tmp/causeway-lab-{self._number}")

    def nodes(self) -> list[Node]:
        """Returns where each node's PostgreSQL is."""
        password = (self._directory / "secrets/app.password").read_text()
        address = f"127.77.{self._number}."
        return [Node(name, f"{address}{11 + place}", 5432, "app", password, "app")
                for place, name in enumerate("abc")]

    def pids(self, node: str, part: str) -> list[int]:
        """Returns the processes of a node's agent or guard."""
        settings = f"{self._directory}/node-{node}"
        found = processes.with_arguments(part)
        return [pid for pid in found if settings in Path(f"/proc/{pid}/cmdline").read_text()]

    def postmaster_killed(self, node: str) -> None:
        """Kills the postmaster of a node, whose agent and guard are alive."""
        self._run("break", "postmaster-killed", "--node", node)

    def node_lost(self, node: str) -> None:
        """Ends everything of a node."""
        self._run("break", "node-lost", "--node", node)

    def agent_frozen(self, node: str) -> None:
        """Freezes what decides on a node, while PostgreSQL runs on."""
        self._run("break", "agent-frozen", "--node", node)

    def heal(self) -> None:
        """Undoes every fault."""
        self._run("heal")

    def region_lost(self, primary: str) -> str:
        """Ends every node that could take over automatically, and returns the one that is left."""
        del primary
        self._run("break", "region-lost")
        self._wait_for_lease_expiry()
        return "c"

    def promote(self, node: str) -> subprocess.Popen:
        """Promotes a node by an operator's command."""
        return self._operator("promote", "--to", node, "--yes", "--accept-loss", "1GiB")

    def region_returned(self) -> None:
        """Restores the region, and moves the primary back into it."""
        self._run("heal")

    def _wait_for_lease_expiry(self) -> None:
        """Waits until the lease has expired: before that the command would wait for it."""
        deadline = time.monotonic() + TIMEOUT
        while not self._lease_has_expired():
            if time.monotonic() > deadline:
                raise RuntimeError("the lease does not expire")
            time.sleep(0.1)

    def _lease_has_expired(self) -> bool:
        url = f"http://127.77.{self._number}.13:8009/status"
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return bool(json.load(answer).get("lease", {}).get("expired"))

    def _operator(self, *arguments: str) -> subprocess.Popen:
        """Runs `failover-ctl` as an operator of this lab."""
        command = [self._lab, "--number", str(self._number), "exec", "--", "failover-ctl", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _run(self, *arguments: str) -> None:
        command = [self._lab, "--number", str(self._number), *arguments]
        done = subprocess.run(command, env=os.environ | {"CAUSEWAY_BIN": str(self._programs)},
                              capture_output=True, text=True, timeout=TIMEOUT)
        if done.returncode != 0:
            raise RuntimeError(f"lab {' '.join(arguments)}: {done.stderr}")
