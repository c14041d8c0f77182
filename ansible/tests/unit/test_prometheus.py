"""Settings that the role prometheus writes, rendered without a host, are those with which the lab tests the alerts."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "ansible/roles/prometheus"
DECLARED = yaml.safe_load((ROOT / "monitoring/scrape/file.yml").read_text())
HOSTS = {
    "all": {
        "vars": {"failover_ctl_settings": 'cluster = "main"', "role_path": str(ROLE), "ansible_managed": "test", "ansible_python_interpreter": sys.executable},
        "children": {
            "postgres": {"hosts": {"a": {"private_ip": "10.0.0.1", "region": "r1", "zone": "r1a"}}},
            "pooler": {"hosts": {"a": {}}},
            "restore_drill": {"hosts": {"d": {"private_ip": "10.0.0.8", "region": "r2", "zone": "r2a"}}},
            "monitoring": {"hosts": {"m": {"private_ip": "10.0.0.9", "region": "r1", "zone": "r1a"}}},
        },
    }
}
FILES = [
    {"to": "prometheus.yml", "template": "prometheus.yml.j2", "unit": "prometheus_canary_unit"},
    {"to": "canary.service", "template": "oneshot.service.j2", "unit": "prometheus_canary_unit"},
    {"to": "ecs-targets.timer", "template": "oneshot.timer.j2", "unit": "prometheus_ecs_targets_unit"},
]
PLACES = [{"region": "eu-west-1"}, {"region": "eu-central-1", "role_arn": "arn:aws:iam::1:role/r"}]
CASES = {
    "inventory": {
        "prometheus_ecs": [{"cluster": "c", "service": "s", "region": "eu-west-1"}],
        "prometheus_canary_url": "https://api.example.com/a b",
    },
    "ec2": {"prometheus_discovery": "ec2", "prometheus_ec2": {"regions": PLACES, "cluster_tag": "causeway"}, "prometheus_rules_files": []},
}


def task(case):
    """Returns a task that writes each file, with the variables of a case."""
    text = "{{ lookup('ansible.builtin.template', role_path ~ '/templates/' ~ item.template, template_vars={'unit': lookup('ansible.builtin.vars', item.unit)}) }}"
    return {"ansible.builtin.copy": {"dest": f"{{{{ into }}}}/{case}-{{{{ item.to }}}}", "content": text}, "loop": FILES, "vars": CASES[case]}


def render():
    """Returns the text of each rendered file, by its case and name."""
    play = {"hosts": "m", "connection": "local", "gather_facts": False, "vars_files": [f"{ROLE}/defaults/main.yml", f"{ROLE}/vars/main.yml"], "tasks": [task(case) for case in CASES]}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "hosts.yml").write_text(yaml.safe_dump(HOSTS))
        (directory / "play.yml").write_text(yaml.safe_dump([play]))
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "hosts.yml", "play.yml", "--extra-vars", f"into={name}"]
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"), "ANSIBLE_HOME": f"{name}/home"}
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        return {(case, file["to"]): (directory / f"{case}-{file['to']}").read_text() for case in CASES for file in FILES}


def jobs(settings):
    """Returns whether each job honors its targets' labels, and which metrics it keeps."""
    return {job["job_name"]: (job.get("honor_labels", False), job.get("metric_relabel_configs")) for job in settings["scrape_configs"]}


class Prometheus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = render()
        cls.settings = yaml.safe_load(cls.files["inventory", "prometheus.yml"])

    def test_jobs_are_the_declared_ones(self):
        self.assertEqual(jobs(self.settings), jobs(DECLARED))

    def test_intervals_are_the_declared_ones(self):
        intervals = {key: value for key, value in self.settings["global"].items() if key != "external_labels"}
        self.assertEqual(intervals, {key: value for key, value in DECLARED["global"].items() if key != "external_labels"})
        self.assertEqual(self.settings["global"]["external_labels"], {"prometheus": "m"})

    def test_alerts_lose_the_label_of_their_server(self):
        self.assertEqual(self.settings["alerting"]["alert_relabel_configs"], DECLARED["alerting"]["alert_relabel_configs"])
        self.assertEqual(self.settings["alerting"]["alertmanagers"], [{"static_configs": [{"targets": ["127.0.0.1:9093"]}]}])

    def test_every_rules_file_is_named_in_order(self):
        names = sorted(path.name for path in (ROOT / "monitoring/rules").glob("*.yml"))
        self.assertEqual(self.settings["rule_files"], [f"/etc/prometheus/rules/{name}" for name in names])

    def test_units_have_their_own_program_directory_and_interval(self):
        service = self.files["inventory", "canary.service"]
        self.assertIn("ExecStart=/usr/local/lib/causeway/canary 'https://api.example.com/a b' /var/lib/prometheus/node-exporter/canary.prom\n", service)
        self.assertIn("\nReadWritePaths=/var/lib/prometheus/node-exporter\n", service)
        self.assertIn("OnUnitActiveSec=60\n", self.files["inventory", "ecs-targets.timer"])

    def test_ec2_then_nodes_are_discovered_in_each_region_and_poolers_in_the_inventory(self):
        settings = yaml.safe_load(self.files["ec2", "prometheus.yml"])
        found = {job["job_name"]: job for job in settings["scrape_configs"]}
        self.assertEqual([place["region"] for place in found["agent"]["ec2_sd_configs"]], ["eu-west-1", "eu-central-1"])
        self.assertEqual([place.get("role_arn") for place in found["node"]["ec2_sd_configs"]], [None, "arn:aws:iam::1:role/r"])
        self.assertEqual(found["postgres"]["ec2_sd_configs"][0]["port"], 9187)
        self.assertEqual(found["pooler"]["file_sd_configs"], [{"files": ["/etc/prometheus/targets/pooler.json"]}])
        self.assertTrue(found["agent"]["honor_labels"])
        self.assertEqual(settings["rule_files"], ["/etc/prometheus/rules/meta.yml"])


if __name__ == "__main__":
    unittest.main()
