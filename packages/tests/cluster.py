"""A node under systemd, with a client that writes: sandbox, upgrade, and agent and guard frozen together."""

import unittest

import host
from host import Host, eventually, package

AGENT, GUARD = "failover-ctl-agent", "failover-ctl-guard"
DATA = "/var/lib/postgresql/15/main"
BIN = "/usr/lib/postgresql/15/bin"
CREDENTIALS = "AWS_ACCESS_KEY_ID=test\nAWS_SECRET_ACCESS_KEY=testtesttest\n"
# [lease] kill-deadline-secs, and what the supervisor waits and needs after that: decision 29.
LEASE_SECS = 10.0

SETTINGS = f"""
cluster = "main"
node = "a"
primary-region = "eu-west-1"
command-signing-key-file = "/etc/causeway/command-signing.key"
[[nodes]]
name = "a"
region = "eu-west-1"
zone = "eu-west-1a"
address = "127.0.0.1"
agent = "127.0.0.1:8009"
[lease]
bucket = "lease"
region = "eu-north-1"
endpoint = "http://127.0.0.1:9000"
[policy]
max-loss-bytes = 16777216
[postgres]
bin-directory = "{BIN}"
config-file = "/etc/causeway/postgresql/postgresql.conf"
data-directory = "{DATA}"
socket-directory = "/run/postgresql"
replication-user = "replicator"
replication-password-file = "/etc/causeway/replicator.password"
rewind-user = "rewinder"
rewind-password-file = "/etc/causeway/rewinder.password"
sslmode = "disable"
[guard]
runtime-directory = "/run/causeway"
[agent]
state-directory = "/var/lib/causeway/failover-ctl"
host-id-file = "/etc/causeway/host-id"
"""

BACKUP_SETTINGS = f"""
cluster = "main"
recipients = ["@RECIPIENT@"]
required-buckets = 1
[[buckets]]
name = "backup-1"
region = "eu-west-1"
endpoint = "http://127.0.0.1:9000"
[[buckets]]
name = "backup-2"
region = "eu-central-1"
endpoint = "http://127.0.0.1:9000"
[postgres]
bin-directory = "{BIN}"
data-directory = "{DATA}"
socket-directory = "/run/postgresql"
"""

CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '/run/postgresql, /tmp'
hba_file = '/etc/causeway/postgresql/pg_hba.conf'
ident_file = '/etc/causeway/postgresql/pg_ident.conf'
wal_log_hints = on
huge_pages = try
archive_mode = on
archive_command = 'backup-agent wal push "%p"'
include '/run/causeway/guard.conf'
"""

S3 = """
[Service]
Environment=AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testtesttest
ExecStart=/usr/local/bin/lab s3 --root /var/lib/s3 --listen 127.0.0.1:9000
"""

# One session, which prints for each statement when it was acknowledged.
WRITER = r"""
while :; do echo 'insert into written default values returning extract(epoch from clock_timestamp());'; sleep 0.02; done |
    psql --no-psqlrc --no-align --tuples-only --quiet --host=/run/postgresql
"""


class Cluster(unittest.TestCase):
    """One node. Each test continues where the last one ended."""

    @classmethod
    def setUpClass(cls):
        cls.host = Host("node")
        cls.addClassCleanup(cls.host.remove)
        cls.host.install(package("failover-ctl"), package("backup-agent"))
        cls.host.write("/etc/postgresql-common/createcluster.d/none.conf", "create_main_cluster = false\n")
        cls.host.install("postgresql-15")
        cls._start_s3()
        cls._configure()
        cls.score = "-1000"
        if not cls.host.sets_limits:
            # Nothing in this engine may lower a score; raising shows who inherits one.
            cls.score = "300"
            cls.host.write(f"/etc/systemd/system/{GUARD}.service.d/score.conf", "[Service]\nOOMScoreAdjust=300\n")
            cls.host.run("systemctl daemon-reload")
        cls.host.run(f"systemctl enable --now --quiet {GUARD} {AGENT}")
        cls.host.run("set -a; . /etc/default/failover-ctl; failover-ctl init --holder a")
        cls._wait_for_primary()
        cls.sql(
            "create table written (n bigint generated always as identity primary key, at timestamptz default now())"
        )

    @classmethod
    def _start_s3(cls):
        cls.host.copy(host.TARGET / "debug" / "lab", "/usr/local/bin/lab")
        cls.host.run("mkdir -p /var/lib/s3/{lease,backup-1,backup-2}")
        cls.host.write("/etc/systemd/system/s3.service", S3)
        cls.host.run("systemctl daemon-reload && systemctl start s3")

    @classmethod
    def _configure(cls):
        write = cls.host.write
        write("/etc/causeway/failover-ctl.toml", SETTINGS, "root:postgres", "0640")
        write("/etc/causeway/command-signing.key", "0123456789abcdef" * 4, mode="0600")
        for name in ("replicator", "rewinder"):
            write(f"/etc/causeway/{name}.password", "secret", "postgres:postgres", "0400")
        write("/etc/causeway/host-id", "host-a")
        write("/etc/causeway/postgresql/postgresql.conf", CONFIGURATION)
        write("/etc/causeway/postgresql/pg_hba.conf", "local all postgres peer map=root\n")
        write("/etc/causeway/postgresql/pg_ident.conf", "root root postgres\nroot postgres postgres\n")
        for name in ("failover-ctl", "backup-agent"):
            write(f"/etc/default/{name}", CREDENTIALS)
        recipient = cls.host.run(
            "backup-agent keygen --output /root/identity.txt 2>&1 | grep -o 'age1[0-9a-z]*' | head -n 1"
        )
        write(
            "/etc/causeway/backup-agent.toml",
            BACKUP_SETTINGS.replace("@RECIPIENT@", recipient),
            "root:postgres",
            "0640",
        )
        initdb = f"{BIN}/initdb -D {DATA} --username=postgres --data-checksums --auth-local=peer >/dev/null 2>&1"
        cls.host.run(f"install -d -o postgres -g postgres {DATA} && runuser -u postgres -- {initdb}")

    @classmethod
    def _wait_for_primary(cls):
        # The agent answers from its last look, which a quick restart can follow.
        eventually("PostgreSQL accepts writes", lambda: cls.sql("select pg_is_in_recovery()") == "f")
        ask = "exec 3<>/dev/tcp/127.0.0.1/8009; printf 'GET /primary HTTP/1.0\\r\\n\\r\\n' >&3; head -n 1 <&3"
        eventually("the node is primary", lambda: " 200 " in cls.host.run(ask))

    @classmethod
    def sql(cls, statement, socket="/run/postgresql"):
        return cls.host.run(f"psql --no-psqlrc -v ON_ERROR_STOP=1 -AtqU postgres -h {socket}", input=statement)

    def postmaster(self):
        return self.host.run(f"head -n 1 {DATA}/postmaster.pid")

    def start_writer(self):
        self.addCleanup(self.host.run, "systemctl stop writer", check=False)
        self.host.write("/usr/local/bin/writer", WRITER)
        self.host.run("systemctl reset-failed writer", check=False)  # fails if there was no writer
        self.host.run("rm -f /tmp/acknowledged /tmp/failed")
        self.host.run(
            "systemd-run --quiet --unit=writer --setenv=PGUSER=postgres --property=StandardOutput=file:/tmp/acknowledged"
            " --property=StandardError=file:/tmp/failed bash /usr/local/bin/writer"
        )
        eventually("the client writes", lambda: len(self.acknowledged()) > 20)

    def acknowledged(self):
        """Returns when each statement was acknowledged, in seconds since 1970."""
        return [float(at) for at in self.host.run("cat /tmp/acknowledged").split()]

    def test_1_postmaster_protected_and_backends_killable(self):
        pids = self.host.pids(GUARD)
        scores = {pid: self.host.run(f"cat /proc/{pid}/oom_score_adj", check=False) for pid in pids}
        guard, postmaster = self.host.property(GUARD, "MainPID"), self.postmaster()
        self.assertIn(postmaster, pids)
        self.assertEqual({scores[guard], scores[postmaster]}, {self.score})
        others = {pid: score for pid, score in scores.items() if pid not in (guard, postmaster)}
        self.assertGreater(len(others), 4)
        self.assertEqual(set(others.values()), {"0"}, others)
        self.assertEqual(self.host.property(GUARD, "OOMPolicy"), "continue")
        if self.host.sets_limits:
            self.assertRegex(self.host.run(f"grep VmLck /proc/{guard}/status"), r"[1-9]\d* kB")
        else:
            self.host.run(f"grep --quiet OOMScoreAdjust=-1000 /usr/lib/systemd/system/{GUARD}.service")
            print("(this engine cannot lower scores: 300 in place of -1000) ", end="", flush=True)

    def test_2_sandbox_lets_postgresql_work(self):
        self.assertEqual(self.sql("show shared_memory_type; select 1", "/tmp").split(), ["mmap", "1"])
        self.sql("create extension pg_stat_statements; create extension pgcrypto; create extension dblink")
        self.sql(
            "set jit_above_cost = 0; select sum(n::numeric) from generate_series(1, 100000) n; drop extension pgcrypto"
        )
        self.sql(
            "set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set parallel_tuple_cost = 0;"
            "set min_parallel_table_scan_size = 0; select count(*) from pg_class"
        )
        self.sql("copy (select 1) to '/tmp/copied'; select pg_switch_wal()")
        eventually(
            "the segment is archived",
            lambda: self.sql("select archived_count > 0 and last_failed_time is null from pg_stat_archiver") == "t",
        )

    def test_3_sandbox_closed(self):
        for path in ("/etc", "/usr", "/root", "/home", "/boot", "/var/lib/dpkg"):
            done = self.host.run(
                f"psql -AtqU postgres -h /tmp -c \"copy (select 1) to program 'touch {path}/x'\" 2>&1", check=False
            )
            self.assertRegex(done, "failed|ERROR", path)
        # The signing key, by any role of the database.
        done = self.host.run(
            "psql -AtqU postgres -h /tmp -c \"select pg_read_file('/etc/causeway/command-signing.key')\" 2>&1",
            check=False,
        )
        self.assertIn("Permission denied", done)

    def test_4_primary_then_backup_taken(self):
        self.host.run("systemctl start backup-agent.service")
        self.assertIn("1", self.host.run("ls /var/lib/s3/backup-1 | wc -l"))
        self.assertEqual(self.host.property("backup-agent.service", "Result"), "success")
        self.host.run("systemctl start backup-agent-backfill.service")

    def test_5_upgrade_then_no_statement_failed(self):
        guard, postmaster, agent = (
            self.host.property(GUARD, "MainPID"),
            self.postmaster(),
            self.host.property(AGENT, "MainPID"),
        )
        self.start_writer()
        for name in ("failover-ctl", "backup-agent"):
            self.host.run(
                f"rm -rf /tmp/new && dpkg-deb --raw-extract {package(name)} /tmp/new"
                " && sed -i 's/^Version: .*/Version: 99.0.0-1/' /tmp/new/DEBIAN/control"
                f" && dpkg-deb --build --root-owner-group -Znone /tmp/new /tmp/{name}.deb >/dev/null"
                f" && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq /tmp/{name}.deb"
            )
        self._wait_for_primary()
        self.assertEqual(self.host.property(GUARD, "MainPID"), guard)
        self.assertEqual(self.postmaster(), postmaster)
        self.assertNotIn(self.host.property(AGENT, "MainPID"), (agent, "0"))
        # Guard runs the old program.
        self.assertIn("(deleted)", self.host.run(f"runuser -u postgres -- readlink /proc/{guard}/exe"))
        written = len(self.acknowledged())
        eventually("the client still writes", lambda: len(self.acknowledged()) > written + 20)
        self.assertEqual(self.host.run("cat /tmp/failed"), "")
        times = self.acknowledged()
        longest = max(after - before for before, after in zip(times, times[1:]))
        print(f"(0 of {len(times)} statements failed, longest pause {longest:.2f} s) ", end="", flush=True)

    def test_6_agent_and_guard_frozen_then_killed_within_lease(self):
        self.start_writer()
        guard, agent = self.host.property(GUARD, "MainPID"), self.host.property(AGENT, "MainPID")
        members = self.host.pids(GUARD)
        frozen = self.host.run(
            f"kill -STOP {guard} {agent}; find /var/lib/s3/lease -type f -printf '%T@\\n' | sort -n | tail -n 1;"
            f" for pid in {' '.join(members)}; do while kill -0 $pid 2>/dev/null; do sleep 0.02; done; done;"
            " date +%s.%N"
        ).split()
        renewed, ended = map(float, frozen)
        last = self.acknowledged()[-1]
        print(
            f"(PostgreSQL ended {ended - renewed:.2f} s after the last renewal, its last acknowledgement"
            f" {last - renewed:.2f} s after; the lease lasts {LEASE_SECS:.0f} s) ",
            end="",
            flush=True,
        )
        self.assertLess(ended, renewed + LEASE_SECS)
        self.assertLess(last, renewed + LEASE_SECS)
        eventually("guard is started again", lambda: self.host.property(GUARD, "MainPID") not in ("0", guard))
        self.assertIn("Watchdog timeout", self.host.run(f"journalctl --no-pager --unit={GUARD}"))
        self.host.run(f"kill -CONT {agent}")
        self._wait_for_primary()
        self.assertEqual(self.host.property(AGENT, "MainPID"), agent)

    def test_7_guard_stopped_then_shut_down_in_order(self):
        self.host.run(f"systemctl stop {GUARD}")
        self.assertEqual(self.host.property(GUARD, "Result"), "success")
        state = self.host.run(f"{BIN}/pg_controldata {DATA} | grep 'cluster state'")
        self.assertRegex(state, "shut down$")
        self.host.run("test ! -e /run/causeway/guard.conf")
        started = self.host.run(
            f"runuser -u postgres -- {BIN}/postgres -D {DATA} -c config_file=/etc/causeway/postgresql/postgresql.conf 2>&1",
            check=False,
        )
        self.assertIn("guard.conf", started)
        self.host.run(f"systemctl start {GUARD}")
        self._wait_for_primary()

    def test_8_guard_killed_then_conf_replaced_and_cgroup_emptied(self):
        postmaster = self.postmaster()
        self.host.run(f"kill -KILL {self.host.property(GUARD, 'MainPID')}")
        eventually("PostgreSQL is restarted", lambda: self.postmaster() != postmaster)
        self._wait_for_primary()

    def test_9_unknown_role_then_backup_unit_fails(self):
        self.host.run(f"systemctl stop {AGENT} {GUARD}")
        self.addCleanup(self.host.run, "systemctl stop backup-agent.service")
        self.host.run("systemctl start backup-agent.service", check=False)
        self.assertEqual(self.host.property("backup-agent.service", "Result"), "exit-code")
        # Restart= begins the next attempt after RestartSec=.
        self.assertEqual(self.host.property("backup-agent.service", "SubState"), "auto-restart")

    def test_a_another_guard_then_its_file_kept(self):
        """The unit's guard ends at the lock of the other, and leaves what PostgreSQL of the other includes."""
        self.addCleanup(self.host.run, "systemctl stop other-guard", check=False)
        self.host.run(
            "systemd-run --quiet --unit=other-guard --uid=postgres --gid=postgres /usr/bin/failover-ctl guard"
        )
        eventually("the other guard runs", lambda: self.host.run("test -e /run/causeway/guard.conf; echo yes"))
        self.host.run(f"systemctl start --no-block {GUARD}")
        eventually("the unit failed", lambda: int(self.host.property(GUARD, "NRestarts")) > 1)
        self.host.run("test -e /run/causeway/guard.conf")
        self.host.run(f"systemctl stop {GUARD} other-guard")
        self.host.run(f"systemctl start {GUARD} && systemctl stop {GUARD} && test ! -e /run/causeway/guard.conf")

    def test_b_volume_late_then_guard_starts_with_it(self):
        """The mount fails first, as when a volume is not attached yet."""
        self.addCleanup(self.host.run, f"systemctl stop {GUARD}; umount /var/lib/postgresql-wal", check=False)
        # systemd makes the source of a bind mount, and cannot below a file.
        self.host.run(
            "mkdir -p /var/lib/postgresql-wal && touch /srv/volume"
            " && echo '/srv/volume/wal /var/lib/postgresql-wal none bind,nofail 0 0' >>/etc/fstab && systemctl daemon-reload"
        )
        self.host.run(f"systemctl start --no-block {GUARD}")
        journal = f"journalctl --unit={GUARD} --no-pager --output=cat"
        eventually("the volume is missed", lambda: "volume not mounted" in self.host.run(journal))
        self.assertNotEqual(self.host.property(GUARD, "ActiveState"), "active")
        self.host.run("rm /srv/volume && mkdir -p /srv/volume/wal")
        eventually("guard runs", lambda: self.host.property(GUARD, "ActiveState") == "active")
        self.host.run("mountpoint --quiet /var/lib/postgresql-wal")
