"""Prometheus, Alertmanager and the exporters beside a lab, with the files of monitoring/ as production has them."""

import ctypes
import json
import os
import re
import secrets
import urllib.request

import compress
import lab as labs
import wait
import yaml
from alerts import Watcher
from processes import Processes
from receiver import Inbox, Receiver

MONITORING = labs.ROOT / "monitoring"
HOST = 61
PROMETHEUS_PORT, ALERTMANAGER_PORT, RECEIVER_PORT = 9090, 9093, 9099
NODE_PORT, POSTGRES_PORT, AGENT_PORT, API_PORT = 9100, 9187, 8009, 8080
START_SECS = 60
# Of node_exporter's: those that a rule or a dashboard reads. Scrapes are fifteen times as frequent as in production.
COLLECTORS = ("cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev", "textfile", "time", "vmstat")
# As the role postgres_exporter has them.
EXPORTER_OPTIONS = "port=5432 dbname=postgres sslmode=disable search_path=pg_catalog application_name=postgres_exporter statement_timeout=10s connect_timeout=5"


class Stack:
    """Monitoring of one lab, with its durations divided by `factor`."""

    def __init__(self, lab, directory, factor):
        self.lab = lab
        self.directory = directory
        self.factor = factor
        self.address = lab.address(HOST)
        self.inbox = Inbox()
        self.processes = Processes(directory / "log")
        # Those of faults may end.
        self.of_faults = Processes(directory / "log")
        self.receiver = None
        self.watcher = None

    @property
    def prometheus_url(self):
        """Prometheus's address."""
        return f"http://{self.address}:{PROMETHEUS_PORT}"

    @property
    def alertmanager_url(self):
        """Alertmanager's address."""
        return f"http://{self.address}:{ALERTMANAGER_PORT}"

    def start(self):
        """Starts every part, and returns once Prometheus has scraped each target."""
        self.write_settings()
        self.receiver = Receiver((self.address, RECEIVER_PORT), self.inbox)
        self.start_exporters()
        self.processes.start(
            "alertmanager", "prometheus-alertmanager", f"--config.file={self.directory}/alertmanager.yml",
            f"--storage.path={self.directory}/alertmanager", f"--web.listen-address={self.address}:{ALERTMANAGER_PORT}", "--cluster.listen-address=",
        )
        self.wait_for(f"{self.alertmanager_url}/-/ready")
        self.watcher = Watcher(self.alertmanager_url)
        self.processes.start(
            "prometheus", "prometheus", f"--config.file={self.directory}/prometheus.yml", f"--storage.tsdb.path={self.directory}/prometheus",
            f"--web.listen-address={self.address}:{PROMETHEUS_PORT}", "--web.enable-lifecycle",
            # Prometheus's own waits, by the same factor.
            f"--rules.alert.resend-delay={compress.duration('1m', self.factor)}", f"--query.lookback-delta={compress.duration('5m', self.factor)}",
        )
        self.wait_for(f"{self.prometheus_url}/-/ready")
        wait.until("every target to be scraped", START_SECS, self.check_targets)

    def stop(self):
        """Ends every part."""
        if self.watcher:
            self.watcher.close()
        self.of_faults.end_all()
        self.processes.end_all()
        if self.receiver:
            self.receiver.close()

    def wait_for(self, url):
        """Waits until a program answers."""

        def probe():
            self.processes.check()
            try:
                labs.get(url)
            except OSError as error:
                raise wait.NotYet(error) from None

        wait.until(url, START_SECS, probe)

    def check_targets(self):
        """Raises NotYet while a target is not scraped."""
        self.processes.check()
        targets = json.loads(labs.get(f"{self.prometheus_url}/api/v1/targets?state=active"))["data"]["activeTargets"]
        wrong = [f"{each['scrapeUrl']}: {each['health']} {each['lastError']}".strip() for each in targets if each["health"] != "up"]
        if wrong or not targets:
            raise wait.NotYet("; ".join(wrong) or "no targets")

    def query(self, expression):
        """Returns the samples of an instant query, as pairs of labels and value."""
        from urllib.parse import quote

        answer = json.loads(labs.get(f"{self.prometheus_url}/api/v1/query?query={quote(expression)}"))
        return [(sample["metric"], float(sample["value"][1])) for sample in answer["data"]["result"]]

    def reload(self):
        """Makes Prometheus read its settings again, and returns whether it accepted them."""
        request = urllib.request.Request(f"{self.prometheus_url}/-/reload", method="POST")
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()
        except urllib.error.HTTPError:
            return False
        return True

    def write_settings(self):
        """Writes the settings of Prometheus and Alertmanager, from those of monitoring/."""
        (self.directory / "rules").mkdir(parents=True)
        (self.directory / "targets").mkdir()
        self.write_rules()
        source = yaml.safe_load((MONITORING / "alertmanager" / "alertmanager.yml").read_text())
        url = f"http://{self.address}:{RECEIVER_PORT}"
        write(self.directory / "alertmanager.yml", compress.alertmanager(source, self.factor, url))
        self.write_prometheus()
        for job, targets in self.targets().items():
            self.write_targets(job, targets)

    def write_targets(self, job, targets):
        """Replaces the targets of a job, which Prometheus notices."""
        file = self.directory / "targets" / f"{job}.json"
        file.with_suffix(".new").write_text(json.dumps(targets, indent=1))
        file.with_suffix(".new").rename(file)

    def write_rules(self, objectives=None):
        """Writes the rules, with other values of some objectives."""
        documents = {file.name: yaml.safe_load(file.read_text()) for file in sorted((MONITORING / "rules").glob("*.yml"))}
        compress.check_names(documents.values())
        for name, document in documents.items():
            document = compress.rules(document, self.factor)
            for rule in (rule for group in document["groups"] for rule in group["rules"]):
                rule["expr"] = (objectives or {}).get(rule.get("record"), rule["expr"])
            write(self.directory / "rules" / name, document)

    def write_prometheus(self):
        """Writes Prometheus's settings."""
        settings = compress.scrape(yaml.safe_load((MONITORING / "scrape" / "file.yml").read_text()), self.factor)
        settings["rule_files"] = [f"{self.directory}/rules/*.yml"]
        settings["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"{self.address}:{ALERTMANAGER_PORT}"]}]}]
        own = {"prometheus": PROMETHEUS_PORT, "alertmanager": ALERTMANAGER_PORT}
        for job in settings["scrape_configs"]:
            if port := own.get(job["job_name"]):
                labels = {"cluster": labs.CLUSTER, "region": "eu-west-1", "zone": "eu-west-1a", "node": "monitoring-eu-west-1"}
                job["static_configs"] = [{"targets": [f"{self.address}:{port}"], "labels": labels}]
        write(self.directory / "prometheus.yml", settings)

    def targets(self):
        """Returns the targets of each job, with the labels that production gives them."""
        nodes = {name: {"cluster": labs.CLUSTER, "region": region, "zone": zone, "node": name} for name, (region, zone, _) in labs.NODES.items()}
        jobs = {
            job: [{"targets": [f"{self.lab.host(name)}:{port}"], "labels": labels} for name, labels in nodes.items()]
            for job, port in (("agent", AGENT_PORT), ("node", NODE_PORT), ("postgres", POSTGRES_PORT))
        }
        jobs["api"] = [
            {
                "targets": [f"{self.lab.address(host)}:{API_PORT}"],
                "labels": {"cluster": labs.CLUSTER, "region": region, "zone": f"{region}a", "service": "api", "node": f"api-{region}"},
            }
            for region, host in labs.APIS.items()
        ]
        jobs["pooler"] = []
        return jobs

    def start_exporters(self):
        """Starts the exporters of each node on its address."""
        password = secrets.token_hex(16)
        primary = self.lab.primary()
        # As the role postgres creates it.
        if self.lab.sql(primary, "select count(*) from pg_roles where rolname = 'monitoring'") == "0":
            self.lab.sql(primary, "create role monitoring login in role pg_monitor")
        self.lab.sql(primary, f"alter role monitoring password '{password}'")
        for database in ("postgres", "app"):
            self.lab.sql_file(primary, MONITORING / "postgres_exporter" / "grants.sql", database)
        before = mount_points()
        for node in labs.NODES:
            host = self.lab.host(node)
            home = self.lab.directory / f"node-{node}"
            others = [f"{self.lab.directory}/node-{other}/.*" for other in labs.NODES if other != node]
            # Other labs of this machine, which may mount volumes later. Go's expressions have no negation.
            labs_beside = "|".join(str(number) for number in range(1, 251) if number != self.lab.number)
            excluded = "|".join([*map(re.escape, before), *others, f"/tmp/causeway-lab-({labs_beside})/.*"])
            collectors = [*COLLECTORS, *(["timex"] if clock_is_synchronized() else [])]
            self.processes.start(
                f"node_exporter-{node}", "prometheus-node-exporter", f"--web.listen-address={host}:{NODE_PORT}",
                "--collector.disable-defaults", *(f"--collector.{name}" for name in collectors),
                f"--collector.textfile.directory={home}/textfile", f"--collector.filesystem.mount-points-exclude=^({excluded})$",
            )
            source = f"user=monitoring password={password} host={home}/sock {EXPORTER_OPTIONS}"
            self.processes.start(
                f"postgres_exporter-{node}", "prometheus-postgres-exporter", f"--web.listen-address={host}:{POSTGRES_PORT}",
                f"--extend.query-path={MONITORING}/postgres_exporter/queries.yml", "--auto-discover-databases",
                env={**os.environ, "DATA_SOURCE_NAME": source},
            )


def write(path, document):
    """Writes a document as YAML."""
    path.write_text(yaml.safe_dump(document, sort_keys=False, width=200))


def mount_points():
    """Returns the mount points of this machine."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        return sorted({line.split()[1].encode().decode("unicode_escape") for line in mounts})


def clock_is_synchronized():
    """Whether the kernel calls its clock synchronized. A machine without chrony has no news about its clock to export."""
    ADJTIMEX_STATE_ERROR = 5
    return ctypes.CDLL(None).adjtimex((ctypes.c_long * 64)()) != ADJTIMEX_STATE_ERROR
