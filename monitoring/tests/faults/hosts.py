"""Faults of hosts, and of the monitoring itself."""

import subprocess
import sys
from pathlib import Path

from scene import Expected, Fault, Scene

VOLUME_MIB = 64
GROUP = Path("/sys/fs/cgroup/memory/causeway-test-alerts")
OOM_LIMIT = 64 << 20


def run(*words):
    """Runs a program, and raises with its errors when it fails."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(map(str, words))}` failed: {done.stderr.strip()}")


def add_volume(scene):
    """Mounts an ext4 volume on the remote host."""
    image = scene.stack.directory / "volume.img"
    volume = scene.lab.directory / f"node-{scene.remote}" / "volume"
    run("truncate", f"--size={VOLUME_MIB}M", image)
    run("mkfs.ext4", "-q", "-F", image)
    volume.mkdir()
    run("mount", "-o", "loop", image, volume)
    scene.notes["volume"] = volume
    scene.cleanups.callback(remove_volume, volume, image)


def remove_volume(volume, image):
    """Unmounts the volume, if it still is mounted."""
    if volume.is_mount():
        run("umount", volume)
        volume.rmdir()
        image.unlink()


def fill_volume(scene):
    """A volume of the remote host fills up."""
    add_volume(scene)
    with (scene.notes["volume"] / "ballast").open("wb") as file:
        try:
            while True:
                file.write(b"\0" * (1 << 20))
                file.flush()
        except OSError:
            # It is full.
            pass


def use_too_much_memory(_scene):
    """A process exceeds the memory of its group, and the kernel kills it."""
    GROUP.mkdir()
    try:
        (GROUP / "memory.limit_in_bytes").write_text(str(OOM_LIMIT))
        enter = f"open({str(GROUP / 'cgroup.procs')!r}, 'w').write('0'); bytearray({4 * OOM_LIMIT})"
        done = subprocess.run([sys.executable, "-c", enter], check=False, capture_output=True)
        if done.returncode != -9:
            raise RuntimeError(f"the process that exceeded its memory ended with {done.returncode}")
    finally:
        GROUP.rmdir()


def nothing(_scene):
    """The fault is over at once."""


def break_prometheus_settings(scene):
    """Prometheus is told to read settings that are wrong."""
    file = scene.stack.directory / "prometheus.yml"
    file.write_text(file.read_text() + "\nunknown_setting: true\n")
    if scene.stack.reload():
        raise RuntimeError("Prometheus accepted wrong settings")


def restore_prometheus_settings(scene):
    scene.stack.write_prometheus()
    if not scene.stack.reload():
        raise RuntimeError("Prometheus rejected its settings")


def break_textfile(scene):
    """A program of the standby's host leaves a file of metrics that cannot be parsed."""
    file = scene.lab.directory / f"node-{scene.standby}" / "textfile" / "broken.prom"
    scene.cleanups.callback(file.unlink)
    file.write_text("broken{ 1\n")


DISK_FULL = Fault("a volume is full", fill_volume, Scene.clean_up, (Expected("DiskFull", on="remote"),), sample=True)
OOM = Fault("the kernel kills a process for lack of memory", use_too_much_memory, nothing, (Expected("OomKill", on="remote"),))
SETTINGS = Fault("Prometheus has wrong settings", break_prometheus_settings, restore_prometheus_settings, (Expected("RulesFailing", "warning"),))

TEXTFILE = Fault("metrics of a host cannot be parsed", break_textfile, Scene.clean_up, (Expected("ExporterFailing", "warning", on="standby"),))

GROUPS = ((DISK_FULL,), (OOM,), (SETTINGS,), (TEXTFILE,))
