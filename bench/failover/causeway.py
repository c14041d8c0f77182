"""Causeway in its lab: three nodes, the lease in S3, and the programs as production builds them."""

import json
import os
import pwd
import subprocess
import time
import urllib.request
from pathlib import Path

from . import processes
from .writer import Node

# The labs that a benchmark may be, beside those that somebody has up.
NUMBERS = range(90, 100)
# What the lab may take to come up, to break or to heal: many times what it needs.
PATIENCE = 300


class Causeway:
    """A lab that is up, and gone when the context ends."""

    name = "causeway"
    # What guards each node's PostgreSQL.
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
        return [it for it in found if settings in Path(f"/proc/{it}/cmdline").read_text()]

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
        """Puts everything right."""
        self._run("heal")

    def region_lost(self, primary: str) -> str:
        """Ends every node that could take over by itself, and returns the one that is left."""
        del primary
        self._run("break", "region-lost")
        self._wait_for_the_lease()
        return "c"

    def promote(self, node: str) -> subprocess.Popen:
        """Promotes a node by an operator's command."""
        return self._operator("promote", "--to", node, "--yes", "--accept-loss", "1GiB")

    def region_returned(self) -> None:
        """Puts the region right, and moves the primary back into it."""
        self._run("heal")

    def _wait_for_the_lease(self) -> None:
        """Waits until the lease has expired: before that the command would wait for it."""
        deadline = time.monotonic() + PATIENCE
        while not self._lease_is_over():
            if time.monotonic() > deadline:
                raise RuntimeError("the lease does not expire")
            time.sleep(0.1)

    def _lease_is_over(self) -> bool:
        url = f"http://127.77.{self._number}.13:8009/status"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return bool(json.load(answer).get("lease", {}).get("expired"))

    def _operator(self, *arguments: str) -> subprocess.Popen:
        """Runs `failover-ctl` with the credentials of this lab, which its agents have."""
        agent = next(pid for node in "abc" for pid in self.pids(node, "agent"))
        environment = Path(f"/proc/{agent}/environ").read_text().rstrip("\0").split("\0")
        environment = dict(it.split("=", 1) for it in environment)
        owner = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        program = self._directory / "bin/failover-ctl"
        settings = self._directory / "operator.toml"
        return subprocess.Popen([program, "--config", settings, *arguments], env=environment, cwd="/",
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **owner)

    def _run(self, *arguments: str) -> None:
        command = [self._lab, "--number", str(self._number), *arguments]
        done = subprocess.run(command, env=os.environ | {"CAUSEWAY_BIN": str(self._programs)},
                              capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode != 0:
            raise RuntimeError(f"lab {' '.join(arguments)}: {done.stderr}")
