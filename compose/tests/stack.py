"""Tests of docker-compose.yml: both profiles, with a request to each service."""

import json
import os
import socket
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import world

ROOT = Path(__file__).resolve().parents[2]


class Stack(unittest.TestCase):
    """The stack under its own name and port. Each test continues where the last one ended."""

    profile = ""

    @classmethod
    def setUpClass(cls):
        cls.project = f"causeway-test-{os.getpid()}{cls.profile}"
        cls.port = _free_port()
        secrets = tempfile.TemporaryDirectory()
        cls.addClassCleanup(secrets.cleanup)
        cls.secrets = Path(secrets.name)
        cls.environment = {
            "COMPOSE_PROJECT_NAME": cls.project,
            "COMPOSE_PROFILES": cls.profile,
            "API_IMAGE": world.IMAGE,
            "API_PORT": str(cls.port),
            "USERS_PORT": str(_free_port()),
            "BEERS_PORT": str(_free_port()),
            "POSTGRES_IMAGE": world.base_images["postgres"],
            "REDIS_IMAGE": world.base_images["redis"],
            "SECRETS": secrets.name,
        }
        cls.addClassCleanup(cls.compose, "down", "--volumes")
        cls.compose("up", "--detach", "--no-build")
        world.eventually("the API is ready", lambda: cls.get("/readyz")[0] == 200)

    @classmethod
    def compose(cls, *arguments):
        return world.engine.command(
            [*world.engine.compose, *arguments], environment=cls.environment, cwd=ROOT
        )

    @classmethod
    def request(cls, method, path, body=None):
        """Returns the status, the headers, and the body's JSON."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{cls.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                status, headers, text = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                status, headers, text = refused.code, refused.headers, refused.read()
        return status, headers, json.loads(text) if text else None

    @classmethod
    def get(cls, path):
        return cls.request("GET", path)

    def sql(self, service, sql):
        return self.compose(
            "exec", "-T", "--user=postgres", service, "psql", "-XAtq", "causeway", "-c", sql
        )


class Default(Stack):
    def test_1_every_service_answers(self):
        stored = self.request("PUT", "/hello/John", {"dateOfBirth": "1990-06-15"})
        self.assertEqual(stored[0], 204)
        status, headers, greeting = self.get("/hello/John")
        self.assertEqual((status, greeting["message"][:12]), (200, "Hello, John!"))
        self.assertEqual(headers["X-Company-Name"], "My Company")

        status, _, member = self.request("POST", "/members", {"name": "Ann", "age": 30})
        self.assertEqual((status, member["Name"]), (200, "Ann"))
        self.assertEqual([member["Name"] for member in self.get("/")[2]], ["Ann"])

        status, _, user = self.request("POST", "/users", {"name": "Bob", "email": "b@example.org"})
        self.assertEqual(status, 200)
        self.assertEqual(self.get(f"/users/{user['id']}")[2], user)

        self.assertEqual(self.request("POST", "/seed")[0], 200)
        self.assertEqual(len(self.get("/beers")[2]), 4)

    def test_2_the_cache_is_used(self):
        world.eventually("the cache is used", lambda: self.get("/readyz")[2]["cache"] == "ok")
        world.eventually("users come from it", lambda: self.get("/users")[1]["X-Cache"] == "HIT")

    def test_3_the_api_has_only_its_roles_privileges(self):
        who = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'api/%'"
        self.assertEqual(self.sql("postgres", who), "api_service")
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        self.assertEqual(self.sql("postgres", owners), "api_owner")

    def test_4_ports_are_published_on_loopback_only(self):
        published = world.engine.run(
            "ps", f"--filter=label=com.docker.compose.project={self.project}", "--format={{.Ports}}"
        )
        addresses = [address.strip() for line in published.splitlines() for address in line.split(",")]
        addresses = [address for address in addresses if "->" in address]
        ports = [self.environment[name] for name in ("API_PORT", "USERS_PORT", "BEERS_PORT")]
        self.assertEqual(sorted(addresses), sorted(f"127.0.0.1:{port}->8080/tcp" for port in ports))

    def test_5_no_secret_in_engine_output_or_logs(self):
        containers = self.compose("ps", "--quiet").split()
        shown = world.engine.run("inspect", *containers) + self.compose("logs")
        for container in containers:
            if world.engine.run("inspect", "--format={{.State.Running}}", container) == "true":
                shown += world.engine.run("top", container)
        for secret in self.secrets.iterdir():
            self.assertNotIn(secret.read_text().strip(), shown, secret.name)

    def test_6_second_start_changes_nothing(self):
        self.compose("up", "--detach", "--no-build")
        world.eventually("the API is ready", lambda: self.get("/readyz")[0] == 200)
        self.assertEqual(self.get("/hello/John")[0], 200)

    def test_7_stopped_then_exit_code_0(self):
        name = self.compose("ps", "--quiet", "api")
        self.compose("stop", "api")
        self.assertEqual(world.engine.run("inspect", "--format={{.State.ExitCode}}", name), "0")

    def test_8_nothing_is_left_behind(self):
        self.assertNotEqual(_leftovers(self.project), "")
        self.compose("down", "--volumes")
        self.assertEqual(_leftovers(self.project), "")


class WithStandby(Stack):
    profile = "standby"

    def test_1_the_standby_follows(self):
        stored = self.request("PUT", "/hello/John", {"dateOfBirth": "1990-06-15"})
        self.assertEqual(stored[0], 204)
        rows = "SELECT count(*) FROM hello_users"
        world.eventually("the row is on the standby", lambda: self.sql("standby", rows) == "1")
        self.assertEqual(self.sql("standby", "SELECT pg_is_in_recovery()"), "t")

    def test_2_the_promoted_standby_is_used(self):
        self.compose("stop", "postgres")
        self.compose("exec", "-T", "standby", "pg_ctl", "promote")
        stored = self.request("PUT", "/hello/Jane", {"dateOfBirth": "1991-06-15"})
        self.assertEqual(stored[0], 204)
        self.assertEqual(self.get("/hello/John")[0], 200)
        self.assertEqual(self.sql("standby", "SELECT count(*) FROM hello_users"), "2")

    def test_3_nothing_is_left_behind(self):
        self.compose("down", "--volumes")
        self.assertEqual(_leftovers(self.project), "")


def _leftovers(project):
    label = f"--filter=label=com.docker.compose.project={project}"
    kinds = (["ps", "--all"], ["volume", "ls"], ["network", "ls"])
    return "".join(world.engine.run(*kind, "--quiet", label) for kind in kinds)


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
