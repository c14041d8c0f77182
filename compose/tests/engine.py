"""A Docker engine: the running one, or one that is installed and started for the tests."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

# State of an engine that the tests start. It outlives the checkout, as the compiled dependencies in it do.
STATE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "causeway" / "engine"
# A second engine at the same time has its own.
SECOND = Path(__file__).resolve().parents[2] / "target" / "engine"
START_TIMEOUT_SECS = 60
# A newer client than the engine's may come first in PATH.
CLIENTS = ("docker", "/usr/bin/docker")


class NoEngine(Exception):
    """No engine is running, and none can be started."""


class Engine:
    """Command lines of an engine."""

    def __init__(self, docker, host=None):
        self.docker = docker
        self.environment = os.environ | {"DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1"}
        if host:
            self.environment["DOCKER_HOST"] = host
        known = ([docker, "compose"], ["docker-compose"])
        self.compose = next((program for program in known if self._try([*program, "version"])), None)

    def answers(self):
        return self._try([self.docker, "info"])

    def builds(self):
        """Whether the client has BuildKit: since release 23 it is a component of its own."""
        return self._try([self.docker, "build", "--help"])

    def run(self, *arguments, **options):
        """Runs docker and returns its output. The error contains the output's end."""
        return self.command([self.docker, *arguments], **options)

    def command(self, command, environment=None, check=True, **options):
        done = subprocess.run(
            command,
            env=self.environment | (environment or {}),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        if check and done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{last}")
        return done.stdout.strip()

    def _try(self, command):
        with contextlib.suppress(OSError):
            done = subprocess.run(command, env=self.environment, capture_output=True)
            return done.returncode == 0
        return False


@contextlib.contextmanager
def an_engine(compose=True):
    """Provides an engine, with compose and BuildKit if wanted, and stops it afterwards if it was started for that."""
    running = [engine for engine in map(Engine, CLIENTS) if engine.answers()]
    if running and not compose:
        yield running[0]
        return
    if running:
        able = next((engine for engine in running if engine.builds()), None)
        if not able:
            raise NoEngine("a Docker engine runs, but `docker build` lacks BuildKit: install the package docker-buildx")
        if not able.compose:
            raise NoEngine("a Docker engine runs, but docker compose is not installed")
        yield able
        return
    with _own_engine(compose) as engine:
        yield engine


@contextlib.contextmanager
def _own_engine(compose):
    if os.geteuid() != 0:
        raise NoEngine("no Docker engine runs, and only root can start one")
    install(dockerd="docker.io", **({"docker-compose": "docker-compose"} if compose else {}))
    with _state() as (state, lock), _started(state, lock) as engine:
        yield engine
        # Of earlier checkouts.
        engine.run("image", "prune", "--force")


@contextlib.contextmanager
def _state():
    """Provides the directory of an engine's state, and the lock that keeps other engines from it."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        state = STATE
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            state = SECOND
            state.mkdir(parents=True, exist_ok=True)
        yield state, lock


@contextlib.contextmanager
def _started(state, lock):
    """Starts an engine, which holds the lock until it ends, also when the tests are killed."""
    socket = f"unix://{state}/docker.sock"
    log = state / "log"
    with log.open("w") as output:
        daemon = subprocess.Popen(
            [
                "dockerd",
                f"--host={socket}",
                f"--data-root={state}/data",
                f"--exec-root={state}/exec",
                f"--pidfile={state}/pid",
            ],
            stdout=output,
            stderr=output,
            pass_fds=[lock.fileno()],
        )
    # The engine's own client, whatever `docker` is in PATH.
    engine = Engine("/usr/bin/docker", socket)
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECS
        while not engine.answers():
            if daemon.poll() is not None or time.monotonic() > deadline:
                last = "\n".join(log.read_text().splitlines()[-5:])
                raise NoEngine(f"dockerd does not start:\n{last}")
            time.sleep(0.2)
        yield engine
    finally:
        daemon.terminate()
        daemon.wait()


def install(**packages):
    """Installs Debian's package of each missing program."""
    missing = [package for program, package in packages.items() if not shutil.which(program)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoEngine(f"`apt-get install {' '.join(missing)}` is needed, as root")
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", *missing]):
        done = subprocess.run([*apt, *command], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            last = "\n".join(done.stderr.splitlines()[-5:])
            raise NoEngine(f"{' '.join(missing)} cannot be installed:\n{last}")
