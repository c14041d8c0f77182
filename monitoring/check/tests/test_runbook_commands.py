"""Wrong commands and names, planted into a real runbook, are found."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import command_line
import runbook_commands
from test_checks import REAL, Planted

PAGE = "docs/runbooks/replica-not-streaming.md"


class RunbookCommands(Planted):
    def add(self, text):
        self.folder.runbooks["replica-not-streaming"] += text

    def replace(self, old, new):
        page = self.folder.runbooks["replica-not-streaming"]
        self.assertIn(old, page)
        self.folder.runbooks["replica-not-streaming"] = page.replace(old, new)

    def test_argument_in_place_of_an_option(self):
        self.add("Run `failover-ctl rejoin NODE --rebuild`.\n")
        self.finds(runbook_commands.command_lines, f"{PAGE} has `failover-ctl rejoin NODE --rebuild`, and failover-ctl needs `--node`")

    def test_option_that_does_not_exist(self):
        self.add("```console\n$ failover-ctl promote --to NODE --force\n```\n")
        self.finds(runbook_commands.command_lines, "and failover-ctl has no option `--force`")

    def test_command_in_a_block_without_its_options(self):
        self.add("```sh\nfailover-ctl rejoin\n```\n")
        self.finds(runbook_commands.command_lines, "and failover-ctl needs `--node`")

    def test_fault_that_the_lab_does_not_have(self):
        self.add("`lab break node-tired`, then `lab heal`.\n")
        self.finds(runbook_commands.command_lines, "and lab has no command `node-tired`")

    def test_command_of_a_guide(self):
        self.folder.guides["docs/guides/lose-a-region.md"] += "```sh\nfailover-ctl switchover --to NODE # when all is well\n```\n"
        self.finds(runbook_commands.command_lines, "docs/guides/lose-a-region.md has `failover-ctl switchover --to NODE # when all is well`, and failover-ctl has no command `switchover`")

    def test_sql_as_root(self):
        self.replace("## Mitigation", '```sh\npsql --command="SELECT 1"\n```\n\n## Mitigation')
        self.finds(runbook_commands.accounts, f'{PAGE} runs `psql --command="SELECT 1"` as root')

    def test_backup_agent_as_root_in_prose(self):
        self.add("Run `backup-agent wal push PATH`.\n")
        self.finds(runbook_commands.accounts, f"{PAGE} runs `backup-agent wal push PATH` as root")

    def test_signed_command_without_the_key(self):
        self.add("Run `sudo -u postgres failover-ctl rejoin --node NODE`.\n")
        self.finds(runbook_commands.accounts, "root alone reads the command signing key")

    def test_no_link_to_the_first_steps(self):
        self.replace("(../guides/on-call.md)", "(../guides/operate.md)")
        self.finds(runbook_commands.accounts, f"{PAGE} does not link (../guides/on-call.md)")

    def test_unit_of_no_package(self):
        self.add("Run `systemctl restart postgresql`, and read `journalctl --unit failover-ctl --since -1h`.\n")
        self.finds(runbook_commands.units, f"{PAGE} names the unit `postgresql`", f"{PAGE} names the unit `failover-ctl`")

    def test_path_of_no_role(self):
        self.add("```console\n$ cat /etc/causeway/pg_hba.conf\n```\n")
        self.finds(runbook_commands.paths, f"{PAGE} names `/etc/causeway/pg_hba.conf`")

    def test_problem_that_no_agent_reports(self):
        self.add("The problem `not-following`.\n")
        self.finds(runbook_commands.names, f"{PAGE} names `not-following`")

    def test_playbook_that_does_not_exist(self):
        self.add("Run playbook `rebuild`.\n")
        self.finds(runbook_commands.names, "there is no ansible/rebuild.yml")

    def test_variable_of_no_role(self):
        self.add("Raise `postgres_wal_keep_size`.\n")
        self.finds(runbook_commands.names, f"{PAGE} names the variable `postgres_wal_keep_size`")

    def test_severity_of_another_alert(self):
        self.replace("Severity: critical: page.", "Severity: warning: ticket.")
        self.finds(runbook_commands.severities, f"{PAGE} does not state Severity: critical: page, as the rule does")

    def test_diagnosis_without_the_first_command(self):
        texts = self.rule("ReplicaNotStreaming").annotations
        texts["description"] = texts["description"].replace("`failover-ctl status`", "`chronyc tracking`")
        self.finds(runbook_commands.first_commands, f"{PAGE} does not run `chronyc` in its diagnosis")


class CommandLine(unittest.TestCase):
    def test_accepted(self):
        for text in (
            "failover-ctl status --json", "failover-ctl --config FILE plan promote --to NODE", "failover-ctl abandon --reason TEXT",
            "backup-agent wal fetch NAME PATH --recovery", "lab exec --node b -- psql --command=x", "lab run --help",
        ):
            program, *words = text.split()
            self.assertIsNone(REAL.installed.programs[program].wrong(words), text)

    def test_rejected(self):
        for text, answer in {
            "failover-ctl": "needs one of the commands status,", "failover-ctl plan": "needs one of the commands promote,",
            "failover-ctl promote --to": "needs a value for `--to`", "failover-ctl promote --to --yes": "needs a value for `--to`",
            "backup-agent wal push": "needs the argument <PATH>", "backup-agent list main": "takes no argument `main`", "lab exec": "needs the argument <COMMAND>...",
        }.items():
            program, *words = text.split()
            self.assertIn(answer, REAL.installed.programs[program].wrong(words) or "", text)

    def test_every_page_is_read(self):
        self.assertEqual(set(REAL.installed.programs), set(command_line.PROGRAMS))
        self.assertIn("--accept-collation", REAL.installed.programs["failover-ctl"].commands["plan"].commands["promote"].options)


if __name__ == "__main__":
    unittest.main()
