"""Load without faults, and planned work: no page, and no critical alert."""

import time

import wait
from faults import archive
from load import Load

WORK_SECS = 240


class Noise(Exception):
    """An alert without a fault."""


def restart_agents(scene):
    """An upgrade of the agent: on each node, the primary last."""
    for node in (scene.remote, scene.standby, scene.primary):
        scene.lab.inject("agent-restarted", node)
        scene.lab.wait_until_healthy()


def rejoin(scene):
    """A standby is rebuilt by command."""
    scene.lab.exec("failover-ctl", "rejoin", "--node", scene.standby, "--rebuild")
    scene.lab.wait_until_healthy()


def back_up(scene):
    """A base backup by schedule."""
    archive.back_up(scene)


PLANNED = {"an agent upgrade": restart_agents, "a rejoin": rejoin, "a backup": back_up}


def run(scene, minutes, planned):
    """Runs load for some minutes, with planned work at its begin. Returns a part of the report, and raises Noise."""
    scene.begin()
    scene.load = Load(scene.lab)
    began = time.time()
    work = []
    try:
        for name, do in planned.items():
            at = time.time()
            do(scene)
            work.append(f"{name} ({time.time() - at:.0f} s)")

        def elapsed():
            scene.stack.processes.check()
            if scene.stack.watcher.error:
                raise RuntimeError(f"Alertmanager does not answer: {scene.stack.watcher.error}")
            if noise(scene, began):
                raise Noise(noise(scene, began))
            if time.time() < began + 60 * minutes:
                raise wait.NotYet("time has not passed")

        wait.until(f"{minutes} minutes of quiet", 60 * minutes + 60, elapsed, poll=1)
    finally:
        scene.load.close()
    if not scene.load.succeeded:
        raise Noise("no request of the load succeeded")
    detail = f", {scene.load.succeeded} requests, {scene.load.failed} of them failed"
    if work:
        detail += f", with {', '.join(work)}"
    others = sorted({str(span) for span in scene.stack.watcher.since(began)})
    if others:
        detail += f"; other alerts: {', '.join(others)}"
    name = f"{minutes:g} minutes of load, time divided by {scene.stack.factor}"
    return {"name": name, "seconds": time.time() - began, "pages": 0, "critical": 0, "detail": detail}


def noise(scene, began):
    """Returns what should not have happened since then, or an empty text."""
    critical = [str(span) for span in scene.stack.watcher.since(began) if span.labels["severity"] == "critical"]
    pages = [page["alerts"] for page in scene.stack.inbox.pages(began)]
    return f"critical alerts {critical}, pages {pages}" if critical or pages else ""
