"""One PostgreSQL for every service, with what makes a commit durable left on."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

BIN = Path(os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin"))
# fsync, full_page_writes and synchronous_commit stay as they are shipped. Checkpoints are kept out of
# measurements of a few seconds, which one service would have and the next not.
SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 300
shared_buffers = 256MB
max_wal_size = 8GB
checkpoint_timeout = 1h
"""
PATIENCE = 30


class Postgres:
    """A server in a directory of its own, gone when the context ends."""

    def __init__(self) -> None:
        # Not in /tmp, which may be memory: fsync has to mean something.
        self.dir = Path(tempfile.mkdtemp(prefix="bench-api-", dir="/var/tmp"))
        self.port = free_port()
        self.password = secrets.token_hex(16)
        # PostgreSQL refuses to run as root; then it runs as the user `postgres`.
        self.owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "Postgres":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        password = self.dir / "password"
        password.write_text(self.password)
        if self.owner:
            for path in (self.dir, password):
                os.chown(path, self.owner.pw_uid, self.owner.pw_gid)
        data = self.dir / "data"
        initdb = [BIN / "initdb", "--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8",
                  "--locale=C.UTF-8", f"--pwfile={password}", f"--pgdata={data}"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **self._as_owner())
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(SETTINGS + f"unix_socket_directories = '{self.dir}'\n")
        with (self.dir / "log").open("w") as log:
            self.process = subprocess.Popen(
                [BIN / "postgres", "-D", data, "-p", str(self.port)], stderr=log, **self._as_owner())
        deadline = time.monotonic() + PATIENCE
        while self._psql("postgres", "-c", "SELECT 1").returncode != 0:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("PostgreSQL does not start: " + (self.dir / "log").read_text())
            time.sleep(0.05)

    def __exit__(self, *_error) -> None:
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
        shutil.rmtree(self.dir)

    def create_database(self, name: str) -> None:
        """Creates an empty database."""
        self.sql("postgres", "-c", f'CREATE DATABASE "{name}"')

    def drop_database(self, name: str) -> None:
        """Drops a database, and ends its sessions."""
        self.sql("postgres", "-c", f'DROP DATABASE "{name}" WITH (FORCE)')

    def sql(self, database: str, *args: str | Path) -> str:
        """Runs psql with these arguments and returns what it prints."""
        done = self._psql(database, *args)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout

    def environment(self, database: str) -> dict[str, str]:
        """Returns where a database is, in libpq's variables."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "postgres",
                "PGPASSWORD": self.password, "PGDATABASE": database, "PGSSLMODE": "disable"}

    def url(self, database: str, **parameters: int) -> str:
        """Returns where a database is, as a URL."""
        query = "&".join(["sslmode=disable", *(f"{name}={value}" for name, value in parameters.items())])
        return f"postgres://postgres:{self.password}@127.0.0.1:{self.port}/{database}?{query}"

    def _psql(self, database: str, *args: str | Path) -> subprocess.CompletedProcess:
        return subprocess.run([BIN / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *args],
                              env=os.environ | self.environment(database),
                              capture_output=True, text=True)

    def _as_owner(self) -> dict:
        if self.owner is None:
            return {}
        return {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": [], "cwd": "/"}


def free_port() -> int:
    """Returns a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
