"""The command that sizes the DR region's API, against a Terraform that only notes how it was called."""

import shutil
import unittest
from pathlib import Path

from test_night import SCRIPTS, Commands

STATE = {"STATE_BUCKET": "state", "STATE_REGION": "eu-north-1", "STATE_KMS_KEY": "key"}


class ActivateRegion(Commands):
    def setUp(self):
        super().setUp()
        self.command("terraform", f'printf "%s\\n" "args $TF_CLI_ARGS_plan" >> "{self.called}"')
        # The scripts act on the checkout that contains them.
        self.scripts = self.directory / "scripts/deploy"
        shutil.copytree(SCRIPTS, self.scripts, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        environments = self.directory / "infra-dr/environments"
        environments.mkdir(parents=True)
        (self.directory / "infra-dr/.terraform.lock.hcl").touch()
        self.variables = environments / "production.tfvars"
        self.variables.write_text('owner = "platform-team"\n')

    def activate(self, *arguments):
        return self.run_script(self.scripts / "activate-region", "--environment", "production", *arguments, **STATE)

    def calls(self):
        return [line for line in self.called.read_text().splitlines() if " plan " in line or " apply " in line or line.startswith("args -")]

    def test_active_then_planned_without_the_lost_region(self):
        outcome = self.activate("--yes")
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        calls = self.calls()
        planned = next(number for number, call in enumerate(calls) if call.startswith("terraform -chdir=infra-dr plan "))
        self.assertEqual(calls[planned + 1], "args -refresh=false -var=active=true")
        self.assertIn("-chdir=infra-dr apply", calls[-1])
        self.assertIn("write `active = true` into infra-dr/environments/production.tfvars", outcome.stderr)

    def test_standby_then_goes_back(self):
        self.assertEqual(self.activate("--standby", "--yes").returncode, 0)
        self.assertIn("args -refresh=false -var=active=false", self.calls())

    def test_no_answer_then_nothing_applied(self):
        outcome = self.activate()
        self.refused(outcome, "nothing was changed")
        self.assertFalse([call for call in self.calls() if " apply " in call])

    def test_other_value_in_the_variables_then_refused(self):
        self.variables.write_text("active = false\n")
        self.refused(self.activate("--yes"), "has `active = false`: write `active = true` there")
        self.assertEqual(self.calls(), [])

    def test_value_in_the_variables_then_kept_by_the_next_apply(self):
        self.variables.write_text("active = true\n")
        outcome = self.activate("--yes")
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        self.assertNotIn("merge it", outcome.stderr)

    def test_no_environment_then_refused(self):
        self.refused(self.run_script(self.scripts / "activate-region", **STATE), "--environment is missing")


if __name__ == "__main__":
    unittest.main()
