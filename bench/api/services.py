"""The services that are compared: how each is started, and what its process costs."""

import http.client
import os
import signal
import subprocess
import time
from pathlib import Path

from .postgres import Postgres, free_port

HERE = Path(__file__).parent
MIGRATIONS = sorted((HERE.parent.parent / "api" / "migrations").glob("*.sql"))
PATIENCE = 30
WORKERS = 2
# What reading of a process is answered that has ended: before its file was opened, and after.
ENDED = (FileNotFoundError, ProcessLookupError)


class Service:
    """A program that answers /hello, before a database of its own."""

    def __init__(self, name: str, postgres: Postgres, command: list, environment: dict[str, str]):
        self.name = name
        self.port = free_port()
        self.database = name.replace(" ", "_")
        self._postgres = postgres
        self._command = [str(word).replace("{port}", str(self.port)) for word in command]
        self._environment = {name: value.replace("{port}", str(self.port))
                             for name, value in environment.items()}
        self.process: subprocess.Popen | None = None

    def start(self, log: Path) -> float:
        """Starts the program and returns after how many seconds it was ready."""
        clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        with log.open("a") as output:
            began = time.monotonic()
            self.process = subprocess.Popen(self._command, env=clean | self._environment,
                                            stdout=output, stderr=output)
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > began + PATIENCE:
                raise RuntimeError(f"{self.name} does not get ready; see {log}")
            time.sleep(0.001)
        return time.monotonic() - began

    def stop(self) -> None:
        """Ends the program, which here has nothing to finish."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            self.process = None

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        """Sends one request and returns status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def _is_ready(self) -> bool:
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def resident_mib(self) -> tuple[float, float]:
        """Returns the resident memory of all processes: at its highest, and now."""
        peak = now = 0
        for pid in self._pids():
            fields = dict(line.split(":", 1) for line in
                          Path(f"/proc/{pid}/status").read_text().splitlines())
            peak += int(fields["VmHWM"].split()[0])
            now += int(fields["VmRSS"].split()[0])
        return peak / 1024, now / 1024

    def cpu_seconds(self) -> float:
        """Returns the processor time that all processes have used."""
        return cpu_seconds(self.process.pid)

    def _pids(self) -> list[int]:
        return with_descendants(self.process.pid)


def with_descendants(pid: int) -> list[int]:
    """Returns a process and all that it started and that still run."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except ENDED:
        return []
    return [pid, *(descendant for child in children for descendant in with_descendants(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Returns the processor time of a process and all that it started, ended ones included."""
    ticks = 0
    for process in with_descendants(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except ENDED:
            continue
        # User and system time, of the process and of those children that it has waited for.
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def api(postgres: Postgres, binary: Path, name: str = "api") -> Service:
    """Returns the api, with default settings."""
    environment = postgres.environment(name) | {"LISTEN": "127.0.0.1:{port}"}
    return Service(name, postgres, [binary], environment)


def go(postgres: Postgres, binary: Path, connections: int) -> Service:
    """Returns the service in Go without batching, with a pool of `connections`."""
    return _go(postgres, binary, f"go {connections}", connections, {})


def go_batching(postgres: Postgres, binary: Path) -> Service:
    """Returns the service in Go with batching, like the api: each of its workers has a connection, and
    the readiness check uses the rest of the pool."""
    return _go(postgres, binary, "go batching", 8, {"BATCH": "1"})


def _go(postgres: Postgres, binary: Path, name: str, connections: int, more: dict) -> Service:
    url = postgres.url(name.replace(" ", "_"), pool_max_conns=connections)
    environment = {"LISTEN": "127.0.0.1:{port}", "DATABASE_URL": url}
    return Service(name, postgres, [binary], environment | more)


def fastapi(postgres: Postgres, venv: Path) -> Service:
    """Returns the service in Python."""
    command = [venv / "bin" / "uvicorn", "main:app", "--app-dir", HERE / "fastapi", "--port", "{port}",
               "--workers", WORKERS, "--no-access-log", "--log-level", "error"]
    return Service("fastapi", postgres, command, {"DATABASE_URL": postgres.url("fastapi")})


def create_database(postgres: Postgres, service: Service, with_schema: bool) -> None:
    """Creates a service's database: empty, or with the tables of the api."""
    postgres.create_database(service.database)
    if with_schema:
        for migration in MIGRATIONS:
            postgres.sql(service.database, "-1", "-f", migration)
