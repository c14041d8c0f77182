"""When `services_current` starts, restarts or reloads a service."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "library"))

import services_current

STARTED, RELOADED = 100.0, 200.0


def decide(state="active", started=STARTED, reloaded=0.0, changed=None, interrupts=lambda: "", **options):
    service = {"only_if_active": False, "restart": ["/unit"], "program": "/program", "reload": ["/settings"]} | options
    return services_current.decide(service, state, started, reloaded, changed or {}, interrupts)


class Decide(unittest.TestCase):
    def test_nothing_is_newer_then_none(self):
        self.assertEqual(decide(changed={"/unit": 99.0, "/program": 99.0, "/settings": 99.0}), ("none", []))

    def test_inactive_then_started_unless_something_else_starts_it(self):
        for state in ("inactive", "failed", "deactivating"):
            self.assertEqual(decide(state), ("start", []))
            self.assertEqual(decide(state, only_if_active=True, changed={"/unit": 101.0}), ("none", []))

    def test_file_of_the_start_is_newer_then_restarted(self):
        for path in ("/unit", "/program"):
            for state in services_current.RUNNING:
                self.assertEqual(decide(state, changed={path: 101.0}), ("restart", [path]))

    def test_reload_after_the_change_of_a_start_file_then_still_restarted(self):
        self.assertEqual(decide(reloaded=RELOADED, changed={"/unit": 150.0}), ("restart", ["/unit"]))

    def test_settings_are_newer_than_start_and_reload_then_reloaded(self):
        self.assertEqual(decide(changed={"/settings": 101.0}), ("reload", ["/settings"]))
        self.assertEqual(decide(reloaded=RELOADED, changed={"/settings": 201.0}), ("reload", ["/settings"]))
        self.assertEqual(decide(reloaded=RELOADED, changed={"/settings": 150.0}), ("none", []))

    def test_started_after_the_last_reload_then_the_start_counts(self):
        self.assertEqual(decide(started=300.0, reloaded=RELOADED, changed={"/settings": 250.0}), ("none", []))

    def test_both_are_newer_then_one_restart(self):
        self.assertEqual(decide(changed={"/unit": 101.0, "/settings": 101.0}), ("restart", ["/unit"]))


    def test_restart_would_interrupt_work_then_postponed(self):
        work = {"interrupts": lambda: "it copies"}
        self.assertEqual(decide(changed={"/unit": 101.0}, **work), ("postpone", ["it copies"]))
        self.assertEqual(decide(changed={"/settings": 101.0}, **work), ("reload", ["/settings"]))
        self.assertEqual(decide(**work), ("none", []))


class HasRun(unittest.TestCase):
    def test_no_stamp_then_never(self):
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch, "stamp-b.timer").touch()
            self.assertFalse(services_current.has_run("a.timer", scratch))

    def test_stamp_then_has_run(self):
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch, "stamp-a.timer").touch()
            self.assertTrue(services_current.has_run("a.timer", scratch))


class Started(unittest.TestCase):
    def test_service_then_start_of_its_process(self):
        known = {"ExecMainStartTimestamp": "Thu 1970-01-01 00:01:40.500000 UTC", "ActiveEnterTimestamp": "Thu 1970-01-01 00:09:00.000000 UTC"}
        self.assertEqual(services_current.started(known), 100.5)

    def test_timer_then_when_it_became_active(self):
        self.assertEqual(services_current.started({"ActiveEnterTimestamp": "Thu 1970-01-01 00:01:40.000000 UTC"}), 100.0)

    def test_never_started_then_everything_is_newer(self):
        self.assertEqual(services_current.started({"ExecMainStartTimestamp": ""}), 0.0)


if __name__ == "__main__":
    unittest.main()
