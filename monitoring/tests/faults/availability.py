"""Faults of nodes, of the lease store, of a region and of DNS."""

import subprocess
import time

import wait
from scene import Expected, Fault

TAKEOVER_SECS = 120


def heal(scene):
    """Undoes every fault of the lab."""
    scene.lab.heal()


def break_on(role, name):
    """Returns a cause: a fault of `lab break` on the node in a role."""
    return lambda scene: scene.lab.inject(name, getattr(scene, role))


def lose_lease_store(scene):
    scene.lab.inject("lease-store-down")


def wait_for_takeover(scene, lost):
    """Waits until another node accepts writes, and returns it."""

    def probe():
        node = scene.lab.primary()
        if node == lost:
            raise wait.NotYet(f"{node} is the primary")
        return node

    return wait.until("another primary", TAKEOVER_SECS, probe)


def lose_primary(scene):
    scene.lab.inject("node-lost", scene.primary)


def lose_primary_three_times(scene):
    """Three failovers; the alert is counted from the loss that begins the third."""
    primary = scene.primary
    for number in range(3):
        if number:
            scene.lab.wait_until_healthy()
        began = time.time()
        scene.lab.inject("node-lost", primary)
        primary = wait_for_takeover(scene, primary)
        scene.lab.heal()
    return began


def split(scene):
    """Agent and guard of the primary are frozen together with the supervisor that would end PostgreSQL."""
    scene.lab.inject("supervisor-asleep", scene.primary)
    scene.lab.inject("agent-and-guard-frozen", scene.primary)


def start_by_hand(scene):
    """The guard's PostgreSQL cannot start, and an operator starts another on the data directory."""
    scene.lab.inject("postgres-cannot-start", scene.remote)
    home = scene.lab.directory / f"node-{scene.remote}"
    program = scene.lab.exec("sh", "-c", "command -v postgres", node=scene.remote).strip()

    def probe():
        process = scene.stack.of_faults.start("postgres-by-hand", program, "-D", f"{home}/data", "-p", "5499", user="postgres")
        try:
            # The guard's attempts hold the data directory for moments.
            process.wait(2)
        except subprocess.TimeoutExpired:
            return
        raise wait.NotYet(f"it ended with {process.returncode}")

    wait.until("PostgreSQL started by hand", 60, probe)


def end_by_hand(scene):
    scene.stack.of_faults.end("postgres-by-hand")
    scene.lab.heal()


def lose_dns_and_primary(scene):
    scene.lab.inject("dns-throttled")
    scene.lab.inject("node-lost", scene.primary)


AGENT_GONE = Fault(
    "the agent of the standby is gone", break_on("standby", "agent-gone"), heal,
    (Expected("AgentAbsent", on="standby"), Expected("FailoverNotReady")), sample=True,
)
POSTGRES_DOWN = Fault(
    "PostgreSQL of the remote standby cannot start", break_on("remote", "postgres-cannot-start"), heal,
    (Expected("PostgresDown", on="remote"), Expected("RedundancyReduced", "warning", muted_by=("PostgresDown",))), sample=True,
)
LEASE_STORE_DOWN = Fault(
    "the lease store is down", lose_lease_store, heal,
    (
        Expected("QuorumDegraded"),
        Expected("LeaseAgeHigh"),
        Expected("NoPrimary"),
        Expected("ApiReadOnly", muted_by=("NoPrimary",)),
    ),
    sample=True,
)
ISOLATED = Fault(
    "the primary is cut off from the standbys", break_on("primary", "node-isolated"), heal,
    (
        Expected("ReplicaNotStreaming", on="standby"),
        Expected("ReplicaNotStreaming", on="remote"),
        Expected("RpoExceeded"),
    ),
)
REGION_LOST = Fault(
    "the other region is lost", lambda scene: scene.lab.inject("region-lost", region="eu-central-1"), heal,
    (
        Expected("RegionRpoExceeded"),
        Expected("AgentAbsent", on="remote"),
        Expected("BackupRepoUnhealthy", labels=(("bucket", "causeway-backup-eu-central-1"),)),
    ),
)
UNFENCED = Fault("PostgreSQL is started by hand", start_by_hand, end_by_hand, (Expected("FencingFailed", on="remote"),))
SPLIT_BRAIN = Fault("agent, guard and supervisor of the primary are frozen", split, heal, (Expected("SplitBrain"),))
DNS = Fault(
    "the host of the primary is lost, and Route 53 rejects every change", lose_dns_and_primary, heal,
    (Expected("DnsMismatch"), Expected("FailoverHappened", "warning")),
)
FLAPPING = Fault(
    "the host of the primary is lost three times", lose_primary_three_times, lambda _scene: None, (Expected("FailoverFlapping", resolves_within=420),),
)

GROUPS = ((AGENT_GONE,), (POSTGRES_DOWN,), (LEASE_STORE_DOWN,), (ISOLATED,), (REGION_LOST,), (UNFENCED,), (SPLIT_BRAIN,), (DNS,), (FLAPPING,))
