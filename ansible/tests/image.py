"""Image of a bare Debian 12 host, as Debian's AMI is: SSH, Python, sudo and systemd, no PostgreSQL.

Kept as an archive in ~/.cache/causeway by the hash of its recipe, so that a fresh engine imports it.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from topology import CACHE

MIRROR = os.environ.get("CAUSEWAY_DEBIAN_MIRROR", "http://deb.debian.org/debian")
INCLUDE = (
    "systemd,systemd-sysv,libpam-systemd,dbus,udev,openssh-server,sudo,python3-minimal,python3-apt,ca-certificates,"
    "iproute2,iputils-ping,procps,e2fsprogs,kmod,less,netbase,cron,logrotate"
)
FILES = Path(__file__).resolve().parent / "image"
# Units of hardware, consoles and terminals, which a container has not.
MASKED = (
    "systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket "
    "systemd-modules-load.service systemd-networkd-wait-online.service getty.target console-getty.service "
    "systemd-logind.service e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer"
).split()
FINISH = f"""
set -eu
cp -a "$FILES/." "$ROOT/"
for unit in {' '.join(MASKED)}; do ln -sf /dev/null "$ROOT/etc/systemd/system/$unit"; done
mkdir -p "$ROOT/etc/systemd/system/local-fs.target.wants"
ln -sf ../ebs-stand-in.service "$ROOT/etc/systemd/system/local-fs.target.wants/ebs-stand-in.service"
chroot "$ROOT" useradd --create-home --shell /bin/bash admin
install -d -m 0700 -o "$(chroot "$ROOT" id -u admin)" -g "$(chroot "$ROOT" id -g admin)" "$ROOT/home/admin/.ssh"
rm -f "$ROOT"/etc/ssh/ssh_host_* "$ROOT/etc/machine-id" "$ROOT/etc/apt/apt.conf.d/docker-clean"
rm -rf "$ROOT"/var/cache/apt/archives/*.deb "$ROOT"/var/lib/apt/lists/*
: > "$ROOT/etc/machine-id"
rm -f "$ROOT/etc/hostname" "$ROOT/etc/resolv.conf"
"""


def recipe():
    """Everything that the image is made from, apart from the state of Debian's archive."""
    parts = [MIRROR, INCLUDE, FINISH]
    for path in sorted(FILES.rglob("*")):
        if path.is_file():
            parts += [str(path.relative_to(FILES)), oct(path.stat().st_mode & 0o111), path.read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def ensure(engine, say):
    """Returns the image's name. The first call of a machine makes it, in about a minute."""
    name = f"causeway-ansible-host:{recipe()}"
    if engine.run("images", "--quiet", name):
        return name
    archive = CACHE / f"ansible-host-{recipe()}.tar"
    if not archive.exists():
        say("making the image of a bare Debian 12 host: about a minute, once")
        _make(archive)
    engine.run("import", str(archive), name)
    return name


def _make(archive):
    if not shutil.which("debootstrap"):
        raise SystemExit("error: debootstrap is not installed\nhint: run `scripts/setup ansible`")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as directory:
        root = Path(directory) / "root"
        _run("debootstrap", "--variant=minbase", f"--include={INCLUDE}", "bookworm", str(root), MIRROR)
        _run("sh", "-c", FINISH, env=os.environ | {"ROOT": str(root), "FILES": str(FILES)})
        part = Path(directory) / "archive"
        _run("tar", "--directory", str(root), "--create", "--file", str(part), ".")
        part.rename(archive)


def _run(*command, **options):
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise SystemExit(f"error: `{command[0]}` ended with {done.returncode}:\n{last}")
