"""Tests of the image alone."""

import json
import time
import unittest

import world

MAX_BYTES = 40_000_000
HARDENED = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--network=none"]


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.about = json.loads(world.engine.run("image", "inspect", world.IMAGE))[0]
        cls.settings = cls.about["Config"]
        cls.files = _files()

    def start(self, *options, command=()):
        name = world.engine.run("run", "--detach", *options, world.IMAGE, *command)
        self.addCleanup(world.engine.run, "rm", "--force", name)
        return name

    def test_size_is_at_most_40_megabytes(self):
        megabytes = self.about["Size"] / 1e6
        world.say(f"the image has {megabytes:.1f} MB in {len(self.files)} files")
        self.assertLessEqual(self.about["Size"], MAX_BYTES)

    def test_contains_only_the_program_and_its_libraries(self):
        programs = [path for path in self.files if "/bin/" in path or "/sbin/" in path]
        self.assertEqual(programs, ["usr/local/bin/api"])
        self.assertEqual([path for path in self.files if path.endswith("/sh") or "apt" in path], [])
        loaded = {path.rsplit("/", 1)[1].split(".so")[0] for path in self.files if ".so" in path}
        loaded = {library for library in loaded if not library.startswith("ld-linux")}
        self.assertEqual(loaded, {"libc", "libcrypto", "libgcc_s", "libm", "libssl"})

    def test_runs_unprivileged_and_stops_on_sigterm(self):
        self.assertEqual(self.settings["User"], "65532:65532")
        self.assertEqual(self.settings["StopSignal"], "SIGTERM")
        self.assertEqual(self.settings["ExposedPorts"], {"8080/tcp": {}})

    def test_has_labels_and_version(self):
        labels = self.settings["Labels"]
        for key in ("title", "description", "licenses", "version", "revision"):
            self.assertTrue(labels[f"org.opencontainers.image.{key}"], key)
        version = world.engine.run("run", "--rm", world.IMAGE, "--version")
        self.assertEqual(version, f"api {labels['org.opencontainers.image.version']}")

    def test_read_only_and_unprivileged_then_exits_0_on_sigterm(self):
        name = self.start(*HARDENED, "--env=SHUTDOWN_DELAY=1", "--env=HELLO_TZ=Pacific/Auckland")
        self.assertEqual(world.engine.run("exec", name, "/usr/local/bin/api", "healthcheck"), "")
        processes = world.engine.run("top", name, "-o", "pid,uid,args").splitlines()[1:]
        self.assertEqual([process.split()[1:] for process in processes], [["65532", "/usr/local/bin/api"]])

        began = time.monotonic()
        world.engine.run("kill", "--signal=SIGTERM", name)
        self.assertEqual(world.engine.run("wait", name), "0")
        self.assertLess(time.monotonic() - began, 5)
        state = json.loads(world.engine.run("inspect", name))[0]["State"]
        self.assertEqual((state["ExitCode"], state["OOMKilled"]), (0, False))

    def test_health_check_passes(self):
        name = self.start(*HARDENED, "--health-interval=1s")
        status = "{{.State.Health.Status}}"
        world.eventually(
            "the container is healthy",
            lambda: world.engine.run("inspect", "--format", status, name) == "healthy",
        )

    def test_unknown_time_zone_then_settings_exit_code(self):
        name = self.start(*HARDENED, "--env=HELLO_TZ=Mars/Olympus")
        self.assertEqual(world.engine.run("wait", name), "2")

    def test_ca_certificates_are_at_openssl_paths(self):
        hashed = [path for path in self.files if path.startswith("etc/ssl/certs/") and path.endswith(".0")]
        self.assertGreater(len(hashed), 100)
        self.assertIn("usr/lib/ssl/certs", self.files)


def _files():
    """Returns the path of each file of the image."""
    name = world.engine.run("create", world.IMAGE)
    try:
        listing = world.engine.command(
            ["sh", "-c", f"'{world.engine.docker}' export {name} | tar --list"]
        )
    finally:
        world.engine.run("rm", name)
    # The engine adds these, empty, to every container.
    added = ("dev/", "proc/", "sys/", ".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf")
    return [path for path in listing.splitlines() if not path.endswith("/") and not path.startswith(added)]
