"""What runs each night and on a pull request, against commands that only note how they were called.

A drill is played whole: a real server, a real copy of it with a real archive of its log, and in place of
backup-agent a command that puts that copy where it is told. What backup-agent restores is for its own
tests to say; what follows a restore is said here.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
# Ends a command that hangs. One that is only slow, on a busy machine, must pass.
HANG_SECS = 900
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))


class Commands(unittest.TestCase):
    """A directory for a test, with commands that come before the real ones."""

    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.directory.chmod(0o755)
        self.called = self.directory / "called"
        self.called.touch()

    def command(self, name, body):
        path = self.directory / name
        path.write_text(f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >> "{self.called}"\n{body}\n')
        path.chmod(0o755)

    def run_script(self, script, *arguments, **environment):
        path = f"{self.directory}:{os.environ['PATH']}"
        return subprocess.run([SCRIPTS / script, *arguments], env={"PATH": path, "HOME": str(self.directory)} | environment,
                              cwd=self.directory, capture_output=True, text=True, timeout=HANG_SECS)

    def refused(self, outcome, sentence):
        self.assertNotEqual(outcome.returncode, 0, outcome.stderr)
        self.assertIn(sentence, outcome.stderr)


class DriftIssue(Commands):
    def found(self, outcome, numbers="", plan="~ resource"):
        self.command("gh", f'case "$2" in list) printf "%s" "{numbers}" ;; *) for it; do :; done; [ ! -f "$it" ] || cat "$it" ;; esac')
        directory = self.directory / "production-infra-dr"
        directory.mkdir(exist_ok=True)
        (directory / "outcome").write_text(f"{outcome}\n")
        (directory / "plan.txt").write_text(plan)
        result = self.run_script("drift-issue", f"{directory}/")
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout, [line.split()[2] for line in self.called.read_text().splitlines() if line.startswith("gh issue")]

    def test_opened_when_something_differs(self):
        body, acts = self.found(2, plan="~ security group\n")
        self.assertEqual(acts, ["list", "create"])
        self.assertIn("~ security group", body)
        self.assertIn("--title Drift: production-infra-dr", self.called.read_text())

    def test_added_to_while_it_is_open(self):
        self.assertEqual(self.found(2, "17")[1], ["list", "comment"])

    def test_closed_when_nothing_differs(self):
        self.assertEqual(self.found(0, "17")[1], ["list", "close"])

    def test_nothing_is_said_of_nothing(self):
        self.assertEqual(self.found(0)[1], ["list"])

    def test_a_comparison_that_failed_is_said(self):
        self.assertIn("failed, with exit code 1", self.found(1)[0])

    def test_a_long_plan_is_cut(self):
        self.assertLess(len(self.found(2, plan="x" * 200_000)[0]), 65_536)


class GitHubVariables(Commands):
    PRINTED = {"repository": {"PROJECT": "causeway", "ENVIRONMENTS": '["staging","production"]'},
               "environments": {"release": {"PUSH_ROLE": "arn:push"}, "production-infra": {"APPLY_ROLE": "arn:apply"}}}

    def set_variables(self, present, printed=PRINTED):
        self.command("gh", f'[ "$1" != api ] || printf "%s\\n" {present}')
        return subprocess.run([SCRIPTS / "github-variables", "--repository", "octo-org/octo-repo"], input=json.dumps(printed), text=True, capture_output=True,
                              env={"PATH": f"{self.directory}:{os.environ['PATH']}"}, timeout=HANG_SECS)

    def test_each_in_its_place(self):
        result = self.set_variables("release production-infra staging")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.called.read_text().splitlines()[1:], [
            "gh variable set PROJECT --repo octo-org/octo-repo --body causeway",
            'gh variable set ENVIRONMENTS --repo octo-org/octo-repo --body ["staging","production"]',
            "gh variable set PUSH_ROLE --repo octo-org/octo-repo --env release --body arn:push",
            "gh variable set APPLY_ROLE --repo octo-org/octo-repo --env production-infra --body arn:apply",
        ])

    def test_an_environment_that_is_not_there(self):
        self.refused(self.set_variables("staging"), "create and protect these environments first (https://github.com/octo-org/octo-repo/settings/environments): production-infra release")
        self.assertNotIn("variable set", self.called.read_text())

    def test_another_input(self):
        self.refused(self.set_variables("release", {}), "pipe `terraform output -json github_variables` into it")


class Infra(Commands):
    STATE = {"STATE_BUCKET": "state", "STATE_REGION": "eu-north-1", "STATE_KMS_KEY": "arn:aws:kms:eu-north-1:1:key/a"}

    def setUp(self):
        super().setUp()
        # A repository of its own, with the script and a root in it.
        self.repository = self.directory / "repository"
        (self.repository / "infra-dr/environments").mkdir(parents=True)
        (self.repository / "infra-dr/environments/test.tfvars").touch()
        (self.repository / "infra-dr/.terraform.lock.hcl").touch()
        (self.repository / "scripts/deploy").mkdir(parents=True)
        for name in ("infra", "ecs.bash", "ansible"):
            shutil.copy(SCRIPTS / name, self.repository / "scripts/deploy" / name)
        # Like Terraform, it makes no directory for the plan.
        self.command("terraform", 'case "$2" in show) echo "Plan: 1 to add" ;; plan) for word; do case $word in -out=*) : > "${word#-out=}" || exit 1 ;; esac; done; exit "${PLANNED:-0}" ;; esac')

    def infra(self, *arguments, state=STATE, **more):
        return self.run_script(self.repository / "scripts/deploy/infra", *arguments, **(state | more))

    def test_plan(self):
        result = self.infra("plan", "--root", "infra-dr", "--environment", "test", "--plan", "tfplan")
        self.assertEqual((result.returncode, result.stdout), (0, "Plan: 1 to add\n"), result.stderr)
        called = self.called.read_text()
        self.assertIn("-backend-config=key=test/dr.tfstate", called)
        self.assertRegex(called, rf"plan .*-lock=false -var-file=environments/test.tfvars -out={self.directory}/tfplan")

    def test_plan_into_a_directory_that_is_not_there(self):
        result = self.infra("plan", "--root", "infra-dr", "--environment", "test", "--plan", "approved/tfplan")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue((self.directory / "approved/tfplan").exists())

    def test_providers_are_those_of_the_lock_file(self):
        asked = ("--root", "infra-dr", "--environment", "test")
        self.assertEqual(self.infra("drift", *asked).returncode, 0)
        self.assertIn("init -no-color -lockfile=readonly ", self.called.read_text())
        (self.repository / "infra-dr/.terraform.lock.hcl").unlink()
        self.refused(self.infra("drift", *asked), "infra lock --root infra-dr` once and commit it")
        result = self.infra("lock", "--root", "infra-dr", state={})
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("providers lock -platform=linux_amd64", self.called.read_text())

    def test_apply_takes_the_plan_and_nothing_else(self):
        self.assertEqual(self.infra("apply", "--root", "infra-dr", "--environment", "test", "--plan", "tfplan").returncode, 0)
        self.assertRegex(self.called.read_text(), rf"apply -no-color {self.directory}/tfplan\n$")

    def test_drift_has_an_exit_code_of_its_own(self):
        for code in ("0", "1", "2"):
            result = self.infra("drift", "--root", "infra-dr", "--environment", "test", PLANNED=code)
            self.assertEqual(str(result.returncode), code)
        self.assertIn("-detailed-exitcode", self.called.read_text())

    def test_refused(self):
        asked = ("--root", "infra-dr", "--environment", "test")
        self.refused(self.infra("plan", *asked), "--plan is missing")
        self.refused(self.infra("destroy", *asked), "name an action: plan, apply, drift or lock")
        self.refused(self.infra("drift", *asked, state={}), "STATE_BUCKET is not set")
        self.refused(self.infra("drift", "--root", "infra-d", "--environment", "test"), "there is no root `infra-d`")
        self.refused(self.infra("drift", "--root", "infra-dr", "--environment", "prod"),
                     "there is no infra-dr/environments/prod.tfvars: copy one of infra-dr/examples")


class RestoreDrill(Commands):
    HOST = json.dumps({"region": "eu-central-1", "instance_id": "i-0123456789abcdef0", "scratch_volume_id": "vol-0a1b2c3d4e5f60001"})

    def drill(self, *more, status="Success", parameter=f"echo '{HOST}'", before="stopped", ping="Online"):
        (self.directory / "state").write_text(before)
        answer = json.dumps({"Status": status, "StandardOutputContent": "restored in 1 s", "StandardErrorContent": "and a warning"})
        self.command("aws", f"""printf '%s\\n' "in $AWS_REGION" >> "{self.called}"
            case "$2" in get-parameter) {parameter} ;; send-command) echo 11111111-2222 ;;
                describe-instances) cat {self.directory}/state; sed -i s/stopping/stopped/ {self.directory}/state ;;
                start-instances) [ "$(cat {self.directory}/state)" != stopping ] || exit 254; echo running > {self.directory}/state ;;
                stop-instances) echo stopped > {self.directory}/state ;;
                describe-instance-information) echo {ping} ;;
                *) echo '{answer}' ;; esac""")
        return self.run_script("restore-drill", "--name", "causeway-test", "--parameters-region", "eu-north-1", *more, DEPLOY_POLL="0.1", DRILL_START_TIMEOUT="1")

    def instances(self):
        return [line.split()[2] for line in self.called.read_text().splitlines() if line.startswith("aws ec2 st")]

    def test_host_runs_for_the_drill_only(self):
        for before in ("stopped", "stopping", "running"):
            self.called.write_text("")
            self.assertEqual(self.drill(before=before).returncode, 0)
            self.assertEqual(self.instances(), ["start-instances", "stop-instances"], before)
            called = self.called.read_text()
            self.assertLess(called.index("describe-instance-information"), called.index("send-command"), "its agent answers first")
            self.assertLess(called.index("get-command-invocation"), called.index("stop-instances"))

    def test_host_is_stopped_however_the_drill_ends(self):
        self.refused(self.drill(ping="ConnectionLost"), "Systems Manager's agent on i-0123456789abcdef0 is `ConnectionLost` after 1 s")
        self.refused(self.drill(status="Failed"), "the drill ended as Failed")
        self.assertEqual(self.instances(), ["start-instances", "stop-instances"] * 2)
        self.refused(self.drill(before="terminated"), "the host i-0123456789abcdef0 is gone: apply infra-dr again")
        self.assertEqual(len(self.instances()), 4)

    def test_what_is_sent(self):
        result = self.drill("--from", "eu-central-1", "--max-age", "600")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("restored in 1 s", result.stdout)
        called = self.called.read_text()
        parameters = json.loads(re.search(r"--parameters (\{.*?\n\}) --query", called, re.DOTALL)[1])
        self.assertTrue(parameters["commands"][0].endswith("bash"), "the host's agent would run it by sh")
        self.assertEqual(parameters["commands"].pop(1), "export FROM='eu-central-1' MAX_AGE='600'")
        self.assertEqual("\n".join(parameters["commands"]), (SCRIPTS / "restore-drill-on-host").read_text())
        self.assertEqual(parameters["executionTimeout"], ["3600"])

    def test_where_it_is_sent(self):
        self.assertEqual(self.drill().returncode, 0)
        called = self.called.read_text()
        self.assertIn("get-parameter --region eu-north-1 --name /causeway-test/dr/restore-drill ", called)
        self.assertIn("--instance-ids i-0123456789abcdef0 ", called)
        self.assertEqual(called.split("send-command")[1].count("in eu-central-1\n"), 3, "in the region of the host")

    def test_no_host(self):
        missing = "echo 'An error occurred (ParameterNotFound) when calling GetParameter' >&2; exit 254"
        self.refused(self.drill(parameter=missing), "set `restore_drill` in infra-dr, and apply it")
        self.refused(self.drill(parameter="echo AccessDeniedException >&2; exit 254"), "AccessDeniedException")
        self.assertNotIn("send-command", self.called.read_text())

    def test_a_drill_that_failed(self):
        for status in ("Failed", "TimedOut", "Cancelled"):
            self.refused(self.drill(status=status), f"the drill ended as {status}")

    def test_what_would_run_something_else_is_refused(self):
        self.refused(self.drill("--from", "eu'; reboot; '"), "neither a bucket nor a region")
        self.refused(self.drill("--max-age", "1h"), "write seconds, such as 3600")
        self.refused(self.drill("--name", ""), "--name is missing")
        self.assertEqual(self.called.read_text(), "")


@unittest.skipUnless(SERVERS and os.geteuid() == 0, "a drill needs PostgreSQL, and root, to become its user")
class RestoreDrillOnHost(Commands):
    def setUp(self):
        super().setUp()
        self.programs = SERVERS[-1].parent
        self.room = self.directory / "room"
        for name in ("room", "archive"):
            (self.directory / name).mkdir()
            shutil.chown(self.directory / name, "postgres")
        primary = self.room / "primary"
        self.as_postgres("initdb", "--pgdata", primary, "--no-sync", "--auth", "trust")
        with (primary / "postgresql.conf").open("a") as settings:
            settings.write(f"listen_addresses=''\nunix_socket_directories='{self.room}'\nmax_connections=150\nfsync=off\n"
                           f"archive_mode=on\narchive_command='cp %p {self.directory}/archive/%f'\n")
        self.as_postgres("pg_ctl", "--pgdata", primary, "--silent", "--wait", "--log", self.room / "log", "start")
        self.addCleanup(self.as_postgres, "pg_ctl", "--pgdata", primary, "--silent", "--mode", "immediate", "stop")
        self.as_postgres("pg_basebackup", "--host", self.room, "--pgdata", self.room / "copy", "--checkpoint", "fast", "--no-sync")
        with (self.room / "copy/postgresql.auto.conf").open("a") as settings:
            settings.write(f"restore_command='cp {self.directory}/archive/%f %p'\n")
        (self.room / "copy/recovery.signal").touch()
        self.command("backup-agent", f'chmod a+w "{self.called}"; test "$1" != restore || cp --recursive {self.room}/copy "$3"')
        self.called.chmod(self.called.stat().st_mode | stat.S_IWOTH)

    def as_postgres(self, program, *arguments):
        subprocess.run(["runuser", "--user", "postgres", "--", self.programs / program, *map(str, arguments)],
                       check=True, capture_output=True, cwd="/")

    def drill(self, **environment):
        return self.run_script("restore-drill-on-host", ROOM=str(self.room), **environment)

    def commit(self):
        for statement in ("CREATE TABLE precious AS SELECT generate_series(1, 1000)", "SELECT pg_switch_wal()"):
            self.as_postgres("psql", "--host", self.room, "--command", statement)
        deadline = time.monotonic() + 20
        while not list((self.directory / "archive").glob("*[0-9A-F]")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)

    def test_a_good_copy(self):
        self.commit()
        result = self.drill(FROM="eu-central-1")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"every row read in \d+ s; the last commit is \d+ s old")
        called = self.called.read_text()
        self.assertIn("--json --from eu-central-1", called)
        self.assertRegex(called.splitlines()[-1], r"verify-restore --target-directory \S+/data --socket-directory \S+ --answered-at \d{10}")
        self.assertEqual(list(self.room.glob("restore-drill.*")), [], "nothing is left")

    def test_server_that_does_not_stop_then_the_drill_fails(self):
        self.commit()
        self.command("runuser", f'case "$*" in *"/pg_ctl stop"*) exit 1 ;; esac; exec {shutil.which("runuser")} "$@"')
        self.refused(self.drill(), "the PostgreSQL of the copy does not stop")
        (copy,) = self.room.glob("restore-drill.*")
        self.as_postgres("pg_ctl", "--pgdata", copy / "data", "--silent", "--mode", "immediate", "stop")

    def test_an_old_copy(self):
        self.commit()
        time.sleep(1)
        self.refused(self.drill(MAX_AGE="1"), "check the archiving of the WAL")
        self.assertNotIn("verify-restore", self.called.read_text(), "it is not recorded as verified")

    def test_a_copy_without_its_log(self):
        self.refused(self.drill(), "no commit was replayed from the archive")

    def test_a_restore_that_fails(self):
        self.command("backup-agent", "exit 20")
        self.assertEqual(self.drill().returncode, 20)
        self.assertEqual(list(self.room.glob("restore-drill.*")), [])
