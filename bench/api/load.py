"""One measurement: wrk, openloop or pgbench against one service, and what that cost."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .postgres import BIN, Postgres
from .services import HERE, Service, cpu_seconds

LOADS = {"get": "GET", "put": "PUT, changing", "same": "PUT, unchanged"}
CONNECTIONS = 64


@dataclass
class Sample:
    """What was seen in some seconds of one load on one service."""

    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    not_2xx: int
    broken: int
    cpu_us: float
    postgres_us: float


def fill(postgres: Postgres, database: str) -> None:
    """Makes the table what each measurement begins with, and the log of earlier ones durable."""
    postgres.sql(database, "-f", HERE / "load" / "fill.sql", "-c", "CHECKPOINT")


def measure(postgres: Postgres, service: Service, load: str, seconds: int) -> Sample:
    """Sends one load for so many seconds."""
    return _measure(postgres, service, [
        "wrk", "--threads", os.cpu_count(), "--connections", CONNECTIONS, "--duration", f"{seconds}s",
        "--script", HERE / "load" / "hello.lua", f"http://127.0.0.1:{service.port}", load])


def measure_at(postgres: Postgres, service: Service, load: str, rate: float, seconds: int,
               openloop: Path) -> Sample:
    """Sends one load at a fixed rate, however slow the answers are."""
    return _measure(postgres, service, [
        openloop, f"127.0.0.1:{service.port}", load, f"{rate:.0f}", seconds])


def _measure(postgres: Postgres, service: Service, command: list) -> Sample:
    before = service.cpu_seconds(), cpu_seconds(postgres.process.pid)
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    after = service.cpu_seconds(), cpu_seconds(postgres.process.pid)
    each = [(b - a) * 1e6 / max(1, seen["requests"]) for a, b in zip(before, after)]
    return Sample(rate=seen["requests"] / seen["seconds"], p50_ms=seen["p50_ms"],
                  p99_ms=seen["p99_ms"], max_ms=seen["max_ms"], not_2xx=seen["not_2xx"],
                  broken=seen["broken"], cpu_us=each[0], postgres_us=each[1])


def ceiling(postgres: Postgres, database: str, load: str, clients: int, seconds: int) -> float:
    """Returns the rate of the same statement through pgbench, without HTTP."""
    pgbench = [BIN / "pgbench", "--no-vacuum", "--protocol=prepared", f"--client={clients}",
               f"--time={seconds}", f"--file={HERE / 'load' / f'pgbench_{load}.sql'}"]
    done = subprocess.run(pgbench, check=True, capture_output=True, text=True,
                          env=os.environ | postgres.environment(database))
    return float(re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE).group(1))
