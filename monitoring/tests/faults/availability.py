"""Faults of nodes, of the lease store, of a region and of DNS."""

import re
import time

import wait
from scene import Expected, Fault, Scene

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


def lose_primary_again(scene):
    """Failovers until the alert is there, which counts those of faults before this one too; at most three. Returns the time of the loss before it."""
    primary, losses = scene.primary, []
    for _ in range(3):
        if losses:
            scene.lab.wait_until_healthy()
        losses.append(time.time())
        scene.lab.inject("node-lost", primary)
        primary = wait_for_takeover(scene, primary)
        scene.lab.heal()
        alert = next((span for span in scene.stack.watcher.active() if span.name == "FailoverFlapping"), None)
        if alert:
            # It may have begun while the loss after it was prepared.
            return max((loss for loss in losses if loss <= alert.begin), default=losses[0])
    return losses[-1]


def split(scene):
    """Agent and guard of the primary are frozen together with the supervisor that would end PostgreSQL."""
    scene.lab.inject("supervisor-asleep", scene.primary)
    scene.lab.inject("agent-and-guard-frozen", scene.primary)


def settings_of(scene, node):
    """Returns the settings file of a node's agent and guard."""
    return scene.lab.directory / f"node-{node}" / "conf" / "failover-ctl.toml"


def lose_watchdog(scene):
    """The settings name a watchdog device, and the host has none: guard starts without it."""
    file = settings_of(scene, scene.remote)
    scene.notes["settings"] = file.read_text()
    file.write_text(scene.notes["settings"].replace("[guard]\n", '[guard]\nwatchdog-device = "/dev/watchdog-missing"\n'))
    began = time.time()
    scene.lab.inject("guard-restarted", scene.remote)
    return began


def remove_watchdog(scene):
    settings_of(scene, scene.remote).write_text(scene.notes["settings"])
    scene.lab.inject("guard-restarted", scene.remote)


def lose_resolver(scene):
    """The settings of the primary name a resolver that does not answer."""
    file = settings_of(scene, scene.primary)
    settings = file.read_text()
    wrong = re.sub(r'^resolver = ".*"$', f'resolver = "{scene.lab.address(99)}:53"', settings, flags=re.MULTILINE)
    if wrong == settings:
        raise RuntimeError(f"{file} has no resolver")
    scene.cleanups.callback(scene.lab.inject, "agent-restarted", scene.primary)
    scene.cleanups.callback(file.write_text, settings)
    file.write_text(wrong)
    scene.lab.inject("agent-restarted", scene.primary)


def share_zone(scene):
    """The inventory places all hosts in one availability zone."""
    targets = scene.stack.targets()["agent"]
    scene.cleanups.callback(scene.stack.write_targets, "agent", targets)
    zone = targets[0]["labels"]["zone"]
    scene.stack.write_targets("agent", [{**each, "labels": {**each["labels"], "zone": zone}} for each in targets])


def diverge(scene):
    """The primary is lost when only the remote standby has its last WAL, and that node may rejoin only by command."""
    file = settings_of(scene, scene.remote)
    scene.notes["settings"] = file.read_text()
    file.write_text(scene.notes["settings"] + '\n[policy]\nrejoin = "manual"\n')
    scene.lab.inject("agent-restarted", scene.remote)
    scene.lab.wait_until_healthy()
    scene.lab.inject("node-isolated", scene.standby)
    scene.lab.sql(scene.primary, "create table ahead (n int)", "app")

    def arrived():
        if scene.lab.sql(scene.remote, "select count(*) from pg_class where relname = 'ahead'", "app") != "1":
            raise wait.NotYet(f"not on {scene.remote}")

    wait.until("the table on the remote standby", 60, arrived)
    scene.lab.inject("node-lost", scene.primary)
    wait_for_takeover(scene, scene.primary)
    began = time.time()
    scene.lab.heal()
    return began


def rejoin_automatically(scene):
    settings_of(scene, scene.remote).write_text(scene.notes["settings"])
    scene.lab.inject("agent-restarted", scene.remote)


def lose_dns_and_primary(scene):
    scene.lab.inject("dns-throttled")
    scene.lab.inject("node-lost", scene.primary)


AGENT_GONE = Fault(
    "the agent of the standby is gone", break_on("standby", "agent-gone"), heal,
    (Expected("AgentAbsent", on="standby"), Expected("FailoverNotReady")), sample=True,
)
POSTGRES_DOWN = Fault(
    "PostgreSQL of the remote standby cannot start", break_on("remote", "postgres-cannot-start"), heal,
    (Expected("PostgresDown", on="remote"), Expected("RedundancyReduced", "warning", muted_by=("PostgresDown",))),
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
UNFENCED = Fault(
    "the watchdog device of a host is missing", lose_watchdog, remove_watchdog, (Expected("FencingFailed", on="remote"),), needs="failover_watchdog_unarmed",
)
SPLIT_BRAIN = Fault("agent, guard and supervisor of the primary are frozen", split, heal, (Expected("SplitBrain"),))
DNS = Fault(
    "the host of the primary is lost, and Route 53 rejects every change", lose_dns_and_primary, heal,
    (Expected("DnsMismatch"), Expected("FailoverHappened", "warning")),
)
FLAPPING = Fault(
    "the host of the primary is lost again and again", lose_primary_again, lambda _scene: None, (Expected("FailoverFlapping", resolves_within=420),), incidents=3,
)
DIVERGED = Fault(
    "a standby has WAL that the new primary lacks", diverge, rejoin_automatically, (Expected("TimelineDiverged", on="remote"),), incidents=2,
)
REPLAY_PAUSED = Fault(
    "replay is paused", break_on("remote", "replay-paused"), heal, (Expected("ReplicationLagHigh", "warning", on="remote"),),
)
RESOLVER_LOST = Fault("the resolver of the primary does not answer", lose_resolver, Scene.clean_up, (Expected("DnsUnresolved", "warning"),))
ZONE_SHARED = Fault("all hosts are in one zone", share_zone, Scene.clean_up, (Expected("NodesShareZone", "warning"),))

GROUPS = ((AGENT_GONE,), (POSTGRES_DOWN,), (LEASE_STORE_DOWN,), (ISOLATED,), (REGION_LOST,), (UNFENCED,), (SPLIT_BRAIN,), (DNS,), (FLAPPING,), (DIVERGED,), (REPLAY_PAUSED,), (RESOLVER_LOST,), (ZONE_SHARED,))
