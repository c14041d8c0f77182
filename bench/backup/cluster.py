"""A PostgreSQL server with something to back up, and log segments of a load with full-page images."""

import os
import shutil
import subprocess
import time
from pathlib import Path

# How long it may take until everything is archived: many times what it needs.
PATIENCE = 300
# Many tables rather than one: both sides work on two files at a time.
TABLES = 16
# A row of pgbench_accounts, with as much chance in it that it compresses about four times.
ROWS = """
CREATE TABLE {name} AS
SELECT id, (random() * 1e9)::int AS balance, md5(random()::text) AS token, repeat(' ', 48) AS filler
FROM generate_series(1, {rows}) id;
ALTER TABLE {name} ADD PRIMARY KEY (id);
"""
BYTES_OF_A_ROW = 155


class Cluster:
    """A server of its own, gone when the context ends."""

    def __init__(self, binaries: Path, directory: Path, user: str | None) -> None:
        self._binaries = binaries
        self._user = user
        self.data = directory / "data"
        self.socket = directory / "socket"
        self.segments = directory / "segments"
        self.port = 5432

    def __enter__(self) -> "Cluster":
        for directory in (self.data, self.socket, self.segments):
            directory.mkdir(mode=0o700)
            if self._user:
                shutil.chown(directory, self._user, self._user)
        self.run("initdb", "--pgdata", self.data, "--username", "postgres", "--data-checksums", "--no-sync",
                 "--auth", "trust", "--encoding", "UTF8", "--no-locale")
        return self

    def __exit__(self, *_error) -> None:
        if (self.data / "postmaster.pid").exists():
            self.run("pg_ctl", "stop", "--silent", "--pgdata", self.data, "--mode", "immediate")

    def fill(self, gigabytes: float, segments: int) -> None:
        """Makes the tables, and copies segments of an update that touches most of their pages."""
        rows = int(gigabytes * 1e9 / TABLES / BYTES_OF_A_ROW)
        # Without a log of it, the load takes half as long.
        self.start(wal_level="minimal", max_wal_senders=0, archive_mode="off")
        self.sql("\n".join(ROWS.format(name=f"bench_{number}", rows=rows) for number in range(TABLES)) + "VACUUM;")
        self.stop()
        self.start(wal_level="replica", archive_mode="off", wal_keep_size="64GB")
        first = int(self.sql("SELECT pg_walfile_name(pg_switch_wal());")[8:], 16) + 1
        table = 0
        while (whole := self._whole_segments(first))[segments:] == []:
            self.sql(f"CHECKPOINT; UPDATE bench_{table % TABLES} SET balance = (random() * 1e9)::int "
                     f"WHERE id % 97 = {table};")
            table += 1
        for name in whole[:segments]:
            shutil.copy(self.data / "pg_wal" / name, self.segments)
        if self._user:
            for segment in self.segments.iterdir():
                shutil.chown(segment, self._user, self._user)
        self.stop()

    def _whole_segments(self, first: int) -> list[str]:
        """Returns the segments from a number on that are written to their end."""
        now = self.sql("SELECT pg_walfile_name(pg_current_wal_lsn());")
        names = sorted(path.name for path in (self.data / "pg_wal").iterdir() if len(path.name) == 24)
        return [name for name in names if int(name[8:], 16) >= first and name < now]

    def start(self, **settings: object) -> None:
        """Starts the server; fsync is off, because nothing here measures it."""
        chosen = {"listen_addresses": "", "unix_socket_directories": self.socket, "port": self.port,
                  "fsync": "off", "max_wal_size": "4GB", "shared_buffers": "128MB", "autovacuum": "off",
                  "checkpoint_timeout": "1h", **settings}
        (self.data / "postgresql.auto.conf").write_text("".join(f"{setting} = '{to}'\n" for setting, to in chosen.items()))
        self.run("pg_ctl", "start", "--silent", "--pgdata", self.data, "--wait", "--log", self.data.parent / "socket/log")

    def stop(self) -> None:
        """Stops the server in order."""
        self.run("pg_ctl", "stop", "--silent", "--pgdata", self.data, "--mode", "fast", "--wait")

    def sql(self, text: str) -> str:
        """Runs statements, and returns the last value."""
        answer = self.run("psql", "--host", self.socket, "--port", self.port, "--username", "postgres",
                          "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1",
                          "--dbname", "postgres", given=text)
        return answer.strip().rpartition("\n")[2]

    def settle(self) -> None:
        """Writes everything, and waits until all of the log so far is archived."""
        last = self.sql("CHECKPOINT; SELECT pg_walfile_name(pg_switch_wal());")
        deadline = time.monotonic() + PATIENCE
        while self.sql("SELECT max(last_archived_wal) FROM pg_stat_archiver;") < last:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{last} is not archived after {PATIENCE} s: see socket/log")
            time.sleep(0.1)

    def bytes(self) -> int:
        """Returns how much the data directory holds without its log: what a backup of it copies."""
        total = 0
        for directory, names, files in os.walk(self.data):
            if Path(directory) == self.data:
                names.remove("pg_wal")
            total += sum((Path(directory) / name).lstat().st_size for name in files)
        return total

    def run(self, program: str, *arguments: object, given: str = "") -> str:
        """Runs one of PostgreSQL's programs."""
        command = [self._binaries / program, *(str(argument) for argument in arguments)]
        done = subprocess.run(command, input=given, stdout=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
                              text=True, check=True, cwd="/", user=self._user, group=self._user,
                              extra_groups=[] if self._user else None)
        return done.stdout or ""
