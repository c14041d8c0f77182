"""Backups and what is restored from them."""

import time

from cluster import ENVIRONMENT
from failed import Failed
from inventory import NAME
from step import Result, archive, show, step, stored, until
from topology import DRILL, HOSTS, PRIMARY_REGION, ROOT


@step("backup")
def backup(cluster, _options):
    """A base backup by the timer, on the primary alone."""
    primary = cluster.wait_until_healthy()
    before = len(stored(cluster, primary))
    # The last by name: systemd reads drop-ins of all directories in that order, and an empty OnCalendar= resets.
    drop_in = "/run/systemd/system/backup-agent.timer.d"
    now = "[Timer]\nOnCalendar=\nOnActiveSec=1s\nAccuracySec=100ms\nRandomizedDelaySec=0\nPersistent=false\n"
    for name in cluster.nodes():
        cluster.hosts.exec(name, "sh", "-c", f"mkdir -p {drop_in}; cat > {drop_in}/zz-now.conf; systemctl daemon-reload; systemctl restart backup-agent.timer", input=now)
    try:
        made = until("a base backup by the timer", 120, lambda: [each for each in stored(cluster, primary)][before:])
        until(
            "the service to end", 60,
            lambda: show(cluster, primary, "backup-agent.service", "ActiveState") == "inactive",
        )
    finally:
        for name in cluster.nodes():
            cluster.hosts.exec(name, "sh", "-c", f"rm -rf {drop_in}; systemctl daemon-reload; systemctl restart backup-agent.timer")
    for name in cluster.nodes():
        state = show(cluster, name, "backup-agent.service", "Result")
        if state not in ("success", "exec-condition"):
            raise Failed(f"backup-agent.service on {name} ended with {state}")
        if not show(cluster, name, "backup-agent.timer", "NextElapseUSecRealtime"):
            raise Failed(f"backup-agent.timer on {name} has no next time")
    return Result(f"{len(made)} backup by the timer, standbys skipped, next runs scheduled")


@step("backup-playbook")
def backup_playbook(cluster, _options):
    primary = cluster.wait_until_healthy()
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
        if not stored(cluster, primary):
            cluster.playbook("backup.yml")
        writer.wait_for_write(10)
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


@step("restore-cluster")
def restore_cluster(cluster, _options):
    """All hosts and volumes lost; the cluster is restored from the other region's bucket onto empty hosts."""
    primary = cluster.wait_until_healthy()
    with cluster.writer("cluster") as writer:
        writer.wait_for_write(10)
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
    if not stored(cluster, primary):
        cluster.playbook("backup.yml")
    cluster.hosts.create(DRILL)
    cluster.hosts.wait(DRILL)
    cluster.pin(DRILL)
    cluster.inventory.add(DRILL)
    try:
        done = cluster.site()
        with cluster.writer("drill") as writer:
            writer.wait_for_write(10)
        archive(cluster, primary)
        script = (ROOT / "scripts" / "deploy" / "restore-drill-on-host").read_text()
        told = cluster.hosts.exec(DRILL, "env", ENVIRONMENT, "bash", "-s", input=script).splitlines()[-1]
        timers = cluster.hosts.exec(DRILL, "systemctl", "list-units", "--all", "--plain", "--no-legend", "backup-agent*.timer", "postgresql*", "failover-ctl*")
        if "every row read" not in told or timers:
            raise Failed(f"the drill said {told!r}, and the host runs {timers!r}")
        cluster.unchanged()
        cluster.hosts.stop(DRILL)
        without = cluster.unchanged()
        if f"{DRILL} does not answer, and is left out" not in without.output:
            raise Failed(f"site.yml does not name the stopped drill host; {without.log}")
    finally:
        cluster.hosts.remove(DRILL)
        cluster.inventory.remove(DRILL)
    return Result(f"{told}; second run 0 changed, also with the host stopped", done.changed)
