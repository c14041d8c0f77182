"""A cluster on the hosts of a run: playbooks, status, SQL, clients and fingerprints."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from aws import write_secret
from failed import Failed
from hosts import Hosts
from topology import FIRST, HOSTS, NODES, ROOT
from writer import DATABASE, USER, WAIT_SECS, Writer, connection, pooled_connection

ANSIBLE = ROOT / "ansible"
ENVIRONMENT = "AWS_SHARED_CREDENTIALS_FILE=/etc/causeway/aws-credentials"
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[", re.MULTILINE)
PLAYBOOK_TIMEOUT_SECS = 1800
# An older minor release, so that there is one to upgrade to.
PIN = """Package: postgresql-15 postgresql-client-15 libpq5
Pin: release l=Debian-Security
Pin-Priority: -1
"""
# What a playbook may leave in a host; logs, caches and Ansible's own files are not that.
FINGERPRINT = r"""
set -eu
find /etc /usr /opt /root /home /var /lib/systemd -xdev -ignore_readdir_race \
    \( -path /var/log -o -path /var/cache -o -path /var/tmp -o -path /var/lib/apt -o -path /var/lib/chrony -o -path '*/.ansible' \
       -o -path /var/lib/causeway -o -path /var/lib/prometheus -o -path /var/lib/sudo -o -path /var/lib/systemd \
       -o -path /var/lib/private -o -path /var/lib/logrotate -o -path /home/admin/.ssh -o -path /home/admin/.sudo_as_admin_successful \) -prune \
    -o -type d -printf '%p %y %m %u %g\n' -o -printf '%p %y %s %T@ %m %u %g %l\n'
dpkg-query -W
systemctl list-unit-files --no-legend --no-pager
running=$(systemctl list-units --type=service --state=running --no-legend --no-pager --plain)
echo "$running" | cut -d' ' -f1 | sed -e /ssh/d -e /systemd-/d -e /backup-agent/d
grep -v -e overlay -e cgroup /proc/self/mounts
"""


class Playbook:
    """A finished run of ansible-playbook."""

    def __init__(self, name, code, output, seconds, log):
        self.name, self.code, self.output, self.seconds, self.log = name, code, output, seconds, log
        self.hosts = {host: dict(zip(("ok", "changed", "unreachable", "failed"), map(int, counts))) for host, *counts in RECAP.findall(output)}

    @property
    def changed(self):
        return sum(counts["changed"] for counts in self.hosts.values())

    def changes(self):
        """Names of the tasks that changed something."""
        found, task = [], ""
        for line in self.output.splitlines():
            if line.startswith(("TASK [", "RUNNING HANDLER [")):
                task = line.partition("[")[2].rpartition("]")[0]
            elif line.startswith("changed: "):
                found.append(f"{task} ({line.removeprefix('changed: ').strip('[] ')})")
        return found


class Cluster:
    def __init__(self, number, engine=None):
        self.hosts = Hosts(number, engine)
        self.topology = self.hosts.topology
        self.directory = self.hosts.directory
        self.inventory = self.hosts.inventory
        self.runs = 0

    # Hosts

    def fresh(self, names=FIRST):
        """Bare hosts, without anything of an earlier cluster."""
        logs = self.directory / "logs"
        kept = self.directory.with_name(f"{self.directory.name}-logs")
        if logs.exists():
            shutil.rmtree(kept, ignore_errors=True)
            logs.rename(kept)
        self.hosts.down()
        self.directory.mkdir(parents=True, exist_ok=True)
        if kept.exists():
            kept.rename(logs)
        self.hosts.up(names)
        for name in names:
            self.pin(name)

    def bare(self):
        """Whether the nodes run, and nothing was installed on them."""
        running = self.hosts.running()
        return set(running) >= set(FIRST) and not any(self.hosts.exec(name, "sh", "-c", "if test -e /var/lib/postgresql; then echo there; fi") for name in NODES)

    def pin(self, name):
        self.hosts.exec(name, "sh", "-c", "cat > /etc/apt/preferences.d/older-minor", input=PIN)

    def unpin(self, name):
        self.hosts.exec(name, "rm", "/etc/apt/preferences.d/older-minor")

    def is_pinned(self, name):
        return self.hosts.exec(name, "sh", "-c", "if test -e /etc/apt/preferences.d/older-minor; then echo pinned; fi") == "pinned"

    def nodes(self):
        """Nodes of the inventory."""
        return [name for name in self.inventory.names() if HOSTS[name].is_node]

    # Playbooks

    def start(self, name, variables=None, check=False, inventory=None, limit=None):
        """Starts a playbook in a process group of its own. Returns the process and its log."""
        self.runs += 1
        logs = self.directory / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{int(time.time())}-{self.runs:03}-{Path(name).stem}.log"
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory or self.inventory.directory), str(ANSIBLE / name)]
        if variables:
            file = logs / f"{log.stem}.json"
            write_secret(file, json.dumps(variables))
            command += ["--extra-vars", f"@{file}"]
        command += ["--check"] if check else []
        command += ["--limit", limit] if limit else []
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "PYTHONUNBUFFERED": "1",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.control_paths()),
        }
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=ANSIBLE, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
        return process, log

    def control_paths(self):
        """A short path: that of a socket may have 107 characters."""
        directory = Path.home() / ".ansible" / f"cw{self.topology.number}"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def playbook(self, name, variables=None, fails=False, timeout=PLAYBOOK_TIMEOUT_SECS, **options):
        """Runs a playbook to its end, and expects that end to be a success or, with `fails`, a failure."""
        began = time.monotonic()
        process, log = self.start(name, variables, **options)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"{name} has not ended after {timeout} s; {_where(log)}") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        done = Playbook(name, code, log.read_text(), time.monotonic() - began, log)
        if code == 0 and not done.hosts:
            raise Failed(f"{name} ended with 0 and reached no host; {log}")
        if (code != 0) != fails:
            raise Failed(f"{name} ended with {code}; {_where(log)}")
        return done

    def site(self, **options):
        return self.playbook("site.yml", **options)

    def unchanged(self):
        """Runs site.yml, which must change nothing."""
        done = self.site()
        if done.changed:
            raise Failed(f"site.yml changed {done.changed}: {'; '.join(done.changes())}; {done.log}")
        return done

    # Status

    def status(self, via=None):
        """What `failover-ctl status --json` says on the first node that answers."""
        last = "no node runs"
        for name in [via] if via else [name for name in self.nodes() if name in self.hosts.running()]:
            command = ["timeout", "20", "env", ENVIRONMENT, "failover-ctl", "status", "--json"]
            done = subprocess.run([self.hosts.engine.docker, "exec", self.topology.container(name), *command], capture_output=True, text=True, env=self.hosts.engine.environment)
            if done.returncode == 0:
                return json.loads(done.stdout)
            last = f"{name}: {done.stderr.strip()[-300:]}"
        raise Failed(f"`failover-ctl status` fails: {last}")

    def primary(self, via=None):
        for row in self.status(via)["nodes"]:
            if row["status"] and row["status"]["role"] == "primary":
                return row["node"]
        return None

    def wait_until_healthy(self, timeout=WAIT_SECS, nodes=None):
        """Waits until one node is primary and every other one streams. Returns the primary's name."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                wrong, primary = _health(self.status(), nodes or self.nodes())
            except (Failed, ValueError) as error:
                wrong, primary = [str(error)], None
            if not wrong:
                return primary
            if time.monotonic() > deadline:
                raise Failed(f"not healthy after {timeout} s: {'; '.join(wrong)}")
            time.sleep(0.5)

    # SQL

    def sql(self, name, statement, database="postgres"):
        """As the superuser, on the host."""
        command = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database]
        return self.hosts.exec(name, *command, input=statement)

    def prepare_clients(self, primary):
        """The role and the table of the writers."""
        file = self.directory / "secrets" / "harness"
        if not file.exists():
            write_secret(file, secrets.token_hex(24))
        self.sql(
            primary,
            f"""
            SET password_encryption = 'scram-sha-256'; SET log_statement = 'none'; SET log_min_duration_statement = -1;
            DO $$ BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{USER}') THEN CREATE ROLE {USER} LOGIN; END IF;
            END $$;
            ALTER ROLE {USER} PASSWORD '{file.read_text()}';
            GRANT CONNECT ON DATABASE {DATABASE} TO {USER};
            \\connect {DATABASE}
            CREATE TABLE IF NOT EXISTS public.harness
                (run text NOT NULL, number bigint NOT NULL, at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), PRIMARY KEY (run, number));
            GRANT USAGE ON SCHEMA public TO {USER}; GRANT SELECT, INSERT ON public.harness TO {USER};
            """,
        )

    def connect(self, nodes=None, pooler=False):
        password = (self.directory / "secrets" / "harness").read_text()
        connect = pooled_connection if pooler else connection
        return connect(self.topology, nodes or self.nodes(), password, self.ca_bundle())

    def writer(self, name, nodes=None, pooler=False):
        return Writer(lambda: self.connect(nodes, pooler), f"{name}-{time.time_ns()}")

    def ca_bundle(self):
        """The CAs that clients trust."""
        bundle = self.directory / "secrets" / "client-ca.crt"
        return bundle if bundle.exists() else self.directory / "secrets" / "ca.crt"

    def verify(self, writer, allowed_loss=0):
        """Checks that every acknowledged row is in the database. Returns how many there are, and are lost."""
        with self.connect() as session:
            lost = writer.lost(session)
        if not writer.acknowledged:
            raise Failed("the writer got no acknowledgement")
        if len(lost) > allowed_loss:
            raise Failed(f"{len(lost)} of {len(writer.acknowledged)} acknowledged rows are lost: {lost[:5]} …")
        return f"{len(writer.acknowledged)} rows acknowledged, {len(lost)} lost"

    # Fingerprints

    def fingerprint(self, names=None):
        return {name: set(self.hosts.exec(name, "sh", "-c", FINGERPRINT).splitlines()) for name in names or self.hosts.running() if HOSTS[name]}

    def compare(self, before, after):
        """Expects that no host has changed."""
        if not before:
            raise Failed("no host runs, so nothing was compared")
        for name, lines in before.items():
            differing = sorted(lines ^ after[name])
            if differing:
                raise Failed(f"{name} was changed: {'; '.join(differing[:6])}")


def _health(status, nodes):
    listed = {row["node"] for row in status["nodes"]}
    wrong, primaries = [f"{name} is not in the list of nodes" for name in nodes if name not in listed], []
    for row in status["nodes"]:
        node = row["status"]
        if row["node"] not in nodes:
            continue
        if node is None:
            wrong.append(f"{row['node']}: {row['mismatch'] or 'no answer'}")
        elif node["role"] == "primary":
            primaries.append(row["node"])
        elif node["role"] != "standby" or not node["streaming"]:
            wrong.append(f"{row['node']}: {node['role']}, not streaming")
    if len(primaries) != 1:
        wrong.append(f"{len(primaries)} primaries")
    return wrong, primaries[0] if primaries else None


def _where(log):
    """The end of a log: what failed, and where to read on."""
    lines = log.read_text().splitlines()
    failures = [line[:600] for line in lines if re.match(r"(fatal|failed|ERROR|\[ERROR\])", line)]
    return f"{log}:\n" + "\n".join(failures[-4:] or lines[-15:])
