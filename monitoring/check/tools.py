"""The checks of Prometheus, Alertmanager and amlint themselves."""

import concurrent.futures
import os
import subprocess
import sys
from pathlib import Path

from folder import ROOT

OURS = ROOT / "monitoring"
AMLINT = Path(sys.executable).parent / "amlint"


def commands():
    """Yields each command, in the directory in which its relative paths are right."""
    yield ["promtool", "check", "rules", *sorted(str(path) for path in (OURS / "rules").glob("*.yml"))]
    for path in sorted((OURS / "rules/tests").glob("*.yml")):
        yield ["promtool", "test", "rules", str(path)]
    for path in sorted((OURS / "scrape").glob("*.yml")):
        yield ["promtool", "check", "config", str(path)]
    config = str(OURS / "alertmanager/alertmanager.yml")
    yield ["amtool", "check-config", config]
    yield [str(AMLINT), "check", "--strict", "--rules", str(OURS / "rules/*.yml"), config]
    yield [str(AMLINT), "test", config, str(OURS / "alertmanager/tests.yml"), "--fail-under", "100"]
    for severity, receiver in {"critical": "page", "warning": "ticket", "info": "information", "unheard-of": "ticket"}.items():
        yield ["amtool", "config", "routes", "test", f"--config.file={config}", f"--verify.receivers={receiver}", "cluster=main", f"severity={severity}"]
    yield ["amtool", "config", "routes", "test", f"--config.file={config}", "--verify.receivers=watchdog", "alertname=Watchdog", "severity=info"]


def run(command):
    """Returns the failure of a command as a message, or nothing."""
    done = subprocess.run(command, cwd=OURS, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    shown = " ".join(os.path.relpath(part, ROOT) if part.startswith(str(ROOT)) else part for part in command)
    return f"{shown}\n{done.stdout}{done.stderr}"


def check():
    """Runs every command, as many at a time as there are processors, and returns the failures."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [failure for failure in pool.map(run, commands()) if failure]
