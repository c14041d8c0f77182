"""Steps of `make test-ansible`, by name and in their order. Each returns what it checked."""

import contextlib
import os
import time

import backup_steps  # noqa: F401 - registers its steps, as the next do
import bad_input
import beside  # noqa: F401
import kills  # noqa: F401
import upgrades  # noqa: F401
from aws import write_secret
from failed import Failed
from inventory import make_ca
from step import Result, against, first_backup, none_failed, primary_in, show, step
from topology import HOSTS, NODES, PRIMARY_REGION, SPARE
from writer import split_brain_secs

SITE_SECS = 360
SECOND_RUN_SECS = 60
FAILOVER_SECS = 30


@step("check-bare", needs_site=False)
def check_bare(cluster, _options):
    """`--check` on bare hosts."""
    cluster.fresh()
    before = cluster.fingerprint()
    done = cluster.site(check=True)
    cluster.compare(before, cluster.fingerprint())
    if not done.changed:
        raise Failed(f"--check on bare hosts would change nothing; {done.log}")
    return Result(f"{len(before)} hosts unchanged", f"would change {done.changed}")


@step("bad-input", needs_site=False)
def bad_inputs(cluster, _options):
    """Each named by `preflight`, before anything is changed."""
    if not cluster.bare():
        cluster.fresh()
    before = cluster.fingerprint()
    named = bad_input.run(cluster)
    cluster.compare(before, cluster.fingerprint())
    return Result(f"{named} bad inputs named, nothing changed")


@step("site", needs_site=False)
def site(cluster, _options):
    """From nothing to a healthy cluster."""
    cluster.fresh()
    done = cluster.site()
    primary = cluster.wait_until_healthy()
    cluster.prepare_clients(primary)
    with cluster.writer("site") as writer:
        writer.wait_for_write()
        time.sleep(1)
    told = cluster.verify(writer)
    first_backup(cluster)
    return Result(f"healthy in {against(done.seconds, SITE_SECS)}; {told}; the first base backup without a command", done.changed)


@step("second-run")
def second_run(cluster, _options):
    done = cluster.unchanged()
    return Result(f"0 changed in {against(done.seconds, SECOND_RUN_SECS)}", 0)


@step("check-configured")
def check_configured(cluster, _options):
    before = cluster.fingerprint()
    done = cluster.site(check=True)
    if done.changed:
        raise Failed(f"--check on configured hosts would change {'; '.join(done.changes())}; {done.log}")
    cluster.compare(before, cluster.fingerprint())
    return Result(f"{len(before)} hosts unchanged", 0)


@step("failover")
def failover(cluster, _options):
    """The primary's host loses power. The cluster fails over without a command, and the host rejoins."""
    primary = cluster.wait_until_healthy()
    with cluster.writer("failover-old", [primary]) as pinned, cluster.writer("failover") as writer:
        pinned.wait_for_write()
        writer.wait_for_write()
        time.sleep(1)
        began = time.monotonic()
        cluster.hosts.kill(primary)
        back = writer.wait_for_write(after=began, not_on=[cluster.topology.address(primary)]) - began
        time.sleep(1)
        cluster.hosts.start(primary)
        cluster.hosts.wait(primary)
        new = cluster.wait_until_healthy()
    if new == primary:
        raise Failed(f"{primary} is the primary again, and no command moved it there")
    no_split_brain([pinned, writer])
    told = cluster.verify(writer)
    done = cluster.unchanged()
    return Result(
        f"{primary} killed, {new} accepts writes after {against(back, FAILOVER_SECS)}, {primary} streams again; split-brain 0 s; {told}; "
        f"second run 0 changed in {done.seconds:.0f} s",
        done.changed,
    )


@step("frozen")
def frozen(cluster, _options):
    """Agent and guard of the primary frozen together: systemd ends PostgreSQL before another node accepts writes."""
    primary = cluster.wait_until_healthy()
    address = cluster.topology.address(primary)
    with cluster.writer("frozen-old", [primary]) as pinned, cluster.writer("frozen") as writer:
        pinned.wait_for_write()
        writer.wait_for_write()
        pids = [
            show(cluster, primary, f"failover-ctl-{unit}.service", "MainPID")
            for unit in ("agent", "guard")
        ]
        began = time.monotonic()
        cluster.hosts.exec(primary, "kill", "-STOP", *pids)
        back = writer.wait_for_write(after=began, not_on=[address]) - began
        time.sleep(3)
        # What systemd has not replaced goes on.
        cluster.hosts.exec(primary, "kill", "-CONT", *pids, check=False)
        new = cluster.wait_until_healthy()
    no_split_brain([pinned, writer])
    told = cluster.verify(writer)
    cluster.verify(pinned)
    done = cluster.unchanged()
    return Result(f"split-brain 0 s; {new} accepts writes after {back:.1f} s; {told}", done.changed)


@step("region-cut")
def region_cut(cluster, _options):
    """The primary's region is cut off, and the `failover` playbook promotes the other one."""
    primary_in(cluster, PRIMARY_REGION)
    target = next(HOSTS[name].region for name in cluster.nodes() if HOSTS[name].region != PRIMARY_REGION)
    inside = {cluster.topology.address(name) for name in cluster.nodes() if HOSTS[name].region == PRIMARY_REGION}
    with cluster.writer("region") as writer:
        writer.wait_for_write()
        time.sleep(1)
        began = time.monotonic()
        cluster.hosts.network.cut(PRIMARY_REGION)
        try:
            # Longer than a lease: the other region takes nothing over without a command.
            time.sleep(12)
            if elsewhere := [server for _, server, at in writer.acknowledged if at > began and server not in inside]:
                raise Failed(f"{elsewhere[0]} of the other region accepts writes before an operator promoted it")
            planned = cluster.playbook("failover.yml", {"target": target}, check=True)
            done = cluster.playbook("failover.yml", {"target": target, "accept_loss": "64MiB"})
            back = writer.wait_for_write(after=began, not_on=inside) - began
        finally:
            cluster.hosts.network.heal()
        if writer.acknowledged[-1][1] in inside:
            raise Failed("a node of the region that was cut off accepts writes after the promotion")
        cluster.wait_until_healthy()
    lost = _lost(cluster, writer)
    same = cluster.unchanged()
    return Result(
        f"plan shown, {target} accepts writes {back:.0f} s after the cut, {done.seconds:.0f} s of it the playbook; {len(writer.acknowledged)} rows "
        f"acknowledged, {lost} lost of the accepted 64 MiB; both others stream again; second run {same.changed} changed",
        planned.changed + done.changed,
    )


@step("switchover")
def switchover(cluster, _options):
    primary = cluster.wait_until_healthy()
    target = next(name for name in NODES if name != primary and HOSTS[name].region == PRIMARY_REGION)
    with cluster.writer("switchover") as writer:
        writer.wait_for_write()
        done = cluster.playbook("switchover.yml", {"target": target})
        writer.wait_for_write()
    if cluster.wait_until_healthy() != target:
        raise Failed(f"{target} is not the primary")
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"{target} is primary, {writer.longest_gap():.1f} s without writes; {told}; second run {same.changed} changed", done.changed)


@step("rejoin")
def rejoin(cluster, _options):
    """A standby, rebuilt by command under a writer."""
    primary = cluster.wait_until_healthy()
    node = next(name for name in cluster.nodes() if name != primary)
    made = _made(cluster, node)
    with cluster.writer("rejoin") as writer:
        writer.wait_for_write()
        done = cluster.playbook("rejoin.yml", {"node": node, "rebuild": True})
        cluster.wait_until_healthy()
    if _made(cluster, node) == made:
        raise Failed(f"the data directory of {node} is the old one; {done.log}")
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"{node} rebuilt, {writer.longest_gap():.1f} s without writes; {told}; second run {same.changed} changed", done.changed)


@step("add-node")
def add_node(cluster, _options):
    cluster.wait_until_healthy()
    cluster.hosts.create(SPARE)
    cluster.hosts.wait(SPARE)
    cluster.pin(SPARE)
    cluster.inventory.add(SPARE)
    nodes = cluster.nodes()
    with cluster.writer("add", list(NODES)) as writer:
        writer.wait_for_write()
        done = cluster.playbook("add-node.yml", {"node": SPARE})
        cluster.wait_until_healthy(nodes=nodes)
    none_failed(writer)
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"{SPARE} streams, 0 statements failed; {told}; second run {same.changed} changed", done.changed)


@step("remove-node")
def remove_node(cluster, options):
    if SPARE not in cluster.nodes():
        add_node(cluster, options)
    if cluster.wait_until_healthy() == SPARE:
        primary_in(cluster, PRIMARY_REGION)
    with cluster.writer("remove", list(NODES)) as writer:
        writer.wait_for_write()
        done = cluster.playbook("remove-node.yml", {"node": SPARE})
        cluster.hosts.remove(SPARE)
        cluster.inventory.remove(SPARE)
        after = cluster.site()
        cluster.wait_until_healthy()
    none_failed(writer)
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"{SPARE} is gone from every host, 0 statements failed; {told}; second run {same.changed} changed", done.changed + after.changed)


@step("rehydrate")
def rehydrate(cluster, _options):
    """A standby's host, replaced with its volumes kept."""
    primary = cluster.wait_until_healthy()
    node = next(name for name in cluster.nodes() if name != primary)
    made = _made(cluster, node)
    with cluster.writer("rehydrate") as writer:
        cluster.hosts.replace(node)
        cluster.pin(node)
        done = cluster.playbook("rehydrate.yml", {"node": node})
        cluster.wait_until_healthy()
    if _made(cluster, node) != made:
        raise Failed(f"the data directory of {node} was copied anew, although its volume was kept")
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"{node} on a new host with its data, in {done.seconds:.0f} s; {told}; second run {same.changed} changed", done.changed)


@step("rotate-secrets")
def rotate_secrets(cluster, _options):
    cluster.wait_until_healthy()
    old = {}
    for name in ("replicator", "rewinder", "command-signing-key", "api-owner", "api-service", "monitoring"):
        file = cluster.inventory.secrets / name
        old[name] = file.read_text()
        write_secret(file, os.urandom(32).hex())
    with cluster.writer("secrets") as writer:
        writer.wait_for_write()
        done = cluster.playbook("rotate-secrets.yml")
        primary = cluster.wait_until_healthy()
    none_failed(writer)
    for role, user in (("api-service", "api_service"), ("api-owner", "api_owner")):
        for password, accepted in ((old[role], False), ((cluster.inventory.secrets / role).read_text(), True)):
            if _logs_in(cluster, primary, user, password) != accepted:
                raise Failed(f"{user} {'cannot log in with the new' if accepted else 'can log in with the old'} password")
    _no_secret_shown(cluster, [*old.values(), *((cluster.inventory.secrets / name).read_text() for name in old)])
    same = cluster.unchanged()
    return Result(f"old passwords rejected, new ones accepted, none in logs; 0 statements failed; {cluster.verify(writer)}; second run {same.changed} changed", done.changed)


@step("rotate-ca")
def rotate_ca(cluster, _options):
    """Three runs: both trusted, the new one signs, the old one gone."""
    cluster.wait_until_healthy()
    inventory, new = cluster.inventory, f"ca-{int(time.time())}"
    old = inventory.authorities[0]
    make_ca(inventory.secrets, new)
    bundle = inventory.secrets / "client-ca.crt"
    bundle.write_text("".join((inventory.secrets / f"{name}.crt").read_text() for name in (old, new)))
    changed = 0
    ways = (False, True) if inventory.poolers else (False,)
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(cluster.writer("ca", pooler=pooler)) for pooler in ways]
        for writer in writers:
            writer.wait_for_write()
        for authorities in ((old, new), (new, old), (new,)):
            inventory.set_authorities(authorities)
            done = cluster.playbook("rotate-ca.yml")
            changed += done.changed
            cluster.wait_until_healthy()
            _connects(cluster, ways)
        bundle.write_text((inventory.secrets / f"{new}.crt").read_text())
        _connects(cluster, ways)
    for writer in writers:
        none_failed(writer)
    for name in cluster.nodes():
        trusted = cluster.hosts.exec(name, "cat", "/etc/causeway/tls/root.crt")
        if trusted.strip() != (inventory.secrets / f"{new}.crt").read_text().strip():
            raise Failed(f"{name} does not trust the new CA alone")
        cluster.hosts.exec(name, "openssl", "verify", "-CAfile", "/etc/causeway/tls/root.crt", "/etc/causeway/tls/server.crt")
    told = " and, through the pooler, ".join(cluster.verify(writer) for writer in writers)
    same = cluster.unchanged()
    return Result(f"every node has a certificate of the new CA; 0 statements failed; {told}; second run {same.changed} changed", changed)


# Parts of steps


def _connects(cluster, ways):
    """Opens a connection to the primary, directly and through its pooler."""
    for pooler in ways:
        with cluster.connect(pooler=pooler) as session:
            session.execute("SELECT 1")


def no_split_brain(writers):
    both = split_brain_secs(writers)
    if both > 0:
        raise Failed(f"two nodes acknowledged writes at once for {both:.2f} s")


def _made(cluster, node):
    """When the data directory of a node was made, by this file's birth in seconds and its inode."""
    return cluster.hosts.exec(node, "stat", "--format=%W %i", "/var/lib/postgresql/15/main/PG_VERSION")


def _lost(cluster, writer):
    with cluster.connect() as session:
        return len(writer.lost(session))


def _logs_in(cluster, primary, user, password):
    import psycopg
    import writer

    with contextlib.suppress(psycopg.OperationalError):
        writer.connection(cluster.topology, [primary], password, cluster.ca_bundle(), user=user).close()
        return True
    return False


def _no_secret_shown(cluster, values):
    """No secret in what ansible printed, and none in the journals."""
    shown = {log.name: log.read_text() for log in (cluster.directory / "logs").glob("*.log")}
    for name in cluster.nodes():
        shown[f"the journal of {name}"] = cluster.hosts.exec(name, "journalctl", "--no-pager", "--quiet")
    for place, text in shown.items():
        for value in values:
            if value in text:
                raise Failed(f"a secret is in {place}")


