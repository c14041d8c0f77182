"""Steps of `make test-ansible`, by name and in their order. Each returns what it checked."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import bad_input
from aws import write_secret
from cluster import ANSIBLE, ENVIRONMENT, TASK
from failed import Failed
from inventory import make_ca
from topology import HOSTS, NODES, PRIMARY_REGION, ROOT, SPARE
from writer import split_brain_secs

SITE_SECS = 360
SECOND_RUN_SECS = 60
FAILOVER_SECS = 30
RESTART_GAP_SECS = 2.0
STEPS = {}


@dataclass
class Result:
    checked: str
    changed: int | str = "-"


@dataclass(frozen=True)
class Step:
    name: str
    run: object
    # Whether the step needs the healthy cluster that `site` makes.
    needs_site: bool = True


def step(name, needs_site=True):
    def add(function):
        STEPS[name] = Step(name, function, needs_site)
        return function

    return add


@step("check-bare", needs_site=False)
def check_bare(cluster, _options):
    """`--check` on bare hosts."""
    cluster.fresh()
    before = cluster.fingerprint()
    done = cluster.site(check=True)
    cluster.compare(before, cluster.fingerprint())
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
    primary = cluster.wait_until_healthy(60)
    cluster.prepare_clients(primary)
    with cluster.writer("site") as writer:
        writer.wait_for_write(10)
        time.sleep(1)
    _at_most(done.seconds, SITE_SECS, "site.yml from bare hosts")
    return Result(f"healthy in {done.seconds:.0f} s; {cluster.verify(writer)}", done.changed)


@step("second-run")
def second_run(cluster, _options):
    done = cluster.unchanged()
    _at_most(done.seconds, SECOND_RUN_SECS, "the second run")
    return Result(f"0 changed in {done.seconds:.0f} s", 0)


@step("check-configured")
def check_configured(cluster, _options):
    before = cluster.fingerprint()
    done = cluster.site(check=True)
    if done.changed:
        raise Failed(f"--check on configured hosts would change {'; '.join(done.changes())}; {done.log}")
    cluster.compare(before, cluster.fingerprint())
    return Result(f"{len(before)} hosts unchanged", 0)


@step("backup")
def backup(cluster, _options):
    """A base backup by the timer, on the primary alone."""
    primary = cluster.wait_until_healthy()
    before = len(_backups(cluster, primary))
    # The last by name: systemd reads drop-ins of all directories in that order, and an empty OnCalendar= resets.
    drop_in = "/run/systemd/system/backup-agent.timer.d"
    now = "[Timer]\nOnCalendar=\nOnActiveSec=1s\nAccuracySec=100ms\nRandomizedDelaySec=0\nPersistent=false\n"
    for name in cluster.nodes():
        cluster.hosts.exec(name, "sh", "-c", f"mkdir -p {drop_in}; cat > {drop_in}/zz-now.conf; systemctl daemon-reload; systemctl restart backup-agent.timer", input=now)
    try:
        made = _until("a base backup by the timer", 120, lambda: [each for each in _backups(cluster, primary)][before:])
        _until(
            "the service to end", 60,
            lambda: cluster.hosts.exec(primary, "systemctl", "show", "--value", "--property=ActiveState", "backup-agent.service") == "inactive",
        )
    finally:
        for name in cluster.nodes():
            cluster.hosts.exec(name, "sh", "-c", f"rm -rf {drop_in}; systemctl daemon-reload; systemctl restart backup-agent.timer")
    for name in cluster.nodes():
        state = cluster.hosts.exec(name, "systemctl", "show", "--value", "--property=Result", "backup-agent.service")
        if state not in ("success", "exec-condition"):
            raise Failed(f"backup-agent.service on {name} ended with {state}")
        if not cluster.hosts.exec(name, "systemctl", "show", "--value", "--property=NextElapseUSecRealtime", "backup-agent.timer"):
            raise Failed(f"backup-agent.timer on {name} has no next time")
    return Result(f"{len(made)} backup by the timer, standbys skipped, next runs scheduled")


@step("backup-playbook")
def backup_playbook(cluster, _options):
    primary = cluster.wait_until_healthy()
    before = len(_backups(cluster, primary))
    done = cluster.playbook("backup.yml")
    if len(_backups(cluster, primary)) != before + 1:
        raise Failed(f"backup.yml stored no backup; {done.log}")
    return Result(f"backup {before + 1} stored", done.changed)


@step("restore")
def restore(cluster, _options):
    """A backup, restored beside a standby and compared with what was acknowledged."""
    primary = cluster.wait_until_healthy()
    host = next(name for name in cluster.nodes() if HOSTS[name].region != PRIMARY_REGION)
    with cluster.writer("restore") as writer:
        if not _backups(cluster, primary):
            cluster.playbook("backup.yml")
        writer.wait_for_write(10)
        time.sleep(1)
    cluster.sql(primary, "SELECT pg_switch_wal()")
    archived = "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 16777216) FROM pg_stat_archiver"
    _until("the archive of the last segment", 60, lambda: cluster.sql(primary, archived) == "t")
    identity = (cluster.directory / "secrets" / "identity.txt").read_text()
    cluster.hosts.exec(host, "sh", "-c", "install -d -o postgres -m 0700 /var/lib/postgresql/trial && install -o postgres -m 0400 /dev/stdin /var/lib/postgresql/trial/identity", input=identity)
    script = f"""
set -eu
export {ENVIRONMENT}
cd /var/lib/postgresql/trial
{{ grep -v ^identity-file /etc/causeway/backup-agent.toml | sed '1i identity-file = "/var/lib/postgresql/trial/identity"'; }} > settings.toml
export BACKUP_AGENT_CONFIG=/var/lib/postgresql/trial/settings.toml
backup-agent restore --target-directory /var/lib/postgresql/trial/data
cat > server.conf <<'CONF'
port = 5499
listen_addresses = ''
unix_socket_directories = '/tmp'
hba_file = '/var/lib/postgresql/trial/hba.conf'
shared_buffers = 64MB
max_connections = 200
CONF
echo 'local all all peer' > hba.conf
/usr/lib/postgresql/15/bin/pg_ctl -D data -o '-c config_file=/var/lib/postgresql/trial/server.conf' -w -t 120 -l log start >/dev/null || {{ tail -20 log >&2; exit 1; }}
for try in $(seq 600); do
    [ "$(psql -XAt -h /tmp -p 5499 -d postgres -c 'SELECT pg_is_in_recovery()')" = t ] || break
    sleep 0.1
done
psql -XAt -h /tmp -p 5499 -d causeway -c "SELECT number FROM public.harness WHERE run = '{writer.run}'"
/usr/lib/postgresql/15/bin/pg_ctl -D data -m immediate -w stop >/dev/null
"""
    try:
        rows = cluster.hosts.exec(host, "runuser", "-u", "postgres", "--", "sh", "-c", script)
    finally:
        cluster.hosts.exec(host, "sh", "-c", "pkill -QUIT -f '[/]trial/server.conf'; sleep 0.2; rm -rf /var/lib/postgresql/trial", check=False)
    restored = {int(row) for row in rows.splitlines() if row.isdigit()}
    lost = {number for number, _, _ in writer.acknowledged} - restored
    if lost:
        raise Failed(f"{len(lost)} of {len(writer.acknowledged)} acknowledged rows are not in the restored database")
    return Result(f"{len(restored)} rows in the restored database, 0 of the acknowledged ones missing")


@step("failover")
def failover(cluster, _options):
    """The primary's host loses power. The cluster fails over without a command, and the host rejoins."""
    primary = cluster.wait_until_healthy()
    with cluster.writer("failover") as writer:
        writer.wait_for_write(10)
        time.sleep(1)
        began = time.monotonic()
        cluster.hosts.kill(primary)
        back = writer.wait_for_write(90, after=began, not_on=[cluster.topology.address(primary)]) - began
        time.sleep(1)
        cluster.hosts.start(primary)
        cluster.hosts.wait(primary)
        new = cluster.wait_until_healthy()
    _at_most(back, FAILOVER_SECS, "the failover")
    told = cluster.verify(writer)
    done = cluster.unchanged()
    return Result(f"{primary} killed, {new} accepts writes after {back:.1f} s, {primary} streams again; {told}; second run 0 changed in {done.seconds:.0f} s", done.changed)


@step("frozen")
def frozen(cluster, _options):
    """Agent and guard of the primary frozen together: systemd ends PostgreSQL before another node accepts writes."""
    primary = cluster.wait_until_healthy()
    address = cluster.topology.address(primary)
    with cluster.writer("frozen-old", [primary]) as pinned, cluster.writer("frozen") as writer:
        pinned.wait_for_write(10)
        writer.wait_for_write(10)
        pids = [
            cluster.hosts.exec(primary, "systemctl", "show", "--value", "--property=MainPID", f"failover-ctl-{unit}.service")
            for unit in ("agent", "guard")
        ]
        began = time.monotonic()
        cluster.hosts.exec(primary, "kill", "-STOP", *pids)
        back = writer.wait_for_write(90, after=began, not_on=[address]) - began
        time.sleep(3)
        # What systemd has not replaced goes on.
        cluster.hosts.exec(primary, "kill", "-CONT", *pids, check=False)
        new = cluster.wait_until_healthy()
    both = split_brain_secs([pinned, writer])
    if both > 0:
        raise Failed(f"two nodes acknowledged writes at once for {both:.2f} s")
    told = cluster.verify(writer)
    cluster.verify(pinned)
    done = cluster.unchanged()
    return Result(f"split-brain 0 s; {new} accepts writes after {back:.1f} s; {told}", done.changed)


@step("region-cut")
def region_cut(cluster, _options):
    """The primary's region is cut off, and the `failover` playbook promotes the other one."""
    _primary_in(cluster, PRIMARY_REGION)
    target = next(HOSTS[name].region for name in cluster.nodes() if HOSTS[name].region != PRIMARY_REGION)
    inside = {cluster.topology.address(name) for name in cluster.nodes() if HOSTS[name].region == PRIMARY_REGION}
    with cluster.writer("region") as writer:
        writer.wait_for_write(10)
        time.sleep(1)
        began = time.monotonic()
        cluster.hosts.network.cut(PRIMARY_REGION)
        try:
            time.sleep(12)
            planned = cluster.playbook("failover.yml", {"target": target}, check=True)
            done = cluster.playbook("failover.yml", {"target": target, "accept_loss": "64MiB"})
            back = writer.wait_for_write(60, after=began, not_on=inside) - began
        finally:
            cluster.hosts.network.heal()
        if writer.acknowledged[-1][1] in inside:
            raise Failed("a node of the region that was cut off accepts writes after the promotion")
        cluster.wait_until_healthy(240)
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
        writer.wait_for_write(10)
        done = cluster.playbook("switchover.yml", {"target": target})
        writer.wait_for_write(10)
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
    with cluster.writer("rejoin") as writer:
        done = cluster.playbook("rejoin.yml", {"node": node, "rebuild": True})
        cluster.wait_until_healthy()
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"{node} rebuilt, {writer.longest_gap():.1f} s without writes; {told}; second run {same.changed} changed", done.changed)


@step("add-node")
def add_node(cluster, _options):
    cluster.wait_until_healthy()
    cluster.hosts.create(SPARE)
    cluster.hosts.wait(SPARE)
    cluster.pin(SPARE)
    nodes = [*cluster.nodes(), SPARE]
    cluster.inventory.write(nodes)
    with cluster.writer("add", list(NODES)) as writer:
        writer.wait_for_write(10)
        done = cluster.playbook("add-node.yml", {"node": SPARE})
        cluster.wait_until_healthy(nodes=nodes)
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"{SPARE} streams, {len(writer.failed)} statements failed; {told}; second run {same.changed} changed", done.changed)


@step("remove-node")
def remove_node(cluster, options):
    if SPARE not in cluster.nodes():
        add_node(cluster, options)
    if cluster.wait_until_healthy() == SPARE:
        _primary_in(cluster, PRIMARY_REGION)
    with cluster.writer("remove", list(NODES)) as writer:
        writer.wait_for_write(10)
        done = cluster.playbook("remove-node.yml", {"node": SPARE})
        cluster.hosts.remove(SPARE)
        cluster.inventory.write([name for name in cluster.nodes() if name != SPARE])
        after = cluster.site()
        cluster.wait_until_healthy()
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"{SPARE} is gone from every host, {len(writer.failed)} statements failed; {told}; second run {same.changed} changed", done.changed + after.changed)


@step("rehydrate")
def rehydrate(cluster, _options):
    """A standby's host, replaced with its volumes kept."""
    primary = cluster.wait_until_healthy()
    node = next(name for name in cluster.nodes() if name != primary)
    made = cluster.hosts.exec(node, "stat", "--format=%W", "/var/lib/postgresql/15/main/PG_VERSION")
    with cluster.writer("rehydrate") as writer:
        cluster.hosts.replace(node)
        cluster.pin(node)
        done = cluster.playbook("rehydrate.yml", {"node": node})
        cluster.wait_until_healthy()
    if cluster.hosts.exec(node, "stat", "--format=%W", "/var/lib/postgresql/15/main/PG_VERSION") != made:
        raise Failed(f"the data directory of {node} was copied anew, although its volume was kept")
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"{node} on a new host with its data, in {done.seconds:.0f} s; {told}; second run {same.changed} changed", done.changed)


@step("minor-upgrade")
def minor_upgrade(cluster, _options):
    primary = cluster.wait_until_healthy()
    version = "SELECT current_setting('server_version')"
    before = cluster.sql(primary, version)
    for name in cluster.nodes():
        cluster.hosts.exec(name, "rm", "-f", "/etc/apt/preferences.d/older-minor")
    with cluster.writer("upgrade") as writer:
        writer.wait_for_write(10)
        done = cluster.playbook("minor-upgrade.yml")
        writer.wait_for_write(10)
    cluster.wait_until_healthy()
    after = {cluster.sql(name, version) for name in cluster.nodes()}
    if len(after) != 1 or after == {before}:
        raise Failed(f"the nodes run {', '.join(sorted(after))} after {before}")
    told = cluster.verify(writer)
    _at_most(writer.longest_gap(), RESTART_GAP_SECS, "the longest time without writes")
    same = cluster.unchanged()
    return Result(f"{before} to {after.pop()}, at most {writer.longest_gap():.1f} s without writes; {told}; second run {same.changed} changed", done.changed)


@step("package-upgrade")
def package_upgrade(cluster, _options):
    """Newer packages of the platform interrupt no client."""
    primary = cluster.wait_until_healthy()
    packages = _newer_packages(cluster)
    with cluster.writer("packages") as writer:
        writer.wait_for_write(10)
        started = cluster.hosts.exec(primary, "systemctl", "show", "--value", "--property=ExecMainStartTimestampMonotonic", "failover-ctl-guard.service")
        done = cluster.site(variables={"causeway_packages": str(packages)})
        writer.wait_for_write(10)
        if cluster.wait_until_healthy() != primary:
            raise Failed("an upgrade of packages moved the primary")
    now = cluster.hosts.exec(primary, "systemctl", "show", "--value", "--property=ExecMainStartTimestampMonotonic", "failover-ctl-guard.service")
    if now != started:
        raise Failed("an upgrade of packages restarted guard")
    for name in cluster.nodes():
        if not cluster.hosts.exec(name, "dpkg-query", "-W", "-f", "${Version}", "failover-ctl").endswith("+harness"):
            raise Failed(f"failover-ctl was not upgraded on {name}")
        if int(cluster.hosts.exec(name, "stat", "--format=%Z", "/usr/bin/failover-ctl")) > _started(cluster, name, "failover-ctl-agent.service") + 1:
            raise Failed(f"the agent on {name} runs the old program")
    _none_failed(writer)
    cluster.site()
    return Result(f"0 statements failed, guard not restarted; {cluster.verify(writer)}", done.changed)


def _started(cluster, name, unit):
    """When a unit's process started, in seconds since 1970."""
    since_boot = float(cluster.hosts.exec(name, "systemctl", "show", "--value", "--property=ExecMainStartTimestampMonotonic", unit)) / 1e6
    return time.time() - time.monotonic() + since_boot


@step("rotate-secrets")
def rotate_secrets(cluster, _options):
    cluster.wait_until_healthy()
    old = {}
    for name in ("replicator", "rewinder", "command-signing-key", "api-owner", "api-service", "monitoring"):
        file = cluster.inventory.secrets / name
        old[name] = file.read_text()
        write_secret(file, os.urandom(32).hex())
    with cluster.writer("secrets") as writer:
        writer.wait_for_write(10)
        done = cluster.playbook("rotate-secrets.yml")
        primary = cluster.wait_until_healthy()
    _none_failed(writer)
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
    with cluster.writer("ca") as writer:
        writer.wait_for_write(10)
        for authorities in ((old, new), (new, old), (new,)):
            inventory.set_authorities(authorities)
            done = cluster.playbook("rotate-ca.yml")
            changed += done.changed
            cluster.wait_until_healthy()
            with cluster.connect() as session:
                session.execute("SELECT 1")
        bundle.write_text((inventory.secrets / f"{new}.crt").read_text())
        with cluster.connect() as session:
            session.execute("SELECT 1")
    _none_failed(writer)
    same = cluster.unchanged()
    return Result(f"every node has a certificate of the new CA; 0 statements failed; {cluster.verify(writer)}; second run {same.changed} changed", changed)


@step("restore-cluster")
def restore_cluster(cluster, _options):
    """All hosts and volumes lost; the cluster is restored from the other region's bucket onto empty hosts."""
    primary = cluster.wait_until_healthy()
    with cluster.writer("cluster") as writer:
        writer.wait_for_write(10)
        cluster.playbook("backup.yml")
        time.sleep(1)
    cluster.sql(primary, "SELECT pg_switch_wal()")
    _until("the archive", 60, lambda: cluster.sql(primary, "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 16777216) FROM pg_stat_archiver") == "t")
    other = next(HOSTS[name].region for name in cluster.nodes() if HOSTS[name].region != PRIMARY_REGION)
    names = cluster.nodes()
    for name in names:
        cluster.hosts.remove(name)
    for name in names:
        cluster.hosts.create(name)
    for name in names:
        cluster.hosts.wait(name)
    identity = cluster.inventory.secrets / "identity.txt"
    variables = {
        "restore_from": other,
        "old_hosts_are_gone": True,
        "restore_identity": f"{{{{ lookup('ansible.builtin.file', '{identity}') }}}}",
    }
    refused = cluster.playbook("restore.yml", variables | {"old_hosts_are_gone": False}, fails=True)
    if "old_hosts_are_gone" not in refused.output:
        raise Failed(f"restore.yml does not ask for the old hosts; {refused.log}")
    done = cluster.playbook("restore.yml", variables)
    cluster.wait_until_healthy()
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"three nodes from the bucket of {other} in {done.seconds:.0f} s; {told}; second run {same.changed} changed", done.changed)


@step("kills", needs_site=False)
def kills(cluster, options):
    """site.yml, killed at random tasks of a run on bare hosts, converges."""
    generator = random.Random(options.seed)
    tasks, left, told = _number_of_tasks(cluster), options.kills, []
    while left:
        # Up to three kills in one installation, each later than the one before.
        chosen = sorted(generator.sample(range(3, tasks), min(left, 3)))
        left -= len(chosen)
        cluster.fresh()
        for number in chosen:
            told.append(_kill_at(cluster, number, generator.random()))
        cluster.site()
        primary = cluster.wait_until_healthy(60)
        cluster.prepare_clients(primary)
        with cluster.writer("kills") as writer:
            writer.wait_for_write(10)
        cluster.verify(writer)
        cluster.unchanged()
    return Result(f"seed {options.seed}, of {tasks} tasks; killed at {'; '.join(told)}; each time healthy, and then 0 changed", 0)


# Parts of steps


def _backups(cluster, name):
    listed = cluster.hosts.exec(name, "runuser", "-u", "postgres", "--", "env", ENVIRONMENT, "backup-agent", "list", "--json")
    found = json.loads(listed)
    return found if isinstance(found, list) else found["backups"]


def _until(what, timeout, condition):
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"not within {timeout} s: {what}")
        time.sleep(0.25)


def _at_most(seconds, limit, what):
    if seconds > limit:
        raise Failed(f"{what} took {seconds:.1f} s; the goal is {limit}")


def _none_failed(writer):
    if writer.failed:
        _, error, _ = writer.failed[0]
        raise Failed(f"{len(writer.failed)} statements of the client failed: {error}")


def _lost(cluster, writer):
    with cluster.connect() as session:
        return len(writer.lost(session))


def _primary_in(cluster, region):
    """Moves the primary into a region, if it is elsewhere."""
    primary = cluster.wait_until_healthy()
    if HOSTS[primary].region != region:
        cluster.playbook("switchover.yml", {"target": next(name for name in cluster.nodes() if HOSTS[name].region == region)})
        primary = cluster.wait_until_healthy()
    return primary


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


def _newer_packages(cluster):
    """The packages of target/package with a higher version."""
    into = cluster.directory / "newer-packages"
    into.mkdir(exist_ok=True)
    for old in into.glob("*.deb"):
        old.unlink()
    for package in sorted((ROOT / "target" / "package").glob("*.deb")):
        unpacked = cluster.directory / "unpacked"
        subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(unpacked)], check=True)
        control = unpacked / "DEBIAN" / "control"
        version = re.search(r"^Version: (.+)$", control.read_text(), re.MULTILINE)[1]
        control.write_text(control.read_text().replace(f"Version: {version}", f"Version: {version}+harness"))
        name, _, rest = package.name.partition("_")
        target = into / f"{name}_{version}+harness_{rest.rpartition('_')[2]}"
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Znone", str(unpacked), str(target)], check=True, capture_output=True)
        subprocess.run(["rm", "-rf", str(unpacked)], check=True)
    return into


def _number_of_tasks(cluster):
    """Tasks that site.yml begins on bare hosts, by the newest complete log, or by Ansible's own list."""
    counts = [len(TASK.findall(log.read_text())) for log in (cluster.directory / "logs").glob("*-site.log") if "PLAY RECAP" in log.read_text()]
    if counts:
        return max(counts)
    program = os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
    listed = subprocess.run([program, "-ilocalhost,", "--list-tasks", str(ANSIBLE / "site.yml")], cwd=ANSIBLE, capture_output=True, text=True)
    return max(10, len(re.findall(r"TAGS: \[", listed.stdout)))


def _kill_at(cluster, number, delay):
    """Kills site.yml some time into a task. Returns the task."""
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
    began = re.findall(r"^(?:TASK|RUNNING HANDLER) \[(.*)\]", log.read_text(), re.MULTILINE)
    return f"{len(began)} ({began[-1]})" if ended is None else f"{len(began)} (it had ended)"
