"""A bare Debian 12 host with systemd as PID 1, in a container."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from engine import NoEngine, install

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "target" / "package"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
IMAGE = "causeway-packages/bare"
INCLUDED = "systemd,systemd-sysv,dbus,ca-certificates"
TIMEOUT_SECS = 60

# Set before the tests begin.
engine = None


def make_image():
    """Builds the image of a bare host, unless the engine has it."""
    if engine.run("images", "--quiet", IMAGE):
        return
    install(debootstrap="debootstrap")
    if os.geteuid() != 0:
        raise NoEngine("only root can build a Debian root with debootstrap")
    with tempfile.TemporaryDirectory() as root:
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={INCLUDED}", "bookworm", root],
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            last = "\n".join((made.stdout + made.stderr).splitlines()[-5:])
            raise NoEngine(f"debootstrap failed:\n{last}")
        shutil.rmtree(Path(root, "var/cache/apt"))
        tar = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
        engine.run("import", "-", IMAGE, stdin=tar.stdout)
        if tar.wait() != 0:
            raise AssertionError("tar could not read the new Debian root")


class Host:
    """A running host, with the packages in /packages."""

    def __init__(self, name):
        self.name = f"causeway-packages-{name}-{os.getpid()}"
        # Lets systemd set OOMScoreAdjust= and LimitMEMLOCK=, as on a machine. Some engines may not give it.
        self.sets_limits = True
        try:
            self._start(name, "--cap-add=SYS_RESOURCE")
        except AssertionError:
            self.remove()
            self.sets_limits = False
            self._start(name)
        eventually("systemd runs", lambda: self.run("systemctl is-system-running", check=False) == "running")
        self.copy(PACKAGES, "/packages")

    def _start(self, name, *options):
        engine.run(
            "run", "--detach", f"--name={self.name}", f"--hostname={name}",
            "--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", *options,
            "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
            "--tmpfs=/run", "--tmpfs=/run/lock", "--volume=/sys/fs/cgroup:/sys/fs/cgroup",
            IMAGE, "/sbin/init",
        )  # fmt: skip

    def remove(self):
        engine.run("rm", "--force", "--volumes", self.name)

    def run(self, script, check=True, user="root", **options):
        """Runs a shell script and returns its output."""
        command = ("exec", "--interactive", f"--user={user}", self.name, "bash", "-euo", "pipefail", "-c", script)
        return engine.run(*command, check=check, **options)

    def write(self, path, text, owner="root:root", mode="0644"):
        owner, group = owner.split(":")
        self.run(f"install -D -o {owner} -g {group} -m {mode} /dev/stdin {path}", input=text)

    def copy(self, source, target):
        engine.run("cp", str(source), f"{self.name}:{target}")

    def install(self, *packages):
        """Installs Debian's packages or, by path, ours."""
        if self.run("find /var/lib/apt/lists -name '*_Packages*'") == "":
            self.run("apt-get update -qq")
        self.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {' '.join(packages)}")

    def property(self, unit, name):
        return self.run(f"systemctl show --property={name} --value {unit}")

    def pids(self, unit):
        """Returns the processes in a unit's cgroup."""
        found = self.run(f"grep --files-with-matches '/{unit}.service$' /proc/[0-9]*/cgroup 2>/dev/null || true")
        return [path.split("/")[2] for path in found.split()]


def package(name):
    """Returns the path of our package on a host."""
    (found,) = PACKAGES.glob(f"{name}_*.deb")
    return f"/packages/{found.name}"


def units(name):
    """Returns the units of our package."""
    return sorted(path.name for path in (ROOT / "packages" / name).iterdir() if path.suffix in (".service", ".timer"))


def eventually(what, condition, timeout=TIMEOUT_SECS):
    """Waits until the condition holds, ignoring errors until the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = condition()
            if found:
                return found
            last = "condition is false"
        except (AssertionError, OSError, ValueError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}: {last}")
        time.sleep(0.1)
