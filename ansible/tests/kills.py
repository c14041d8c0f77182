"""site.yml, killed."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time

from cluster import ANSIBLE, TASK
from failed import Failed
from step import Result, step


@step("kills", needs_site=False)
def kills(cluster, options):
    """site.yml, killed at random tasks of a run on bare hosts, converges."""
    generator = random.Random(options.seed)
    killed = []
    while len(killed) < options.kills:
        # Up to three kills in one installation, each later than the one before.
        tasks = _number_of_tasks(cluster)
        chosen = sorted(generator.sample(range(3, tasks), min(options.kills - len(killed), 3)))
        cluster.fresh()
        for number in chosen:
            task = _kill_at(cluster, number, generator.random())
            if not task:
                break
            killed.append(task)
        cluster.site()
        primary = cluster.wait_until_healthy()
        cluster.prepare_clients(primary)
        with cluster.writer("kills") as writer:
            writer.wait_for_write()
        cluster.verify(writer)
        cluster.unchanged()
    return Result(f"seed {options.seed}; killed {len(killed)} times: at {'; '.join(killed)}; each time healthy, and then 0 changed", 0)


def _number_of_tasks(cluster):
    """Tasks that site.yml begins on bare hosts, by the longest complete log, or by Ansible's own list, which is longer."""
    counts = [len(TASK.findall(log.read_text())) for log in (cluster.directory / "logs").glob("*-site.log") if "PLAY RECAP" in log.read_text()]
    if counts:
        return max(counts)
    program = os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
    listed = subprocess.run([program, "-ilocalhost,", "--list-tasks", str(ANSIBLE / "site.yml")], cwd=ANSIBLE, capture_output=True, text=True)
    return max(10, len(re.findall(r"TAGS: \[", listed.stdout)))


def _kill_at(cluster, number, delay):
    """Kills site.yml some time into a task. Returns the task, or None if the run had ended."""
    process, log = cluster.start("site.yml")
    try:
        while process.poll() is None and len(TASK.findall(log.read_text())) < number:
            time.sleep(0.02)
        time.sleep(delay)
        ended = process.poll()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if ended:
        raise Failed(f"site.yml ended with {ended} before it was killed at task {number}; {log}")
    if ended == 0:
        return None
    began = re.findall(r"^(?:TASK|RUNNING HANDLER) \[(.*)\]", log.read_text(), re.MULTILINE)
    return f"{len(began)} ({began[-1]})"
