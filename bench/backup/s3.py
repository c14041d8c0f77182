"""S3 behind TLS, as both sides are given it: `lab s3`, and hitch with a certificate of a CA before it."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

# They belong to no account, and are verified all the same.
ACCESS_KEY = "BENCHBACKUP"
SECRET_KEY = "0123456789abcdef0123456789abcdef"
REGION = "eu-west-1"
# How long a program may take until it listens: many times what it needs.
PATIENCE = 60


class S3:
    """A service with two buckets, each reached through an address of its own, as in two regions."""

    buckets = ("near", "far")

    def __init__(self, lab: Path, directory: Path, user: str | None) -> None:
        self._lab = lab.resolve()
        self._directory = directory
        self._user = user
        self._running: list[subprocess.Popen] = []
        self._ports: list[int] = []

    def __enter__(self) -> "S3":
        for bucket in self.buckets:
            (self.root / bucket).mkdir(parents=True)
        for directory in (self.root, *self.root.iterdir()):
            if self._user:
                shutil.chown(directory, self._user, self._user)
        self._certify()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error) -> None:
        for program in self._running:
            program.terminate()
            program.wait()

    @property
    def root(self) -> Path:
        """Where the objects are."""
        return self._directory / "s3"

    @property
    def ca(self) -> Path:
        """The certificate that both sides are told to trust."""
        return self._directory / "ca.pem"

    @property
    def environment(self) -> dict[str, str]:
        """Returns the variables with which the server and Causeway's program learn the key."""
        return {"PATH": "/usr/bin:/bin", "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_EC2_METADATA_DISABLED": "true"}

    def port(self, bucket: str) -> int:
        """Returns where a bucket is reached, on localhost."""
        return self._ports[self.buckets.index(bucket)]

    def stored_bytes(self, bucket: str) -> int:
        """Returns how much a bucket holds."""
        return sum(path.stat().st_size for path in (self.root / bucket).rglob("*") if path.is_file())

    def _certify(self) -> None:
        """Makes a CA, and a certificate of it for localhost: a leaf that signs itself is not for servers."""
        def openssl(*arguments: str) -> None:
            subprocess.run(["openssl", *arguments], cwd=self._directory, check=True, capture_output=True)
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
                "-subj", "/CN=bench-backup CA", "-addext", "keyUsage=critical,keyCertSign")
        openssl("req", *new_key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=localhost")
        (self._directory / "leaf.ext").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", "leaf.ext", "-out", "leaf.crt")
        both = [(self._directory / name).read_text() for name in ("leaf.key", "leaf.crt")]
        (self._directory / "leaf.pem").write_text("".join(both))

    def _start(self) -> None:
        plain, *self._ports = free_ports(1 + len(self.buckets))
        self._run("s3", self._lab, "s3", "--root", self.root, "--listen", f"127.0.0.1:{plain}")
        frontends = [f"--frontend=[127.0.0.1]:{port}" for port in self._ports]
        self._run("hitch", "/usr/sbin/hitch", *frontends, f"--backend=[127.0.0.1]:{plain}", "--workers=2",
                  "--quiet", self._directory / "leaf.pem")
        for port in (plain, *self._ports):
            wait_for(port)

    def _run(self, name: str, *command: str | Path) -> None:
        log = (self._directory / f"{name}.log").open("w")
        self._running.append(subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
            user=self._user, group=self._user, extra_groups=[] if self._user else None))


def free_ports(number: int) -> list[int]:
    """Returns ports on which nothing listens."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


def wait_for(port: int) -> None:
    """Waits until something listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing listens on port {port} after {PATIENCE} s") from None
            time.sleep(0.05)
