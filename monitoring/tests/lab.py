"""The lab, by its own commands, and what its agents report."""

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import wait

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
# As in lab/src/cluster/topology.rs.
CLUSTER = "lab"
NODES = {"a": ("eu-west-1", "eu-west-1a", 11), "b": ("eu-west-1", "eu-west-1b", 12), "c": ("eu-central-1", "eu-central-1a", 13)}
APIS = {"eu-west-1": 21, "eu-central-1": 22}
REMOTE = "c"

UP_SECS = 600
COMMAND_SECS = 180
HEALTHY_SECS = 240


def get(url, timeout=2):
    """Returns the body of a URL. The lab's addresses need no proxy."""
    unproxied = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with unproxied.open(url, timeout=timeout) as response:
        return response.read().decode()


class Lab:
    """A running lab. Its addresses start with 127.77.<number>."""

    def __init__(self, number):
        self.number = number
        self.directory = Path(f"/tmp/causeway-lab-{number}")
        self.program = PROGRAMS / "lab"
        self.process = None

    def address(self, host):
        """Returns an address by its last byte."""
        return f"127.77.{self.number}.{host}"

    def host(self, node):
        """Returns the address of a node."""
        return self.address(NODES[node][2])

    def command(self, *words, timeout=COMMAND_SECS, check=True, text=None):
        """Runs a command of the lab, and returns its output."""
        done = subprocess.run(
            [self.program, "--number", str(self.number), *words], capture_output=True, text=True, timeout=timeout, check=False, input=text,
        )
        if check and done.returncode:
            raise RuntimeError(f"`lab {' '.join(words)}` failed with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def up(self):
        """Starts the lab, as `lab up` does, but as a process of the harness. Its own processes end with it."""
        words = [self.program, "--number", str(self.number), "--directory", self.directory, "serve"]
        with Path(f"/tmp/causeway-lab-{self.number}.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

        def probe():
            if self.process.poll() is not None:
                raise RuntimeError(f"the lab has ended with {self.process.returncode}: its log is {log.name}")
            try:
                with socket.socket(socket.AF_UNIX) as control:
                    control.connect(str(self.directory / "control"))
            except OSError as error:
                raise wait.NotYet(f"{error}; its log is {log.name}") from None

        wait.until("the lab to start", UP_SECS, probe)

    def down(self):
        """Stops the lab, if it is up."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(COMMAND_SECS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def inject(self, fault, node=None, **options):
        """Injects a fault of `lab break`."""
        selected = ["--node", node] if node else []
        more = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.command("break", fault, *selected, *more)

    def heal(self):
        """Undoes every fault of `lab break`."""
        self.command("heal")

    def exec(self, *words, node=None, timeout=COMMAND_SECS, check=True):
        """Runs a program as an operator, or on the host of a node."""
        return self.command("exec", *(["--node", node] if node else []), "--", *words, timeout=timeout, check=check)

    def sql(self, node, statement, database="postgres", check=True):
        """Runs a statement as superuser on a node's own socket, and returns its output."""
        return self.exec(
            "psql", f"--host={self.directory}/node-{node}/sock", "--username=postgres", f"--dbname={database}", "--no-psqlrc", "--quiet",
            "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", f"--command={statement}", node=node, check=check,
        ).strip()

    def sql_file(self, node, file, database):
        """Runs a file of statements as superuser on a node's own socket."""
        self.exec(
            "psql", f"--host={self.directory}/node-{node}/sock", "--username=postgres", f"--dbname={database}", "--no-psqlrc", "--quiet",
            "--set=ON_ERROR_STOP=1", f"--file={file}", node=node,
        )

    def status(self, node):
        """Returns the status of a node by its agent, or raises NotYet."""
        try:
            return json.loads(get(f"http://{self.host(node)}:8009/status"))
        except (OSError, ValueError) as error:
            raise wait.NotYet(f"{node}: {error}") from None

    def primary(self):
        """Returns the node that accepts writes."""

        def probe():
            statuses = {node: self.status_or_none(node) for node in NODES}
            primaries = [node for node, status in statuses.items() if status and status["role"] == "primary"]
            if len(primaries) != 1:
                raise wait.NotYet(f"primaries: {primaries or 'none'}")
            return primaries[0]

        return wait.until("one primary", HEALTHY_SECS, probe)

    def status_or_none(self, node):
        """Returns the status of a node, or None."""
        try:
            return self.status(node)
        except wait.NotYet:
            return None

    def standby(self):
        """Returns the standby that takes over automatically."""
        primary = self.primary()
        return next(node for node in NODES if node not in (primary, REMOTE))

    def wait_until_healthy(self, timeout=HEALTHY_SECS):
        """Waits until one node is primary, the others stream and one of them is a candidate, and the APIs are ready."""

        def probe():
            statuses = {node: self.status(node) for node in NODES}
            roles = {node: status["role"] for node, status in statuses.items()}
            wrong = [f"{node}: {problem['problem']}" for node, status in statuses.items() for problem in status["problems"]]
            if sorted(roles.values()) != ["primary", "standby", "standby"] or wrong:
                raise wait.NotYet(f"roles {roles}, problems {wrong}")
            silent = [node for node, status in statuses.items() if status["role"] == "standby" and not status["streaming"]]
            forecasts = [status["forecast"] for status in statuses.values() if status["forecast"]]
            if silent or not any(forecast["takes_over"] for forecast in forecasts):
                raise wait.NotYet(f"not streaming: {silent}, forecasts {forecasts}")
            for region, host in APIS.items():
                try:
                    get(f"http://{self.address(host)}:8080/readyz")
                except (OSError, ValueError) as error:
                    raise wait.NotYet(f"API in {region}: {error}") from None

        wait.until("a healthy lab", timeout, probe)
