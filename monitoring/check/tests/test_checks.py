"""Each check finds a fault that is planted into the real folder, and names it: `python -m unittest discover monitoring/check/tests`."""

import copy
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import alerts
import expressions
import folder
import panels
import routes
import runbooks

REAL = folder.load()


class Planted(unittest.TestCase):
    def setUp(self):
        self.folder = copy.deepcopy(REAL)

    def rule(self, name):
        return next(rule for rule in self.folder.rules if rule.name == name)

    def expression(self, name, text):
        self.rule(name).content["expr"] = text
        self.folder.parse()

    def finds(self, check, *messages):
        self.assertEqual(list(check(REAL)), [], "the real folder has none")
        found = list(check(self.folder))
        self.assertEqual(len(found), len(messages), found)
        for message, finding in zip(messages, found):
            self.assertIn(message, finding)


class Expressions(Planted):
    def test_metric_that_no_job_exports(self):
        self.expression("MemoryLow", "min by (cluster, node) (node_memory_free) < 0.1")
        self.finds(expressions.unknown_metrics, "`MemoryLow` names the metric `node_memory_free`, which no job exports")

    def test_metric_in_a_matcher(self):
        self.expression("MemoryLow", 'min by (cluster, node) ({__name__=~"node_memory_MemTotal_bytes|node_memory_free"}) < 0.1')
        self.finds(expressions.unknown_metrics, "`MemoryLow` names the metric `node_memory_free`")

    def test_recording_rule_that_does_not_exist(self):
        self.expression("RpoExceeded", "cluster:rpo:second > 30")
        self.finds(expressions.unknown_metrics, "`RpoExceeded` names the metric `cluster:rpo:second`")

    def test_waiting_metric_that_is_exported(self):
        self.folder.reference["failover-ctl"]["failover_failsafe_active"] = "gauge"
        self.finds(expressions.waiting, "`failover_failsafe_active` is exported")

    def test_waiting_metric_of_another_alert(self):
        self.folder.metrics["waiting"]["failover_failsafe_active"]["rules"] = ["NoPrimary"]
        self.finds(expressions.waiting, "`failover_failsafe_active` waits for NoPrimary, and FailsafeActive names it")

    def test_waiting_metric_that_no_rule_names(self):
        self.folder.metrics["waiting"]["failover_unused"] = {"by": "agent", "rules": ["NoPrimary"]}
        self.finds(expressions.waiting, "`failover_unused` waits for NoPrimary, and no rule names it")

    def test_window_of_three_scrapes(self):
        self.expression("OomKill", "sum by (cluster, node) (increase(node_vmstat_oom_kill[45s])) > 0")
        self.finds(expressions.windows, "`OomKill` has the window [45s]: four scrape intervals are 60s")

    def test_subquery_of_three_scrapes(self):
        self.expression("OomKill", "sum by (cluster, node) (max_over_time(node_vmstat_oom_kill[45s:15s])) > 0")
        self.finds(expressions.windows, "`OomKill` has the window [45s]", "`OomKill` has the window [15s]")

    def test_failed_scrape_of_an_alert_that_waits_for_a_day(self):
        self.expression("PendingRestart", "max by (cluster, node) (pg_configuration_pending_restart) > 0")
        self.finds(expressions.gaps, "`PendingRestart` waits for 1d, and one failed scrape of `pg_configuration_pending_restart` starts that again")

    def test_label_that_changes(self):
        self.expression("MemoryLow", "min by (cluster, node, reason) (node_memory_MemTotal_bytes) < 0.1")
        self.finds(expressions.changing_labels, "`MemoryLow` has the label `reason`, which may change")

    def test_every_label_of_the_series(self):
        self.expression("MemoryLow", "node_memory_MemTotal_bytes < 0.1")
        self.finds(expressions.changing_labels, "`MemoryLow` keeps every label of its series")

    def test_label_of_a_recording_rule(self):
        self.expression("cluster:rpo:seconds", "min by (cluster, holder) (failover_unreplicated_seconds)")
        self.finds(expressions.changing_labels, "`RpoExceeded` has the label `holder`")

    def test_label_from_the_right_side(self):
        self.expression("MemoryLow", "max by (cluster, node) (node_memory_MemTotal_bytes) * on (cluster) group_left (holder) node_load1")
        self.finds(expressions.changing_labels, "`MemoryLow` has the label `holder`")

    def test_aggregation_without_labels_drops_them(self):
        self.expression("MemoryLow", "min(node_memory_MemTotal_bytes) < 0.1")
        self.finds(expressions.changing_labels)

    def test_aggregation_without_some_labels_keeps_the_rest(self):
        self.expression("MemoryLow", "min without (node) (node_memory_MemTotal_bytes) < 0.1")
        self.finds(expressions.changing_labels, "`MemoryLow` keeps every label")

    def test_expression_that_does_not_parse(self):
        self.expression("MemoryLow", "min by (cluster, node) (node_memory_MemTotal_bytes < 0.1")
        self.finds(expressions.grammar, "`MemoryLow` is no PromQL of Prometheus 3 near")


class Alerts(Planted):
    def test_severity_that_is_not_in_the_list(self):
        self.rule("NoPrimary").content["labels"]["severity"] = "page"
        self.finds(alerts.severities, "`NoPrimary` has the severity `page`")

    def test_component_of_another_file(self):
        self.rule("NoPrimary").content["labels"]["component"] = "host"
        self.finds(alerts.severities, "`NoPrimary` has the component `host`")

    def test_no_for(self):
        del self.rule("NoPrimary").content["for"]
        self.finds(alerts.severities, "`NoPrimary` has no `for`")

    def test_critical_alert_that_waits_for_ten_minutes(self):
        del self.rule("BackupTooOld").content["labels"]["lasts"]
        self.finds(alerts.lasting, "`BackupTooOld` is critical and waits for 10m: write `lasts: days` into its labels")

    def test_duration_that_no_route_reads(self):
        self.rule("BackupTooOld").content["labels"]["lasts"] = "weeks"
        self.finds(alerts.lasting, "`BackupTooOld` (critical) has the label lasts=`weeks`, which no route reads")

    def test_warning_that_lasts_for_days(self):
        self.rule("MemoryLow").content["labels"]["lasts"] = "days"
        self.finds(alerts.lasting, "`MemoryLow` (warning) has the label lasts=`days`, which no route reads")

    def test_name_twice(self):
        self.folder.rules.append(self.rule("NoPrimary"))
        self.finds(alerts.names, "`NoPrimary` occurs twice")

    def test_no_summary(self):
        del self.rule("NoPrimary").annotations["summary"]
        self.finds(alerts.annotations, "`NoPrimary` has no summary")

    def test_no_value(self):
        self.rule("MemoryLow").annotations.update(summary="Memory is low", description="Memory is low")
        self.finds(alerts.annotations, "`MemoryLow` has no value in its annotations")

    def test_critical_alert_without_a_command(self):
        self.rule("NoPrimary").annotations["description"] = "{{ $value }} nodes accept writes."
        self.finds(alerts.annotations, "`NoPrimary` is critical and names no first command")

    def test_label_that_the_expression_drops(self):
        self.rule("MemoryLow").annotations["description"] = "{{ $labels.instance }}"
        self.finds(alerts.annotations, "`MemoryLow` shows the label `instance`")

    def drop_tests(self, keep):
        for content in self.folder.tests.values():
            for case in content["tests"]:
                case["promql_expr_test"] = [test for test in case["promql_expr_test"] if "NoPrimary" not in test["expr"] or keep(test)]

    def test_alert_that_fires_in_no_test(self):
        self.drop_tests(lambda test: not test["exp_samples"])
        self.finds(alerts.tests, "`NoPrimary` (critical) fires in no test")

    def test_alert_that_stays_quiet_in_no_test(self):
        self.drop_tests(lambda test: test["exp_samples"])
        self.finds(alerts.tests, "`NoPrimary` stays quiet in no test")

    def test_alert_without_tests(self):
        self.drop_tests(lambda test: False)
        self.finds(alerts.tests, "`NoPrimary` (critical) fires in no test", "`NoPrimary` stays quiet in no test")


class Routes(Planted):
    def test_route_to_a_receiver_that_does_not_exist(self):
        for route in self.folder.alertmanager["route"]["routes"]:
            route["receiver"] = route["receiver"].replace("page", "pager")
        self.finds(
            routes.receivers,
            "the route to `pager` reaches nobody: no receiver has this name",
            "the receiver `page` gets no alert",
        )

    def test_receiver_without_an_integration(self):
        self.folder.alertmanager["receivers"][0].pop("webhook_configs")
        self.finds(routes.receivers, "the route to `page` reaches nobody: the receiver has no integration")

    def test_receiver_without_a_route(self):
        self.folder.alertmanager["receivers"].append({"name": "chat", "webhook_configs": [{"url": "http://127.0.0.1"}]})
        self.finds(routes.receivers, "the receiver `chat` gets no alert")

    def test_receiver_is_missing(self):
        self.folder.alertmanager["route"]["routes"].pop()
        self.folder.alertmanager["receivers"] = [entry for entry in self.folder.alertmanager["receivers"] if entry["name"] != "information"]
        self.finds(routes.receivers, "the receiver `information` is missing")

    def test_inhibition_of_an_alert_that_does_not_exist(self):
        self.folder.alertmanager["inhibit_rules"][0]["source_matchers"] = ['alertname="NoPrimry"']
        self.finds(routes.matched_names, 'the matcher alertname="NoPrimry" of alertmanager.yml matches no rule')

    def test_inhibition_of_a_component_that_does_not_exist(self):
        self.folder.alertmanager["inhibit_rules"][0]["target_matchers"] = ['component=~"api|pooler"']
        self.finds(routes.matched_names, 'the matcher component="pooler"')

    def test_route_of_a_severity_that_does_not_exist(self):
        self.folder.alertmanager["route"]["routes"][1]["matchers"] = ['severity="disaster"']
        self.finds(routes.matched_names, 'the matcher severity="disaster"')

    def inhibition(self, source):
        return next(entry for entry in self.folder.alertmanager["inhibit_rules"] if entry["source_matchers"] == [f'alertname="{source}"'])

    def test_inhibition_of_a_component(self):
        self.inhibition("PostgresDown")["target_matchers"] = ['component="replication"', 'alertname!="SlotInactive"']
        self.finds(routes.inhibition_targets, "the inhibition with target_matchers ['component=\"replication\"'")

    def test_inhibition_by_a_severity(self):
        self.inhibition("PostgresDown")["source_matchers"] = ['severity="critical"']
        self.finds(routes.inhibition_targets, "the inhibition with source_matchers ['severity=\"critical\"'] of alertmanager.yml names no alert")

    def test_inhibition_of_another_node(self):
        self.inhibition("DiskFull")["equal"] = ["cluster", "mountpoint"]
        self.finds(routes.inhibition_labels, "`DiskFull` mutes `DiskFullSoon` of another node: add node to `equal`")

    def test_inhibition_of_another_bucket(self):
        self.inhibition("BackupRepoUnhealthy")["equal"] = ["cluster"]
        self.finds(routes.inhibition_labels, "`BackupRepoUnhealthy` mutes `BackupNotInOtherRegion` of another bucket")

    def test_grouping_by_alert(self):
        self.folder.alertmanager["route"]["routes"][1]["group_by"] = ["alertname"]
        self.finds(routes.grouping, "the route to `page` groups by ['alertname']")


class Runbooks(Planted):
    def test_no_runbook(self):
        del self.folder.runbooks["no-primary"]
        self.finds(runbooks.pairs, "`NoPrimary` has no runbook: write docs/runbooks/no-primary.md")

    def test_runbook_of_no_alert(self):
        self.folder.runbooks["no-secondary"] = self.folder.runbooks["no-primary"]
        self.finds(runbooks.pairs, "docs/runbooks/no-secondary.md belongs to no alert")

    def test_another_runbook(self):
        self.rule("NoPrimary").annotations["runbook_url"] = "docs/runbooks/split-brain.md"
        self.finds(runbooks.pairs, "`NoPrimary` has the runbook_url `docs/runbooks/split-brain.md`")

    def page(self, old, new):
        page = self.folder.runbooks["no-primary"]
        self.assertIn(old, page)
        self.folder.runbooks["no-primary"] = page.replace(old, new)

    def test_section_missing(self):
        self.page("## Impact", "### Impact")
        self.finds(runbooks.pages, "docs/runbooks/no-primary.md has the sections Meaning, Diagnosis, Mitigation, How to test")

    def test_section_empty(self):
        page = self.folder.runbooks["no-primary"]
        self.folder.runbooks["no-primary"] = page[: page.index("## How to test")] + "## How to test\n"
        self.finds(runbooks.pages, "docs/runbooks/no-primary.md says nothing below `How to test`")

    def test_no_command_that_a_test_runs(self):
        self.page("```sh", "```console")
        self.finds(runbooks.pages, "docs/runbooks/no-primary.md has no command in a block ```sh below `Diagnosis`")

    def test_title_of_another_alert(self):
        self.page("# NoPrimary", "# SplitBrain")
        self.finds(runbooks.pages, "docs/runbooks/no-primary.md does not begin with `# NoPrimary`")

    def test_file_of_another_subject(self):
        self.page("monitoring/rules/availability.yml", "monitoring/rules/failover.yml")
        self.finds(runbooks.pages, "docs/runbooks/no-primary.md does not link the rule's file, monitoring/rules/availability.yml")


class Panels(Planted):
    def panel(self, dashboard, title):
        found = next(each for each in self.folder.dashboards if each["name"] == dashboard)
        return next(panel for panel in panels.declaration.panels(found) if panel["title"] == title)

    def test_metric_that_no_job_exports(self):
        self.panel("api", "Requests in progress (count)")["queries"][0]["expr"] = 'sum(http_requests_open{cluster="$cluster"})'
        self.finds(panels.unknown_metrics, "panel `api: Requests in progress (count)` names the metric `http_requests_open`, which no job exports")

    def test_recording_rule_that_does_not_exist(self):
        self.panel("fleet", "RPO of a failover (seconds)")["queries"][1]["expr"] = "objective:rpo"
        self.finds(panels.unknown_metrics, "panel `fleet: RPO of a failover (seconds)` names the metric `objective:rpo`")

    def test_expression_that_does_not_parse(self):
        self.panel("api", "Requests in progress (count)")["queries"][0]["expr"] = "sum(http_requests_in_flight"
        self.finds(panels.grammar, "panel `api: Requests in progress (count)` is no PromQL of Prometheus 3 near `the end`")

    def test_runbook_of_no_alert(self):
        self.panel("fleet", "RPO of a failover (seconds)")["runbooks"] = ["RpoToHigh"]
        self.finds(panels.links, "panel `fleet: RPO of a failover (seconds)` links the runbook of `RpoToHigh`, which is no alert")

    def test_table_with_another_label(self):
        self.panel("fleet", "State of each cluster")["queries"][0]["expr"] = "sum by (cluster, node) (failover_is_primary)"
        self.finds(panels.table_labels, "panel `fleet: State of each cluster` has the labels cluster, node in a query")


if __name__ == "__main__":
    unittest.main()
