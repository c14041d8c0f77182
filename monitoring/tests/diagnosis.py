"""The commands of the runbooks' diagnosis, run in a healthy lab."""

import shlex
import sys

from lab import NODES, ROOT

# Last, as both folders have a module `alerts`.
sys.path.append(str(ROOT / "monitoring/check"))

from runbook_page import account_and_words, commands


def pages_by_command():
    """Returns the runbooks of each command."""
    found = {}
    for path in sorted((ROOT / "docs/runbooks").glob("*.md")):
        for command in commands(path.read_text()):
            found.setdefault(command, []).append(path.name)
    return found


def failure(lab, command):
    """Runs a command on one node after the other: some run on the primary only, others on a standby. Returns the last error if
    it succeeds on none."""
    error = None
    for node in NODES:
        # The lab has one user, and its API another database.
        _, words = account_and_words(shlex.split(command.replace("--dbname=causeway", "--dbname=app")))
        if words[0] == "psql":
            words[1:1] = [f"--host={lab.directory}/node-{node}/sock", "--username=postgres", "--dbname=postgres"]
        try:
            lab.command("exec", "--node", node, "--", *words)
            return None
        except RuntimeError as failed:
            error = failed
    return error


def run(lab):
    """Returns the number of commands, and a text for each that fails."""
    found = pages_by_command()
    failures = []
    for command, pages in found.items():
        if error := failure(lab, command):
            failures.append(f"`{command}` of docs/runbooks/{pages[0]} fails on every node: {error}")
    return len(found), failures
