"""The decisions of the playbooks, without a host: `python -m unittest discover ansible/tests/unit`."""

import datetime
import subprocess
import sys
import unittest
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[2] / "filter_plugins"
sys.path.insert(0, str(PLUGINS))

import certificates
import cluster
import preflight
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NODES = """
cluster = "main"
primary-region = "eu-west-1"
[[nodes]]
name = "a"
region = "eu-west-1"
agent = "10.0.0.1:8009"
[[nodes]]
name = "b"
region = "eu-west-1"
agent = "10.0.0.2:8009"
"""
RECIPIENT = "age1" + "q" * 58


def signed(subject, issuer=None, names=(), days=300):
    """Returns a certificate as PEM, with its key. Without `issuer`, of a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer[2] if issuer else name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=days))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key, name


def pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


CA = signed("first")
OTHER_CA = signed("second")


def host(number, **survey):
    variables = {
        "region": "eu-west-1",
        "zone": "eu-west-1a",
        "address": f"node-{number}.internal",
        "data_volume_id": f"vol-{number}a",
        "wal_volume_id": f"vol-{number}b",
        "failover_ctl_settings": NODES,
        "private_ip": f"10.0.0.{number}",
        "tls_ca_certificates": [CA[0]],
        "tls_ca_key": pem(CA[1]),
    }
    volumes = {
        point: {"device": f"/dev/disk/{point}-{number}", "exists": True, "block": True, "size": 100 << 30, "filesystem": "", "mounted": False}
        for point in ("/data", "/wal")
    }
    database = {"directory": "/data/15/main", "state": "absent", "release": "", "system_id": "", "wal": ""}
    read = {
        "distribution": "debian 12",
        "architecture": "amd64",
        "libc": "glibc 2.36",
        "volumes": volumes,
        "database": database | survey.pop("database", {}),
        "listeners": {},
        "packages": {},
        "guard": {"running": False, "outdated": False},
        "configured": False,
        "restoring": False,
        "lease": {},
        "time": 1000.0,
    }
    return {"variables": variables, "survey": read | survey, "types": [], "checks": {}}


def findings(hosts=None, has_lease=False, **variables):
    shared = {
        "failover_ctl_settings": NODES,
        "backup_agent_settings": 'cluster = "main"',
        "backup_agent_recipients": [RECIPIENT],
        "causeway_secrets": dict.fromkeys(preflight.SECRETS, "x" * 32),
        "database": "causeway",
        "release": "15",
        "wal_directory": "/wal/15/main",
        "inventory": ["a", "b"],
        "asked_at": 999.0,
        "answered_at": 1001.0,
    }
    return preflight.preflight_findings(hosts or {"a": host(1), "b": host(2)}, shared | variables, has_lease)


class Loading(unittest.TestCase):
    def test_filters_loaded_then_cryptography_is_not(self):
        modules = ", ".join(sorted(path.stem for path in PLUGINS.glob("*.py")))
        loads = f"import sys, {modules}; sys.exit('cryptography' in sys.modules)"
        subprocess.run([sys.executable, "-c", loads], cwd=PLUGINS, check=True)


class Preflight(unittest.TestCase):
    def one(self, found, *words):
        self.assertEqual(len(found), 1, found)
        for word in words:
            self.assertIn(word, found[0])

    def test_two_bare_hosts_then_nothing_is_wrong(self):
        self.assertEqual(findings(), [])

    def test_settings_are_no_toml_then_named(self):
        self.assertIn("no TOML", findings(failover_ctl_settings="cluster = main")[0])

    def test_node_without_host_then_named_unless_there_is_a_lease(self):
        self.one(findings({"a": host(1)}, inventory=["a"]), "b is in [[nodes]]")
        self.assertEqual(findings({"a": host(1)}, inventory=["a"], has_lease=True), [])

    def test_host_does_not_answer_then_named_unless_there_is_a_lease(self):
        hosts = {"a": host(1), "b": host(2) | {"survey": None}}
        self.one(findings(hosts), "b does not answer")
        self.assertEqual(findings(hosts, has_lease=True), [])

    def test_recipient_is_private_then_named_and_not_shown(self):
        found = findings(backup_agent_recipients=["AGE-SECRET-KEY-1SECRET"])
        self.one(found, "private key")
        self.assertNotIn("1SECRET", found[0])

    def test_secret_is_missing_or_short_then_named_and_not_shown(self):
        secrets = dict.fromkeys(preflight.SECRETS, "x" * 32) | {"rewinder": "", "replicator": "short-one"}
        found = findings(causeway_secrets=secrets)
        self.assertEqual(len(found), 2, found)
        self.assertNotIn("short-one", " ".join(found))

    def test_clock_outside_of_both_times_then_wrong(self):
        for read, word in ((1011.0, "ahead of"), (989.0, "behind")):
            self.one(findings({"a": host(1, time=read), "b": host(2)}), "a: its clock", word)
        self.assertEqual(findings({"a": host(1, time=999.5), "b": host(2, time=1001.9)}), [])

    def test_volume_holds_other_file_system_then_named(self):
        wrong = host(1)
        wrong["survey"]["volumes"]["/data"]["filesystem"] = "xfs"
        self.one(findings({"a": wrong, "b": host(2)}), "a:", "xfs", "Nothing is formatted")

    def test_volume_smaller_than_the_others_then_named(self):
        small = host(2)
        small["survey"]["volumes"]["/data"]["size"] = 50 << 30
        self.one(findings({"a": host(1), "b": small}), "b:", "50 GiB")

    def test_databases_of_two_clusters_then_named(self):
        hosts = {
            "a": host(1, database={"state": "database", "release": "15", "system_id": "1"}),
            "b": host(2, database={"state": "database", "release": "15", "system_id": "2"}),
        }
        self.one(findings(hosts), "different clusters", "a: 1", "b: 2")

    def test_other_release_then_named(self):
        self.one(findings({"a": host(1, database={"state": "database", "release": "14"}), "b": host(2)}), "PostgreSQL 14")

    def test_directory_is_no_database_then_named_unless_the_agent_fills_it(self):
        for state, words in (("foreign", "move its contents away"), ("damaged", "no complete control file"), ("unreadable", "check the volume")):
            for has_lease in (False, True):
                self.one(findings({"a": host(1, database={"state": state, "release": "15"}), "b": host(2)}, has_lease=has_lease), "a: `/data/15/main`", words)
        copied = host(1, database={"state": "rewinding", "release": "15", "wal": "/elsewhere"})
        self.assertEqual(findings({"a": copied, "b": host(2)}, has_lease=True), [])

    def test_foreign_program_on_the_port_then_named(self):
        busy = host(1, listeners={"5432": {"program": "postgres", "unit": "postgresql@15-main.service"}})
        self.one(findings({"a": busy, "b": host(2)}), "postgresql@15-main.service", "5432")
        ours = host(1, listeners={"5432": {"program": "postgres", "unit": "failover-ctl-guard.service"}})
        self.assertEqual(findings({"a": ours, "b": host(2)}), [])

    def test_key_of_another_ca_then_named(self):
        wrong = host(1)
        wrong["variables"]["tls_ca_key"] = pem(OTHER_CA[1])
        self.one(findings({"a": wrong, "b": host(2)}), "not the key of the first")

    def test_no_ca_key_then_named_only_on_a_bare_host(self):
        for configured, expected in ((False, 1), (True, 0)):
            one = host(1, configured=configured)
            one["variables"]["tls_ca_key"] = ""
            self.assertEqual(len(findings({"a": one, "b": host(2)})), expected)

    def test_text_for_a_list_then_named(self):
        found = preflight.type_findings("a", {"tls_ca_certificates": "-----BEGIN", "postgres_client_cidrs": ["10.0.0.0/8"]})
        self.one(found, "tls_ca_certificates", "a text", "a list")

    def test_program_fails_then_each_failed_check_is_named(self):
        checks = {
            "failover-ctl": {"stdout": '{"checks": [{"name": "lease", "result": "failed", "detail": "gone"}, {"name": "x", "result": "warning"}]}'},
            "backup-agent": {"stdout": "", "stderr": "error: the settings\nare wrong"},
        }
        self.assertEqual(preflight.program_findings({"a": {"checks": checks}}, []), ["a: lease: gone", "a: backup-agent: error: the settings are wrong"])


    def test_node_is_known_to_be_away_then_its_checks_are_left_out(self):
        checks = {"failover-ctl": {"stdout": '{"checks": [{"name": "agent of b", "result": "failed", "detail": "silent"}]}'}}
        hosts = {"a": {"checks": checks}}
        self.assertEqual(preflight.program_findings(hosts, ["b"]), [])
        self.assertEqual(preflight.program_findings(hosts, ["c"]), ["a: agent of b: silent"])

    def test_no_volume_id_then_named_unless_the_root_disk_is_meant(self):
        for device, expected in ((None, 1), ("", 0)):
            one = host(1)
            one["variables"] |= {"data_volume_id": "", "causeway_data_device": device}
            self.assertEqual(len(findings({"a": one, "b": host(2)})), expected)

    def test_something_unknown_on_a_volume_then_named(self):
        wrong = host(1)
        wrong["survey"]["volumes"]["/wal"]["filesystem"] = "unknown"
        self.one(findings({"a": wrong, "b": host(2)}), "a:", "unknown")

    def test_settings_differ_between_hosts_then_named(self):
        other = host(2)
        other["variables"]["failover_ctl_settings"] = NODES + "# older"
        self.one(findings({"a": host(1), "b": other}), "not the same on all hosts")

    def test_lease_would_move_then_named_unless_it_is_meant(self):
        hosts = {"a": host(1, lease={"bucket": "old", "region": "eu-north-1"}), "b": host(2)}
        self.one(findings(hosts, has_lease=True), "replace-the-lease")
        self.assertEqual(findings(hosts, has_lease=True, moves_lease=True), [])

    def test_given_key_of_another_certificate_then_named(self):
        one = host(1)
        certificate, key, _name = signed("a", CA, ("a",))
        one["variables"] |= {"tls_certificate": certificate, "tls_private_key": pem(OTHER_CA[1])}
        self.one(findings({"a": one, "b": host(2)}), "not the key of")
        one["variables"]["tls_private_key"] = pem(key)
        self.assertEqual(findings({"a": one, "b": host(2)}), [])

    def test_name_would_change_the_request_then_named(self):
        one = host(1)
        one["variables"]["tls_extra_names"] = ["a,IP:10.0.0.1"]
        self.one(findings({"a": one, "b": host(2)}), "no host name")


class Certificates(unittest.TestCase):
    def difference(self, certificate, names=("a",), days=60):
        return certificates.certificate_difference(certificate, CA[0], names, [], days)

    def test_certificate_fits_then_no_difference(self):
        self.assertEqual(self.difference(signed("a", CA, ("a", "b"))[0]), "")

    def test_certificate_does_not_fit_then_the_reason(self):
        for certificate, reason in (
            ("", "there is none"),
            (signed("a", OTHER_CA, ("a",))[0], "another CA"),
            (signed("a", CA, ("b",))[0], "it lacks a"),
            (signed("a", CA, ("a",), days=30)[0], "it ends in"),
        ):
            self.assertIn(reason, self.difference(certificate))

    def test_rotation_leaves_a_step_out_then_gap(self):
        own = signed("a", CA, ("a",))[0]
        gap = certificates.rotation_gap
        self.assertEqual(gap(CA[0] + own, [CA[0], OTHER_CA[0]]), "")
        self.assertIn("does not trust", gap(CA[0] + own, [OTHER_CA[0], CA[0]]))
        self.assertEqual(gap(CA[0] + OTHER_CA[0] + own, [OTHER_CA[0], CA[0]]), "")
        self.assertIn("keep that one", gap(CA[0] + OTHER_CA[0] + own, [OTHER_CA[0]]))


class Cluster(unittest.TestCase):
    def status(self, **roles):
        nodes = []
        for node, (role, streaming) in roles.items():
            status = role and {"role": role, "streaming": streaming, "standby_setup": None, "problems": []}
            nodes.append({"node": node, "mismatch": None, "status": status})
        return {"nodes": nodes}

    def test_primary_and_streaming_standby_then_ready(self):
        status = self.status(a=("primary", False), b=("standby", True))
        self.assertEqual(cluster.unready_nodes(status), [])
        self.assertEqual(cluster.primary_node(status), "a")

    def test_anything_else_then_named(self):
        for status, words in (
            (self.status(a=("primary", False), b=("standby", False)), ["b: does not stream"]),
            (self.status(a=("primary", False), b=(None, False)), ["b: its agent does not answer"]),
            (self.status(a=("promoting", False)), ["a: promoting", "no node is primary"]),
            (self.status(a=("standby", True)), ["no node is primary"]),
        ):
            self.assertEqual(cluster.unready_nodes(status), words)

    def test_restart_is_postponed_then_named(self):
        results = [
            {"failover_ctl_host": "a", "postponed": {}},
            {"failover_ctl_host": "b", "postponed": {"failover-ctl-agent.service": "it copies"}},
            {"failover_ctl_host": "c", "skipped": True},
        ]
        found = cluster.postponed_restarts(results)
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith("b: its agent") and found[0].endswith("it copies"), found)

    def test_other_nodes_then_not_named(self):
        status = self.status(a=("primary", False), b=(None, False))
        self.assertEqual(cluster.unready_nodes(status, ["a"]), [])


if __name__ == "__main__":
    unittest.main()
