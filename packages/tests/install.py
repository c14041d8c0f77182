"""Each package alone on a bare host: installed, inspected, removed and purged."""

import re
import unittest

import host
from host import Host, package


class Installed(unittest.TestCase):
    """One package. Each test continues where the last one ended."""

    name = None
    manual = None
    enabled = ()
    kept = ()

    @classmethod
    def setUpClass(cls):
        cls.host = Host(cls.name)
        cls.addClassCleanup(cls.host.remove)
        cls.before = cls.processes()
        cls.host.install(package(cls.name))

    @classmethod
    def processes(cls):
        """Returns the names of all services that run."""
        return cls.host.run(
            "systemctl list-units --type=service,timer --state=active --plain --no-legend | cut -d' ' -f1"
        )

    def test_1_nothing_enabled_or_started(self):
        started = set(self.processes().split()) - set(self.before.split())
        # Of Debian's packages.
        self.assertLessEqual(started, {"postgresql.service", "e2scrub_all.timer"})
        for unit in host.units(self.name):
            enabled = self.host.run(f"systemctl is-enabled {unit}", check=False)
            self.assertIn(enabled, ("disabled", "static"), unit)

    def test_2_files_in_place(self):
        self.host.run(f"{self.name} --version")
        listed = self.host.run(f"dpkg --listfiles {self.name}").splitlines()
        for path in (
            f"/usr/share/man/man1/{self.manual}.1.gz",
            f"/usr/share/bash-completion/completions/{self.name}",
            f"/usr/share/zsh/vendor-completions/_{self.name}",
            f"/usr/share/fish/vendor_completions.d/{self.name}.fish",
            f"/etc/default/{self.name}",
            f"/usr/share/doc/{self.name}/copyright",
        ):
            self.assertIn(path, listed)
        completion = self.host.run(
            f"bash -c 'source /usr/share/bash-completion/completions/{self.name}; complete -p {self.name}'"
        )
        self.assertIn(self.name, completion)
        head = self.host.run(f"zcat /usr/share/man/man1/{self.manual}.1.gz | grep -m1 '^.TH'")
        self.assertIn(self.manual, head)
        self.assertEqual(self.host.run("dpkg --verify " + self.name), "")

    def test_3_units_without_findings(self):
        for unit in host.units(self.name):
            found = self.host.run(f"systemd-analyze verify --man=no {unit} 2>&1")
            self.assertEqual(found, "", unit)

    def test_4_documented_settings_are_the_defaults(self):
        text = self.host.run(f"cat /etc/default/{self.name}")
        self.assertIsNone(re.search("^[^#\n]", text, re.MULTILINE), "a setting is set")

    def test_8_removed_then_data_kept(self):
        for path in self.kept:
            self.host.run(f"echo data > {path}")
        self.host.run(f"systemctl enable --quiet {' '.join(self.enabled)}")
        for command in ("remove", "purge"):
            self.host.run(f"DEBIAN_FRONTEND=noninteractive apt-get {command} -y -qq {self.name}")
            for path in self.kept:
                self.host.run(f"test -s {path}")
        self.assertEqual(self.host.run("find /etc/systemd -xtype l"), "")
        self.assertEqual(self.host.run(f"ls /etc/default/{self.name} 2>/dev/null", check=False), "")


class FailoverCtl(Installed):
    name = "failover-ctl"
    manual = "failover-ctl-promote"
    enabled = ("failover-ctl-agent.service", "failover-ctl-guard.service")
    kept = (
        "/etc/causeway/failover-ctl.toml",
        "/etc/causeway/command-signing.key",
        "/var/lib/causeway/failover-ctl/highest.json",
        "/var/lib/postgresql/file",
    )

    def test_4_watchdog_of_the_settings_then_its_user_may_open_it(self):
        self.host.install("udev")
        rules = "/usr/lib/udev/rules.d/60-failover-ctl.rules"
        program = re.search("PROGRAM==\"(.*?)\", GROUP", self.host.run(f"cat {rules}"))[1]
        for setting, code in (
            ('watchdog-device = "/dev/watchdog"', "0"),
            ('  watchdog-device="/dev/watchdog" # softdog', "0"),
            ('watchdog-device = "/dev/watchdog1"', "1"),
            ('#watchdog-device = "/dev/watchdog"', "1"),
        ):
            self.host.write("/etc/causeway/failover-ctl.toml", setting + "\n")
            found = self.host.run("set +e; " + program.replace("$devnode", "/dev/watchdog") + "; echo $?", check=False)
            self.assertEqual(found.splitlines()[-1], code, setting)
        self.host.run("rm /etc/causeway/failover-ctl.toml")

    def test_5_without_settings_then_start_skipped(self):
        self.host.run("systemctl start failover-ctl-guard failover-ctl-agent")
        for unit in self.enabled:
            self.assertEqual(self.host.property(unit, "ActiveState"), "inactive")
            self.assertEqual(self.host.property(unit, "ConditionResult"), "no")


class BackupAgent(Installed):
    name = "backup-agent"
    manual = "backup-agent-wal-push"
    enabled = ("backup-agent.timer", "backup-agent-backfill.timer")
    kept = ("/etc/causeway/backup-agent.toml", "/var/lib/causeway/backup-agent/missing.json")

    def test_5_timers_can_be_enabled(self):
        self.host.run("systemctl enable --now --quiet backup-agent.timer")
        self.assertEqual(self.host.property("backup-agent.timer", "ActiveState"), "active")
        self.assertNotEqual(self.host.property("backup-agent.timer", "NextElapseUSecRealtime"), "")


class CausewayApi(Installed):
    name = "causeway-api"
    manual = "causeway-api-migrate"
    enabled = ("causeway-api.service",)
    kept = ("/etc/causeway/api.password",)

    def test_5_service_answers_livez(self):
        # Without a database: it retries for DB_STARTUP_TIMEOUT.
        self.host.write("/etc/default/causeway-api", "LISTEN=127.0.0.1:8080\nDB_STARTUP_TIMEOUT=10m\n")
        self.host.run("systemctl start causeway-api")
        ask = "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
        answer = host.eventually("/livez answers", lambda: self.host.run(ask))
        self.assertIn(" 200 ", answer.splitlines()[0])
        pid = self.host.property("causeway-api", "MainPID")
        self.assertEqual(self.host.run(f"stat --format=%U /proc/{pid}"), "causeway-api")

    def test_6_upgrade_then_service_restarted(self):
        before = self.host.property("causeway-api", "MainPID")
        self.host.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --reinstall {package(self.name)}")
        after = self.host.property("causeway-api", "MainPID")
        self.assertEqual(self.host.property("causeway-api", "ActiveState"), "active")
        self.assertNotIn(after, (before, "0"))
        self.host.run("systemctl stop causeway-api")
        self.host.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --reinstall {package(self.name)}")
        self.assertEqual(self.host.property("causeway-api", "ActiveState"), "inactive")
