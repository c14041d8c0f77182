"""Inputs that `preflight` must name before anything is changed."""

import re
from contextlib import contextmanager

from failed import Failed
from topology import LEASE_REGION, NODES, S3_PORT, UNCONDITIONAL_PORT, bucket

FIRST, SECOND, OTHER = NODES


def run(cluster):
    """Plants each, and returns their number."""
    wrong = []
    for name, case in CASES.items():
        with case(cluster) as (variables, *expected):
            try:
                done = cluster.playbook("preflight.yml", variables, fails=True)
            except Failed as error:
                wrong.append(f"{name}: {str(error).splitlines()[0]}")
                continue
        missing = [pattern for pattern in expected if not re.search(pattern, done.output)]
        if missing:
            wrong.append(f"{name}: not named: {missing}; {done.log}")
        if done.changed:
            wrong.append(f"{name}: {'; '.join(done.changes())}; {done.log}")
    if wrong:
        raise Failed(f"{len(wrong)} of {len(CASES)} not named: " + "; ".join(wrong))
    return len(CASES)


def unreachable(cluster):
    return _host(cluster, FIRST, {"ansible_host": cluster.topology.address(FIRST).rsplit(".", 1)[0] + ".250"}, FIRST, "does not answer|unreachable")


def postgres_release(cluster):
    return _planted_database(cluster, "14", b"\x01" * 8, SECOND, "14", "causeway_postgres_release")


@contextmanager
def other_cluster(cluster):
    """Databases of two clusters."""
    with _database(cluster, FIRST, "15", b"\x01" * 8), _database(cluster, SECOND, "15", b"\x02" * 8):
        yield {}, FIRST, SECOND, "system identifier"


@contextmanager
def damaged_database(cluster):
    """A data directory whose control file is cut off."""
    with _database(cluster, SECOND, "15", b""):
        yield {}, SECOND, "control file"


def overlapping_addresses(cluster):
    return _host(cluster, SECOND, {"private_ip": cluster.topology.address(FIRST)}, FIRST, SECOND, re.escape(cluster.topology.address(FIRST)))


def missing_volume(cluster):
    return _host(cluster, OTHER, {"data_volume_id": "vol-00000000000000000"}, OTHER, "vol0{17}", "not attached")


def one_volume_twice(cluster):
    hosts = _read(cluster)
    variables = next(region["hosts"][OTHER] for region in hosts["all"]["children"]["postgres"]["children"].values() if OTHER in region["hosts"])
    return _host(cluster, OTHER, {"wal_volume_id": variables["data_volume_id"]}, OTHER, "one volume|same volume")


@contextmanager
def clock_off(cluster):
    """A Python whose clock is 10 s ahead."""
    cluster.hosts.exec(FIRST, "sh", "-c", "cat > /tmp/python-ahead && chmod 755 /tmp/python-ahead", input=AHEAD)
    # Ansible takes the second for a module whose first line names python3.
    variables = {"ansible_python_interpreter": "/tmp/python-ahead", "ansible_python3_interpreter": "/tmp/python-ahead"}
    with _host(cluster, FIRST, variables, FIRST, "clock", "ahead") as expected:
        yield expected
    cluster.hosts.exec(FIRST, "rm", "/tmp/python-ahead")


@contextmanager
def without_conditional_writes(cluster):
    s3 = cluster.hosts.aws.client("s3", LEASE_REGION)
    ours, theirs = f":{S3_PORT}", f":{UNCONDITIONAL_PORT}"
    endpoint = s3.meta.endpoint_url.replace(ours, theirs)
    cluster.hosts.aws.client("s3", LEASE_REGION, endpoint=endpoint).create_bucket(
        Bucket=bucket(LEASE_REGION), CreateBucketConfiguration={"LocationConstraint": LEASE_REGION}
    )
    settings = cluster.inventory.failover_ctl(list(NODES)).replace(s3.meta.endpoint_url, endpoint)
    yield {"failover_ctl_settings": settings}, bucket(LEASE_REGION), "condition"


@contextmanager
def other_archive(cluster):
    """WAL of another system identifier under this cluster's name."""
    region = "eu-west-1"
    s3 = cluster.hosts.aws.client("s3", region)
    key = "main/7000000000000000001/wal/00000001/000000010000000000000001"
    s3.put_object(Bucket=bucket(region), Key=key, Body=b"another cluster's")
    try:
        yield {}, "7000000000000000001", bucket(region)
    finally:
        s3.delete_object(Bucket=bucket(region), Key=key)


@contextmanager
def private_recipient(cluster):
    key = (cluster.inventory.secrets / "identity.txt").read_text()
    private = re.search(r"AGE-SECRET-KEY-\w+", key)[0]
    yield {"backup_agent_recipients": [private]}, "private key"


@contextmanager
def wrong_type(_cluster):
    yield {"backup_agent_recipients": "age1ncmz5xgtssplxepxj2yf8ald4szee9aw33c4xult4fcjr8j8aulsqkcveg"}, "backup_agent_recipients", "list"


@contextmanager
def settings_no_toml(_cluster):
    yield {"failover_ctl_settings": "cluster = main"}, "failover_ctl_settings", "TOML"


@contextmanager
def lease_beside_a_node(cluster):
    settings = cluster.inventory.failover_ctl(list(NODES)).replace(f'region = "{LEASE_REGION}"', 'region = "eu-west-1"')
    yield {"failover_ctl_settings": settings}, "lease", "eu-west-1"


@contextmanager
def no_secret(cluster):
    yield {"causeway_secrets": {"replicator": "x" * 32}}, "rewinder", "command-signing-key"


CASES = {
    case.__name__: case
    for case in (
        unreachable,
        postgres_release,
        other_cluster,
        damaged_database,
        overlapping_addresses,
        missing_volume,
        one_volume_twice,
        clock_off,
        without_conditional_writes,
        other_archive,
        private_recipient,
        wrong_type,
        settings_no_toml,
        lease_beside_a_node,
        no_secret,
    )
}

AHEAD = '''#!/usr/bin/python3
# Runs what python3 would, with a clock that is 10 s ahead.
import runpy, sys, time
real = time.time
time.time = lambda: real() + 10
arguments = [argument for argument in sys.argv[1:]]
while arguments and arguments[0].startswith("-") and arguments[0] not in ("-c", "-"):
    arguments.pop(0)
if not arguments or arguments[0] == "-":
    sys.argv = [""] + arguments[1:]
    exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})
elif arguments[0] == "-c":
    sys.argv = ["-c"] + arguments[2:]
    exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
else:
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
'''


def _read(cluster):
    import yaml

    return yaml.safe_load((cluster.inventory.directory / "hosts.yml").read_text())


@contextmanager
def _host(cluster, name, variables, *expected):
    """Other variables of one host."""
    import yaml

    file = cluster.inventory.directory / "hosts.yml"
    kept = file.read_text()
    hosts = yaml.safe_load(kept)
    for region in hosts["all"]["children"]["postgres"]["children"].values():
        if name in region["hosts"]:
            region["hosts"][name] |= variables
    file.write_text(yaml.safe_dump(hosts))
    try:
        yield {}, *expected
    finally:
        file.write_text(kept)


@contextmanager
def _planted_database(cluster, release, identifier, *expected):
    with _database(cluster, SECOND, release, identifier):
        yield {}, *expected


@contextmanager
def _database(cluster, name, release, identifier):
    """What looks like a data directory, on a host without one."""
    data = "/var/lib/postgresql/15/main"
    if cluster.hosts.exec(name, "sh", "-c", f"if test -e {data}; then ls -A {data}; fi"):
        raise AssertionError(f"{name} has a database: bad inputs are planted on bare hosts")
    text = identifier.decode("latin-1")
    cluster.hosts.exec(name, "sh", "-c", f"mkdir -p {data}/global; echo {release} > {data}/PG_VERSION; cat > {data}/global/pg_control", input=text * 64)
    try:
        yield
    finally:
        cluster.hosts.exec(name, "sh", "-c", "rm -r /var/lib/postgresql")
