"""What runs beside the cluster: monitoring and poolers."""

import json
import time
import urllib.parse

import prometheus
import scraped
from failed import Failed
from step import Result, archive, first_backup, show, step, until
from topology import HOSTS, MONITORING, RUNBOOKS

# Scrapes are 5 s apart: a metric that has none by then is exported by nothing.
METRIC_SECS = 120


@step("monitoring")
def monitoring(cluster, _options):
    """Prometheus reads every target and every metric that a rule or a dashboard names, and a new alert arrives at the webhook."""
    primary = cluster.wait_until_healthy()
    nodes = set(cluster.nodes())
    wanted = {"node": nodes | {MONITORING}, "agent": nodes, "postgres": nodes, "prometheus": {MONITORING}, "alertmanager": {""}}
    if cluster.inventory.poolers:
        wanted["pooler"] = nodes

    def seen():
        found = {}
        for target in prometheus.ask(cluster, "targets?state=active")["activeTargets"]:
            found.setdefault(target["labels"]["job"], {})[target["labels"].get("node", "")] = target["lastError"] or target["health"]
        return found

    healthy = {job: dict.fromkeys(names, "up") for job, names in wanted.items()}
    until(lambda: f"every target is up: {seen()}", lambda: seen() == healthy)
    reached = {row["metric"]["node"] for row in prometheus.series(cluster, "pg_up == 1")}
    if reached != nodes:
        raise Failed(f"the exporters reach PostgreSQL on {sorted(reached)}, and the nodes are {sorted(nodes)}")
    metrics = _expect_metrics(cluster, primary, wanted)
    _expect_watchdog(cluster)
    name = _new_alert(cluster)
    until(f"the alert {name} at the webhook; it has {sorted(alerts(cluster))}", lambda: name in alerts(cluster))
    return Result(
        f"{sum(map(len, wanted.values()))} targets of {len(wanted)} jobs up, PostgreSQL reached on {len(reached)} nodes; {metrics}; "
        f"a new alert at the webhook, and {', '.join(sorted(alerts(cluster) - {name})) or 'no other'}"
    )


def _expect_metrics(cluster, primary, jobs):
    """Expects each metric that rules and dashboards read, from the job that is declared to export it. Returns what was compared."""
    used = {job: names for job, names in scraped.used().items() if job in jobs}
    slot = f"harness_{time.time_ns()}"
    cluster.sql(primary, f"SELECT pg_create_physical_replication_slot('{slot}', true)")
    try:
        first_backup(cluster)
        archive(cluster, primary)
        # Its timer runs some minutes after the boot, and twice a day.
        for name in [*cluster.nodes(), MONITORING]:
            cluster.hosts.exec(name, "systemctl", "start", "prometheus-node-exporter-apt.service")

        def missing():
            return scraped.missing(used, {job: _names(cluster, job) for job in used}, scraped.LATER)

        until(lambda: f"every metric that a rule or a dashboard names. No exporter exports {', '.join(missing())}", lambda: not missing(), METRIC_SECS)
    finally:
        cluster.sql(primary, f"SELECT pg_drop_replication_slot('{slot}')")
    left_out = [f"{job} ({scraped.NOT_HERE.get(job, 'no pooler runs')})" for job in sorted(set(scraped.used()) - set(used))]
    return f"{sum(map(len, used.values())) - len(scraped.LATER)} metrics of rules and dashboards scraped, not compared: {', '.join([*left_out, *scraped.LATER])}"


def _names(cluster, job):
    """Returns the names of a job's series."""
    match = urllib.parse.quote(f'{{job="{job}"}}')
    return set(prometheus.ask(cluster, f"label/__name__/values?match[]={match}"))


def _expect_watchdog(cluster):
    """Expects that Prometheus's alerts are at Alertmanager, with a link to their runbook: one of them always fires."""
    read = json.dumps("http://127.0.0.1:9093/api/v2/alerts?filter=" + urllib.parse.quote('alertname="Watchdog"'))
    program = f"import sys, urllib.request; sys.stdout.write(urllib.request.urlopen({read}, timeout=10).read().decode())"
    (watchdog, *_) = until("the alert Watchdog at Alertmanager", lambda: json.loads(cluster.hosts.exec(MONITORING, "python3", "-c", program)))
    if (link := watchdog["annotations"]["runbook_url"]) != f"{RUNBOOKS}/watchdog.md":
        raise Failed(f"the notification of Watchdog links {link}, not a page below {RUNBOOKS}")


def _new_alert(cluster):
    """Gives Alertmanager an alert of this run. Returns its name: what is in the webhook's file may be of an earlier step."""
    name = f"Harness{time.time_ns()}"
    cluster.hosts.exec(MONITORING, "amtool", "alert", "add", name, "severity=critical", f"cluster={name}", "--alertmanager.url=http://127.0.0.1:9093")
    return name


def alerts(cluster):
    """Returns the names of the alerts that have fired at the webhook."""
    return {alert["labels"]["alertname"] for alert in sent_alerts(cluster) if alert["status"] == "firing"}


def sent_alerts(cluster):
    """Returns the alerts of every notification at the webhook."""
    file = cluster.hosts.aws.alerts
    sent = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [alert for notification in sent for alert in notification["alerts"]]


@step("pooler")
def pooler(cluster, _options):
    """Poolers are added, and follow the real agent through a switchover: writes through them go on."""
    primary = cluster.wait_until_healthy()
    cluster.inventory.add_poolers()
    done = cluster.site()
    target = next(name for name in cluster.nodes() if name != primary and HOSTS[name].region == HOSTS[primary].region)
    with cluster.writer("pooler", pooler=True) as writer:
        writer.wait_for_write()
        _expect_pooler(cluster, primary)
        began = time.monotonic()
        moved = cluster.playbook("switchover.yml", {"target": target})
        writer.wait_for_write(after=began, not_on=[cluster.topology.address(primary)])
        _expect_pooler(cluster, cluster.wait_until_healthy())
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"the pooler runs beside {target}, {writer.longest_gap():.1f} s without writes through it; {told}; second run {same.changed} changed", done.changed + moved.changed)


def _expect_pooler(cluster, primary):
    """Expects a running pooler on the primary, and on no other node."""
    def running():
        return [name for name in cluster.nodes() if show(cluster, name, "pgbouncer.service", "ActiveState") == "active"]

    until(f"a pooler on {primary} alone", lambda: running() == [primary])
