"""Measures failovers of Causeway beside Patroni's; see docs/reference/benchmarks.md.

`make bench-failover` builds everything and runs this. It fails when a goal is missed; with `--quick`
only when one is that holds on a busy machine too.
"""

import argparse
import sys
import time
from pathlib import Path

import psycopg2

from . import processes
from .causeway import Causeway
from .patroni import Patroni
from .report import Failover, Idle, Report
from .writer import Node, Writers

# How long a cluster may take over anything that it has to do: many times what it needs.
PATIENCE = 300
# How long writes go on undisturbed before something is broken, and after it is mended.
CALM = 3.0
# For how long what decides on the primary's node is frozen: longer than either cluster's lease.
FROZEN_FOR = 45.0


def main() -> int:
    arguments = parse()
    rounds, idle_for = (1, 10) if arguments.quick else (arguments.rounds, 60)
    arguments.report.mkdir(parents=True, exist_ok=True)
    report = Report()
    with Causeway(arguments.lab, arguments.programs) as causeway, Patroni() as patroni:
        both = (causeway, patroni)
        measure_idle(both, idle_for, report)
        for system in both:
            create_table(system.nodes())
        for number in range(rounds):
            for fault in ("postmaster killed", "node lost", "agent frozen"):
                # The one that is first in one round is second in the next.
                for system in both if number % 2 == 0 else reversed(both):
                    report.add(system.name, fault, measure(system, fault))
    for _round in range(rounds):
        for make in (lambda: Causeway(arguments.lab, arguments.programs), Patroni):
            with make() as system:
                create_table(system.nodes())
                report.add(system.name, "promoted by command", measure_promotion(system))
    report.write(arguments.report)
    print(report.page())
    missed = report.broken_promises() + ([] if arguments.quick else report.missed_goals())
    for goal in missed:
        print(f"missed: {goal}")
    return 1 if missed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.failover", description=__doc__.splitlines()[0])
    parser.add_argument("--lab", type=Path, required=True, help="the lab")
    parser.add_argument("--programs", type=Path, required=True,
                        help="the directory of the programs, built with --release")
    parser.add_argument("--report", type=Path, required=True, help="the directory for the report")
    parser.add_argument("--rounds", type=int, default=4, help="how often each fault is measured")
    parser.add_argument("--quick", action="store_true", help="everything once, without goals of speed")
    return parser.parse_args()


def measure_idle(both: tuple, seconds: int, report: Report) -> None:
    """Measures what each process costs while nothing happens, both clusters at the same time."""
    watched = {(system.name, f"{part} of {node.name}"): pid
               for system in both for node in system.nodes() for part in system.parts
               for pid in system.pids(node.name, part)[:1]}
    watched["patroni", "etcd"] = both[1].etcd_pid()
    time.sleep(CALM)
    before = {what: processes.usage(pid) for what, pid in watched.items()}
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    for what, pid in watched.items():
        now = processes.usage(pid)
        cpu = 100 * (now.cpu_seconds - before[what].cpu_seconds) / took
        report.idle.append(Idle(*what, cpu, now.rss_mib, now.pss_mib))


def create_table(nodes: list[Node]) -> None:
    """Makes the table that is written to, on whichever node accepts that."""
    def create() -> bool:
        for node in nodes:
            try:
                run(node, "CREATE TABLE IF NOT EXISTS bench_failover "
                          "(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, node text NOT NULL)")
                return True
            except psycopg2.Error:
                continue
        return False
    wait("a primary", create)


def measure(system, fault: str) -> Failover:
    """Breaks something, waits until it is mended, and returns what the writers saw."""
    with Writers(system.nodes()) as writers:
        primary = settle(system, writers)
        began = time.monotonic()
        if fault == "postmaster killed":
            system.postmaster_killed(primary)
        elif fault == "node lost":
            system.node_lost(primary)
            wait_for_another(writers, primary)
        else:
            system.agent_frozen(primary)
            wait_for_another(writers, primary)
            # Where two accept writes by then, they do so until it goes on.
            time.sleep(max(0.0, began + FROZEN_FOR - time.monotonic()))
        if fault != "agent frozen":
            calm(writers, time.monotonic())
        system.heal()
        settle(system, writers)
        return Failover(writers.longest_gap(began - CALM / 2, time.monotonic()), writers.together(began))


def measure_promotion(system) -> Failover:
    """Returns how long an operator's command takes to the first acknowledged row."""
    with Writers(system.nodes()) as writers:
        left = system.region_lost(settle(system, writers))
        began = time.monotonic()
        command = system.promote(left)
        output, errors = command.communicate(timeout=PATIENCE)
        if command.returncode != 0:
            raise RuntimeError(f"the promotion failed: {output}{errors}")
        wait("the first row", lambda: writers.first_after(began) is not None)
        return Failover(writers.first_after(began) - began, writers.together(began))


def settle(system, writers: Writers) -> str:
    """Waits until one node accepts writes, undisturbed, and every other has them. Returns which."""
    began = time.monotonic()
    wait("one primary", lambda: calm_now(writers, began))
    primary = writers.writers_since(time.monotonic() - CALM)[0]
    nodes = {node.name: node for node in system.nodes()}
    last = run(nodes[primary], "SELECT max(id) FROM bench_failover")

    def follows(node: Node) -> bool:
        try:
            return (run(node, "SELECT max(id) FROM bench_failover") or 0) >= last
        except psycopg2.Error:
            return False
    for node in nodes.values():
        wait(f"{system.name}: node {node.name} to follow {primary}", lambda node=node: follows(node))
    return primary


def calm(writers: Writers, since: float) -> None:
    """Waits until writes have gone on undisturbed for a while since a moment."""
    wait("writes to go on", lambda: calm_now(writers, since))


def calm_now(writers: Writers, since: float) -> bool:
    """Returns whether writes have gone on undisturbed, on one node, for a while until now."""
    now = time.monotonic()
    lately = now - CALM
    return (lately > since and len(writers.writers_since(lately)) == 1
            and writers.longest_gap(lately, now) < CALM / 6)


def wait_for_another(writers: Writers, primary: str) -> None:
    """Waits until another node than the primary accepts writes."""
    wait(f"another node than {primary}",
         lambda: set(writers.writers_since(time.monotonic() - CALM / 6)) - {primary})


def run(node: Node, statement: str):
    """Runs a statement on a node, and returns the first value, if there is one."""
    connection = node.connect()
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


def wait(what: str, condition) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE} s for {what}")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
