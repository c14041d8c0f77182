"""Metrics that no exporter exports are found."""

import sys
import unittest
from pathlib import Path

# Last: a filter has the name of a module there.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import scraped

USED = scraped.used()


class Scraped(unittest.TestCase):
    def test_names_are_found_by_job(self):
        for job, name in {
            "node": "node_filesystem_avail_bytes", "agent": "failover_is_primary", "postgres": "pg_archive_failing", "pooler": "pgbouncer_pools_client_waiting_connections",
            "prometheus": "prometheus_config_last_reload_successful", "api": "http_request_duration_seconds_bucket",
        }.items():
            self.assertIn(name, USED[job])
        self.assertIn("backup_base_last_stored_timestamp_seconds", USED["node"], "backup-agent's are in the textfile directory")

    def test_declared_name_that_nothing_reads_then_not_used(self):
        self.assertNotIn("canary_success", USED["node"])
        self.assertNotIn("failover_failsafe_active", USED["agent"], "no release exports what a later part brings")

    def test_everything_is_exported_then_none_missing(self):
        self.assertEqual(scraped.missing(USED, USED, {}), [])

    def test_name_that_no_exporter_exports_then_missing(self):
        seen = USED | {"postgres": USED["postgres"] - {"pg_stat_archiver_failed_count"}}
        self.assertEqual(scraped.missing(USED, seen, {}), ["`pg_stat_archiver_failed_count` of the job `postgres`"])

    def test_name_of_another_job_then_missing(self):
        seen = {"node": {"up"}, "agent": set()}
        self.assertEqual(scraped.missing({"agent": {"up"}}, seen, {}), ["`up` of the job `agent`"])

    def test_job_without_target_then_every_name_missing(self):
        self.assertEqual(scraped.missing({"pooler": {"a", "b"}}, {}, {}), ["`a` of the job `pooler`", "`b` of the job `pooler`"])

    def test_name_with_a_reason_then_not_missing(self):
        self.assertEqual(scraped.missing({"node": {"canary_success"}}, {}, {"canary_success": "a reason"}), [])

    def test_reasons_are_for_names_and_jobs_that_exist(self):
        names = set().union(*USED.values())
        self.assertEqual(set(scraped.LATER) - names, set(), "delete the reason of a metric that nothing reads")
        self.assertEqual(set(scraped.NOT_HERE) - set(USED), set())


if __name__ == "__main__":
    unittest.main()
