"""New packages, of PostgreSQL and of the platform."""

import re
import subprocess

from cluster import PLAYBOOK_TIMEOUT_SECS
from failed import Failed
from step import STEPS, Result, against, none_failed, show, started, step, until
from topology import ROOT

AGENT = "failover-ctl-agent.service"
RESTART_GAP_SECS = 2.0


@step("minor-upgrade")
def minor_upgrade(cluster, options):
    """From the release to which the nodes are pinned, on new hosts if one has a newer one."""
    if not all(cluster.is_pinned(name) for name in cluster.nodes()):
        STEPS["site"].run(cluster, options)
    primary = cluster.wait_until_healthy()
    version = "SELECT current_setting('server_version')"
    before = cluster.sql(primary, version)
    for name in cluster.nodes():
        cluster.unpin(name)
    with cluster.writer("upgrade") as writer:
        writer.wait_for_write()
        done = cluster.playbook("minor-upgrade.yml")
        writer.wait_for_write()
    cluster.wait_until_healthy()
    after = {cluster.sql(name, version) for name in cluster.nodes()}
    if len(after) != 1 or after == {before}:
        raise Failed(f"the nodes run {', '.join(sorted(after))} after {before}")
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"{before} to {after.pop()}, at most {against(writer.longest_gap(), RESTART_GAP_SECS)} without writes; {told}; second run {same.changed} changed", done.changed)


@step("package-upgrade")
def package_upgrade(cluster, _options):
    """Newer packages of the platform interrupt no client."""
    primary = cluster.wait_until_healthy()
    packages = newer_packages(cluster)
    with cluster.writer("packages") as writer:
        writer.wait_for_write()
        before = show(cluster, primary, "failover-ctl-guard.service", "ExecMainStartTimestampMonotonic")
        done = cluster.site(variables={"causeway_packages": str(packages)})
        writer.wait_for_write()
        if cluster.wait_until_healthy() != primary:
            raise Failed("an upgrade of packages moved the primary")
    now = show(cluster, primary, "failover-ctl-guard.service", "ExecMainStartTimestampMonotonic")
    if now != before:
        raise Failed("an upgrade of packages restarted guard")
    for name in cluster.nodes():
        if not cluster.hosts.exec(name, "dpkg-query", "-W", "-f", "${Version}", "failover-ctl").endswith("+harness"):
            raise Failed(f"failover-ctl was not upgraded on {name}")
        if int(cluster.hosts.exec(name, "stat", "--format=%Z", "/usr/bin/failover-ctl")) > started(cluster, name, "failover-ctl-agent.service") + 1:
            raise Failed(f"the agent on {name} runs the old program")
    none_failed(writer)
    cluster.site()
    return Result(f"0 statements failed, guard not restarted; {cluster.verify(writer)}", done.changed)


@step("copy-undisturbed")
def copy_undisturbed(cluster, _options):
    """An agent that copies the primary is restarted neither by its package nor by site.yml, but by the run after."""
    primary = cluster.wait_until_healthy()
    node = next(name for name in cluster.nodes() if name != primary)
    packages = newer_packages(cluster)
    with cluster.writer("copy") as writer:
        writer.wait_for_write()
        rejoin, rejoin_log = cluster.start("rejoin.yml", {"node": node, "rebuild": True})
        # pg_basebackup is stopped, so that the copy lasts as long as this step needs.
        stop = "kill -STOP $(pgrep --oldest --exact pg_basebackup)"
        until("a copy", lambda: cluster.hosts.exec(node, "sh", "-c", f"{stop} && echo stopped", check=False) == "stopped")
        try:
            before = started(cluster, node, AGENT)
            package = next(packages.glob("failover-ctl_*.deb"))
            cluster.hosts.engine.run("cp", str(package), f"{cluster.topology.container(node)}:/var/cache/newer.deb")
            told = cluster.hosts.exec(node, "sh", "-c", "dpkg --install /var/cache/newer.deb 2>&1")
            if "runs the old program" not in told:
                raise Failed(f"the package does not name the postponed restart: {told}")
            site, site_log = cluster.start("site.yml", {"causeway_packages": str(packages)})
            until("the restart of the other agents", lambda: site.poll() is not None or "TASK [backup_agent : Settings and" in site_log.read_text())
            if abs(started(cluster, node, AGENT) - before) > 0.5:
                raise Failed(f"the agent of {node} was restarted in the middle of a copy; {site_log}")
        finally:
            cluster.hosts.exec(node, "pkill", "-CONT", "--exact", "pg_basebackup")
        ended = [process.wait(PLAYBOOK_TIMEOUT_SECS) for process in (rejoin, site)]
        if any(ended) or f"{node}: its agent runs with its former program" not in site_log.read_text():
            raise Failed(f"rejoin.yml and site.yml ended with {ended}, or the summary does not name {node}; {rejoin_log}, {site_log}")
        cluster.wait_until_healthy()
        done = cluster.site(variables={"causeway_packages": str(packages)})
        cluster.wait_until_healthy()
    changes = done.changes()
    if len(changes) != 1 or started(cluster, node, AGENT) - before < 1:
        raise Failed(f"the next run did not restart the agent of {node}, or did more: {changes}; {done.log}")
    told = cluster.verify(writer)
    cluster.site()
    return Result(f"{node} copied while its package was upgraded; its agent was restarted by the run after; {told}", done.changed)


def newer_packages(cluster):
    """The packages of target/package with a higher version."""
    into = cluster.directory / "newer-packages"
    into.mkdir(exist_ok=True)
    for old in into.glob("*.deb"):
        old.unlink()
    for package in sorted((ROOT / "target" / "package").glob("*.deb")):
        unpacked = cluster.directory / "unpacked"
        subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(unpacked)], check=True)
        control = unpacked / "DEBIAN" / "control"
        version = re.search(r"^Version: (.+)$", control.read_text(), re.MULTILINE)[1]
        control.write_text(control.read_text().replace(f"Version: {version}", f"Version: {version}+harness"))
        name, _, rest = package.name.partition("_")
        target = into / f"{name}_{version}+harness_{rest.rpartition('_')[2]}"
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Znone", str(unpacked), str(target)], check=True, capture_output=True)
        subprocess.run(["rm", "-rf", str(unpacked)], check=True)
    return into
