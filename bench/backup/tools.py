"""The two that are compared: each backs up, restores, archives a segment and fetches it back."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .cluster import Cluster
from .measure import Cost, run
from .s3 import ACCESS_KEY, REGION, SECRET_KEY, S3

# Files at a time, on both sides.
PARALLELISM = 2
CLUSTER = "bench"


@dataclass(frozen=True)
class Stage:
    """What both sides work on."""

    cluster: Cluster
    s3: S3
    directory: Path
    user: str | None

    def run(self, *command: str | Path, watch_memory: bool = False) -> Cost:
        """Runs a command as the user that PostgreSQL runs as, where PostgreSQL would start it."""
        environment = {**self.s3.environment, "HOME": "/nowhere"}
        return run(command, user=self.user, environment=environment, directory=self.cluster.data.parent / "socket",
                   watch_memory=watch_memory)

    def write(self, path: Path, text: str) -> None:
        """Writes a settings file that only its user may read."""
        path.write_text(text)
        path.chmod(0o600)
        self.give(path)

    def give(self, path: Path) -> None:
        """Gives a path to the user that PostgreSQL runs as."""
        if self.user:
            shutil.chown(path, self.user, self.user)

    def empty(self, *parts: str) -> None:
        """Removes what every bucket holds below a directory."""
        for bucket in self.s3.buckets:
            shutil.rmtree(self.s3.root.joinpath(bucket, *parts), ignore_errors=True)


class Causeway:
    """`backup-agent`, with every setting as it is shipped."""

    def __init__(self, stage: Stage, agent: Path) -> None:
        self._stage = stage
        # The build may lie where the user that PostgreSQL runs as cannot look.
        self._agent = stage.directory / "backup-agent"
        shutil.copy(agent, self._agent)
        identity = stage.directory / "identity.txt"
        made = subprocess.run([self._agent, "keygen", "--output", identity], check=True, capture_output=True,
                              text=True)
        stage.give(identity)
        self._recipient = made.stdout.strip()

    def settings(self, buckets: int, cluster: str = CLUSTER) -> Path:
        """Writes the settings for a number of buckets, and returns where they are."""
        stage = self._stage
        path = stage.directory / f"{cluster}-{buckets}.toml"
        lines = [f'cluster = "{cluster}"', f'recipients = ["{self._recipient}"]',
                 f'identity-file = "{stage.directory / "identity.txt"}"',
                 f'state-directory = "{stage.cluster.socket / "state"}"', f"required-buckets = {buckets}"]
        for bucket in stage.s3.buckets[:buckets]:
            lines += ["[[buckets]]", f'name = "{bucket}"', f'region = "{REGION}"',
                      f'endpoint = "https://localhost:{stage.s3.port(bucket)}"',
                      f'ca-certificate = "{stage.s3.ca}"']
        lines += ["[postgres]", f'data-directory = "{stage.cluster.data}"',
                  f'socket-directory = "{stage.cluster.socket}"', f"port = {stage.cluster.port}",
                  "[limits]", f"parallelism = {PARALLELISM}"]
        stage.write(path, "\n".join(lines) + "\n")
        return path

    def archive_command(self) -> str:
        """Returns what PostgreSQL archives a segment with."""
        return f'{self._agent} --config {self.settings(2)} --log warn wal push "%p"'

    def backup(self, buckets: int) -> Cost:
        """Makes a backup in every bucket at once."""
        return self._run(buckets, "backup", watch_memory=True)

    def restore(self, buckets: int, target: Path) -> Cost:
        """Restores the newest backup."""
        return self._run(buckets, "restore", "--target-directory", target, watch_memory=True)

    def forget_backups(self) -> None:
        """Removes every backup."""
        self._stage.empty(CLUSTER, self._system_id(), "backup")

    def begin_archive(self, buckets: int) -> None:
        """Begins an archive in which there is nothing."""
        self.settings(buckets, "wal")

    def push(self, buckets: int, segment: Path) -> Cost:
        """Archives one segment."""
        return self._run(buckets, "wal", "push", segment, cluster="wal")

    def get(self, buckets: int, segment: Path, target: Path) -> Cost:
        """Fetches one segment."""
        return self._run(buckets, "wal", "fetch", segment.name, target, cluster="wal")

    def end_archive(self) -> None:
        """Removes it."""
        self._stage.empty("wal")

    def _run(self, buckets: int, *command: str | Path, cluster: str = CLUSTER, watch_memory: bool = False) -> Cost:
        settings = self._stage.directory / f"{cluster}-{buckets}.toml"
        return self._stage.run(self._agent, "--config", settings, "--log", "warn", *command,
                               watch_memory=watch_memory)

    def _system_id(self) -> str:
        return self._stage.cluster.sql("SELECT system_identifier FROM pg_control_system();")


class PgBackRest:
    """Debian's `pgbackrest`, encrypted, with as many processes, and otherwise as it is shipped."""

    program = "/usr/bin/pgbackrest"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        for directory in ("lock", "spool", "log"):
            (stage.directory / directory).mkdir()
            stage.give(stage.directory / directory)
        for repositories in (1, 2):
            self._write_settings(repositories)

    @staticmethod
    def version() -> str:
        """Returns what is compared with."""
        return subprocess.run([PgBackRest.program, "version"], check=True, capture_output=True,
                              text=True).stdout.strip()

    def _settings(self, repositories: int) -> Path:
        return self._stage.directory / f"pgbackrest-{repositories}.conf"

    def _write_settings(self, repositories: int) -> None:
        stage = self._stage
        lines = ["[global]", *(f"{name}-path={stage.directory / name}" for name in ("lock", "spool", "log")),
                 "log-level-file=off", "log-level-console=warn", "start-fast=y", "compress-type=zst",
                 f"process-max={PARALLELISM}"]
        for number, bucket in enumerate(stage.s3.buckets[:repositories], 1):
            repository = {
                "type": "s3", "path": "/pgbackrest", "s3-bucket": bucket, "s3-region": REGION,
                "s3-endpoint": "localhost", "storage-host": "localhost", "storage-port": stage.s3.port(bucket),
                "storage-ca-file": stage.s3.ca, "s3-uri-style": "path", "s3-key": ACCESS_KEY,
                "s3-key-secret": SECRET_KEY, "cipher-type": "aes-256-cbc",
                "cipher-pass": "as long as the one that its documentation makes with openssl rand",
                "retention-full": 1}
            lines += [f"repo{number}-{name}={value}" for name, value in repository.items()]
        for stanza in (CLUSTER, "wal"):
            lines += [f"[{stanza}]", f"pg1-path={stage.cluster.data}", f"pg1-socket-path={stage.cluster.socket}",
                      f"pg1-port={stage.cluster.port}", "pg1-user=postgres"]
        stage.write(self._settings(repositories), "\n".join(lines) + "\n")

    def create(self) -> None:
        """Makes the repositories for backups."""
        self._run(2, CLUSTER, "stanza-create")

    def archive_command(self) -> str:
        """Returns what PostgreSQL archives a segment with."""
        return (f'{self.program} --config={self._settings(2)} --stanza={CLUSTER} --compress-level=1 '
                f'archive-push "%p"')

    def backup(self, repositories: int, level: int) -> Cost:
        """Makes a backup in each repository: one command writes one, and reads the server anew."""
        costs = [self._run(repositories, CLUSTER, f"--compress-level={level}", "--type=full", f"--repo={number}",
                           "--no-expire-auto", "backup", watch_memory=True)
                 for number in range(1, repositories + 1)]
        return sum(costs[1:], costs[0])

    def restore(self, repositories: int, target: Path) -> Cost:
        """Restores the newest backup."""
        return self._run(repositories, CLUSTER, "--repo=1", f"--pg1-path={target}", "restore", watch_memory=True)

    def forget_backups(self) -> None:
        """Removes every backup but the newest."""
        self._run(2, CLUSTER, "expire")

    def begin_archive(self) -> None:
        """Begins an archive in which there is nothing."""
        self._run(2, "wal", "stanza-create")

    def push(self, repositories: int, segment: Path) -> Cost:
        """Archives one segment."""
        return self._run(repositories, "wal", "--compress-level=1", "archive-push", segment)

    def get(self, repositories: int, segment: Path, target: Path) -> Cost:
        """Fetches one segment."""
        return self._run(repositories, "wal", "archive-get", segment.name, target)

    def end_archive(self) -> None:
        """Removes it."""
        self._stage.empty("pgbackrest", "archive", "wal")
        self._stage.empty("pgbackrest", "backup", "wal")

    def _run(self, repositories: int, stanza: str, *command: str | Path, watch_memory: bool = False) -> Cost:
        return self._stage.run(self.program, f"--config={self._settings(repositories)}", f"--stanza={stanza}",
                               *command, watch_memory=watch_memory)
