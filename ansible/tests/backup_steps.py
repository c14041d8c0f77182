"""Backups and what is restored from them."""

import time

import prometheus
from cluster import ENVIRONMENT
from failed import Failed
from inventory import NAME
from step import Result, archive, first_backup, show, step, stored, until
from topology import DRILL, HOSTS, PRIMARY_REGION, ROOT


@step("backup")
def backup(cluster, _options):
    """A base backup by the timer, on the primary alone."""
    primary = cluster.wait_until_healthy()
    first_backup(cluster)
    before = len(stored(cluster, primary))
    # The last by name: systemd reads drop-ins of all directories in that order, and an empty OnCalendar= resets.
    drop_in = "/run/systemd/system/backup-agent.timer.d"
    began = {name: show(cluster, name, "backup-agent.service", "InactiveExitTimestampMonotonic") for name in cluster.nodes()}
    now = "[Timer]\nOnCalendar=\nOnActiveSec=1s\nAccuracySec=100ms\nRandomizedDelaySec=0\nPersistent=false\n"
    for name in cluster.nodes():
        cluster.hosts.exec(name, "sh", "-c", f"mkdir -p {drop_in}; cat > {drop_in}/zz-now.conf; systemctl daemon-reload; systemctl restart backup-agent.timer", input=now)
    try:
        for name in cluster.nodes():
            until(f"backup-agent.service on {name} to begin and end", lambda name=name: _has_run(cluster, name, began[name]))
    finally:
        for name in cluster.nodes():
            cluster.hosts.exec(name, "sh", "-c", f"rm -rf {drop_in}; systemctl daemon-reload; systemctl restart backup-agent.timer")
    for name in cluster.nodes():
        state, wanted = show(cluster, name, "backup-agent.service", "Result"), "success" if name == primary else "exec-condition"
        if state != wanted:
            raise Failed(f"backup-agent.service on {name} ended with {state} instead of {wanted}")
        if not show(cluster, name, "backup-agent.timer", "NextElapseUSecRealtime"):
            raise Failed(f"backup-agent.timer on {name} has no next time")
    made = len(stored(cluster, primary)) - before
    if made != 1:
        raise Failed(f"the timers stored {made} backups")
    return Result("1 backup by the timer, standbys skipped, next runs scheduled")


def _has_run(cluster, name, before):
    """Whether the service has begun after a time, and ended. A skipped one begins too."""
    began, state = (show(cluster, name, "backup-agent.service", what) for what in ("InactiveExitTimestampMonotonic", "ActiveState"))
    return began != before and state in ("inactive", "failed")


@step("backup-playbook")
def backup_playbook(cluster, _options):
    primary = cluster.wait_until_healthy()
    first_backup(cluster)
    before = len(stored(cluster, primary))
    done = cluster.playbook("backup.yml")
    if len(stored(cluster, primary)) != before + 1:
        raise Failed(f"backup.yml stored no backup; {done.log}")
    return Result(f"backup {before + 1} stored", done.changed)


@step("restore")
def restore(cluster, _options):
    """A backup, restored beside a standby and compared with what was acknowledged."""
    primary = cluster.wait_until_healthy()
    host = next(name for name in cluster.nodes() if HOSTS[name].region != PRIMARY_REGION)
    with cluster.writer("restore") as writer:
        first_backup(cluster)
        writer.wait_for_write()
        time.sleep(1)
    archive(cluster, primary)
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
/usr/lib/postgresql/15/bin/pg_ctl -D data -o '-c config_file=/var/lib/postgresql/trial/server.conf' -w -t 300 -l log start >/dev/null || {{ tail -20 log >&2; exit 1; }}
for try in $(seq 3000); do
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


@step("restore-cluster")
def restore_cluster(cluster, _options):
    """All hosts and volumes lost; the cluster is restored from the other region's bucket onto empty hosts."""
    primary = cluster.wait_until_healthy()
    with cluster.writer("cluster") as writer:
        writer.wait_for_write()
        cluster.playbook("backup.yml")
        time.sleep(1)
    archive(cluster, primary)
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


@step("restore-drill")
def restore_drill(cluster, _options):
    """A drill host, configured by site.yml, restores the newest backup by the script of each night."""
    primary = cluster.wait_until_healthy()
    secrets = cluster.hosts.aws.client("secretsmanager", HOSTS[DRILL].region)
    name = f"{NAME}/restore-drill-identity"
    if name not in [secret["Name"] for secret in secrets.list_secrets()["SecretList"]]:
        secrets.create_secret(Name=name, SecretString=(cluster.inventory.secrets / "identity.txt").read_text())
    first_backup(cluster)
    cluster.hosts.create(DRILL)
    cluster.hosts.wait(DRILL)
    cluster.pin(DRILL)
    cluster.inventory.add(DRILL)
    try:
        done = cluster.site()
        with cluster.writer("drill") as writer:
            writer.wait_for_write()
        archive(cluster, primary)
        script = (ROOT / "scripts" / "deploy" / "restore-drill-on-host").read_text()
        told = cluster.hosts.exec(DRILL, "env", ENVIRONMENT, "bash", "-s", input=script)
        running = cluster.hosts.exec(
            DRILL, "systemctl", "list-units", "--state=active,activating,failed", "--plain", "--no-legend", "backup-agent*", "postgresql*", "failover-ctl*"
        )
        if "every row read" not in told or not told.splitlines()[-1].startswith("restore verified") or running:
            raise Failed(f"the drill said {told!r}, and the host runs {running!r}")
        _expect_scraped(cluster)
        cluster.unchanged()
        cluster.hosts.stop(DRILL)
        without = cluster.unchanged()
        if f"{DRILL} does not answer, and is left out" not in without.output:
            raise Failed(f"site.yml does not name the stopped drill host; {without.log}")
    finally:
        cluster.hosts.remove(DRILL)
        cluster.inventory.remove(DRILL)
    # Prometheus no longer has the host among its targets.
    cluster.site()
    return Result(f"{told.splitlines()[-1]}, and scraped; second run 0 changed, also with the host stopped", done.changed)


def _expect_scraped(cluster):
    """Expects the time of the verified restore at Prometheus, and no other metric of the drill host."""
    job = f'{{job="restore-drill",node="{DRILL}"}}'
    until("the time of the verified restore at Prometheus", lambda: prometheus.series(cluster, f"backup_restore_verified_timestamp_seconds{job} > time() - 3600"))
    up = {"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"}
    names = {row["metric"]["__name__"] for row in prometheus.series(cluster, job)} - up
    if wanted := names ^ {"backup_restore_verified_timestamp_seconds", "backup_restore_drill_duration_seconds"}:
        raise Failed(f"Prometheus has {sorted(names)} of the drill host, which differ in {sorted(wanted)}")
