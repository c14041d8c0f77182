"""Measures the api beside services in Go and in Python; see docs/reference/benchmarks.md.

`make bench-api` builds everything and runs this. It fails when a goal is missed; with `--quick` only
when one is that holds on a busy machine too.
"""

import argparse
import re
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from . import load, services
from .postgres import Postgres
from .report import Report
from .services import Service


def main() -> int:
    arguments = parse()
    # In the background of a shell SIGINT is ignored, and what is started inherits that. It is how the
    # services are stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rounds, seconds, starts = (1, 1, 1) if arguments.quick else (
        arguments.rounds, arguments.seconds, 10)
    arguments.report.mkdir(parents=True, exist_ok=True)
    log = arguments.report / "services.log"
    report = Report(versions=arguments.versions.read_text().split("\n")[:2])
    with Postgres() as postgres:
        measure_start(postgres, arguments.api, starts, log, report)
        with ExitStack() as stack:
            compared = [services.api(postgres, arguments.api),
                        services.go_batching(postgres, arguments.go),
                        *[services.go(postgres, arguments.go, pool_size) for pool_size in (4, 8, 16, 64)],
                        services.fastapi(postgres, arguments.venv)]
            for service in compared:
                services.create_database(postgres, service, with_schema=service.name != "api")
                stack.callback(service.stop)
                service.start(log)
                check_contract(service)
            for kind in load.LOADS:
                compare(postgres, compared, kind, rounds, seconds, report)
            for kind in ("get", "put"):
                compare_at_half(postgres, compared, kind, rounds, seconds, arguments.openloop, report)
            for service in compared:
                report.resident_mib[service.name] = service.resident_mib()
        measure_ceilings(postgres, compared[0].database, seconds, report)
    report.write(arguments.report)
    print(report.page())
    missed = report.broken_promises() + ([] if arguments.quick else report.missed_goals())
    for goal in missed:
        print(f"missed: {goal}")
    return 1 if missed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.api", description=__doc__.splitlines()[0])
    parser.add_argument("--api", type=Path, required=True, help="the api, built with --release")
    parser.add_argument("--go", type=Path, required=True, help="the service in Go")
    parser.add_argument("--openloop", type=Path, required=True, help="the load at a fixed rate")
    parser.add_argument("--versions", type=Path, required=True, help="a file with Go's and pgx's")
    parser.add_argument("--venv", type=Path, required=True, help="where uvicorn is installed")
    parser.add_argument("--report", type=Path, required=True, help="the directory for the report")
    parser.add_argument("--rounds", type=int, default=4, help="measurements of each load and service")
    parser.add_argument("--seconds", type=int, default=2, help="the length of each")
    parser.add_argument("--quick", action="store_true", help="a short sample, without goals of speed")
    return parser.parse_args()


def check_contract(service: Service) -> None:
    """Refuses to measure a service that does something else than the others."""
    requests = [
        ("PUT", "/hello/Ada", '{"dateOfBirth":"1815-12-10"}', 204),
        ("PUT", "/hello/Ada", '{"dateOfBirth":"1815-02-30"}', 400),
        ("PUT", "/hello/Ada", '{"dateOfBirth":"9999-12-31"}', 400),
        ("PUT", "/hello/Ada1", '{"dateOfBirth":"1815-12-10"}', 400),
        ("PUT", "/hello/Ada", "{", 400),
        ("GET", "/hello/Ada1", None, 400),
        ("GET", "/hello/Nobody", None, 404),
    ]
    for method, path, body, expected in requests:
        status, answer = service.request(method, path, body)
        if status != expected:
            raise RuntimeError(f"{service.name}: {method} {path} {body}: {status} {answer}")
    status, answer = service.request("GET", "/hello/Ada")
    days = r"(Happy birthday!|Your birthday is in \d+ day\(s\))"
    if status != 200 or not re.fullmatch(r'\{"message": ?"Hello, Ada! ' + days + r'"\}\n?', answer):
        raise RuntimeError(f"{service.name}: GET /hello/Ada: {status} {answer}")


def compare(postgres: Postgres, compared: list[Service], kind: str, rounds: int, seconds: int,
            report: Report) -> None:
    """Measures one load on every service, over and over: what the machine does meanwhile meets all of
    them alike."""
    for service in compared:
        load.fill(postgres, service.database)
        load.measure(postgres, service, kind, max(1, seconds // 2))
    for index in range(rounds):
        in_turn = compared if index % 2 == 0 else compared[::-1]
        for service in in_turn:
            load.fill(postgres, service.database)
            sample = load.measure(postgres, service, kind, seconds)
            report.add(kind, service.name, sample)
            print(f"{load.LOADS[kind]}, round {index + 1} of {rounds}, {service.name}: "
                  f"{sample.rate:,.0f} per second, p99 {sample.p99_ms:.1f} ms", file=sys.stderr)


def compare_at_half(postgres: Postgres, compared: list[Service], kind: str, rounds: int, seconds: int,
                    openloop: Path, report: Report) -> None:
    """Measures answers at a fixed rate: half of what the plain service in Go reaches, which is one load
    for all, and half of what each reaches itself."""
    best = report.better_go(kind)
    shared = report.median(kind, best, "rate") / 2
    rows = [(service, shared) for service in compared if service.name in ("api", "go batching", best)]
    rows += [(service, report.median(kind, service.name, "rate") / 2) for service, _ in rows if service.name != best]
    for index in range(rounds):
        for service, rate in rows if index % 2 == 0 else rows[::-1]:
            load.fill(postgres, service.database)
            sample = load.measure_at(postgres, service, kind, rate, seconds, openloop)
            report.add(f"{kind} at {rate:.0f}", service.name, sample)


def measure_ceilings(postgres: Postgres, database: str, seconds: int, report: Report) -> None:
    """Measures what PostgreSQL alone can do, with few connections and with many."""
    for kind in ("get", "put"):
        for clients in (8, load.CONNECTIONS):
            load.fill(postgres, database)
            rate = load.ceiling(postgres, database, kind, clients, max(seconds, 4))
            report.ceilings[f"{kind} {clients}"] = rate


def measure_start(postgres: Postgres, binary: Path, times: int, log: Path,
                  report: Report) -> None:
    """Measures how soon the api is ready: before an empty database, and before its tables."""
    for index in range(times):
        service = services.api(postgres, binary, name=f"start{index}")
        services.create_database(postgres, service, with_schema=False)
        for found in (report.ready_empty_ms, report.ready_ms):
            found.append(service.start(log) * 1000)
            service.stop()
        postgres.drop_database(service.database)
        postgres.create_database(service.database)
        for_psql = [argument for path in services.MIGRATIONS for argument in ("-f", path)]
        timed = postgres.sql(service.database, "-1", "-c", r"\timing on", *for_psql)
        report.migration_ms.append(sum(map(float, re.findall(r"^Time: ([\d.]+) ms", timed, re.M))))
        postgres.drop_database(service.database)


if __name__ == "__main__":
    sys.exit(main())
