"""Base images of the Dockerfile and docker-compose.yml: the official ones if they can be pulled,
otherwise stand-ins built from Debian's packages and the local Rust."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from engine import NoEngine, install

HERE = Path(__file__).resolve().parent / "stand-ins"
NAMESPACE = "causeway-stand-in"
OFFICIAL = {
    "builder": "rust:1.95-bookworm",
    "postgres": "postgres:15-bookworm",
    "redis": "redis:7-bookworm",
}


def for_building(engine):
    """Returns the build arguments of the Dockerfile."""
    if _official_can_be_had(engine):
        return []
    _debian(engine)
    sysroot = subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip()
    # Completes the registry with everything in Cargo.lock.
    subprocess.run(["cargo", "fetch", "--locked", "--quiet"], check=True)
    cargo_home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    builder = _build(engine, "builder", sysroot)
    registry = _build(engine, "registry", cargo_home / "registry")
    return [
        f"--build-arg=BUILDER={builder}",
        f"--build-arg=REGISTRY={registry}",
        "--build-arg=CARGO_NET_OFFLINE=true",
    ]


def for_running(engine):
    """Returns the images of PostgreSQL and Redis."""
    if _official_can_be_had(engine):
        return {part: OFFICIAL[part] for part in ("postgres", "redis")}
    return {part: _build(engine, part, HERE) for part in ("postgres", "redis")}


@functools.cache
def _official_can_be_had(engine):
    return all(_can_be_had(engine, image) for image in OFFICIAL.values())


def _can_be_had(engine, image):
    try:
        engine.run("pull", "--quiet", image)
    except AssertionError:
        return False
    return True


def _debian(engine):
    image = f"{NAMESPACE}/debian"
    if engine.run("images", "--quiet", image):
        return
    install(debootstrap="debootstrap")
    if os.geteuid() != 0:
        raise NoEngine("base images cannot be pulled, and only root can build them")
    with tempfile.TemporaryDirectory() as root:
        # A container's root directory needs no devices.
        subprocess.run(
            ["debootstrap", "--variant=minbase", "bookworm", root],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        shutil.rmtree(Path(root, "var/cache/apt"))
        tar = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
        engine.run("import", "-", image, stdin=tar.stdout)
        if tar.wait() != 0:
            raise AssertionError("tar could not read the new Debian root")


def _build(engine, part, context):
    image = f"{NAMESPACE}/{part}"
    dockerfile = HERE / f"{part}.Dockerfile"
    # Some engines give containers no network.
    engine.run("build", "--quiet", "--network=host", f"--tag={image}", f"--file={dockerfile}", str(context))
    return image
