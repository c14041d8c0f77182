"""Faults of the database: data, settings, slots, certificates."""

import time

import wait
from scene import Expected, Fault

PAGE = 8192
CERTIFICATE_DAYS = 5


def run_on_primary(*statements, database="app"):
    """Returns a cause or a heal: statements of the superuser on the primary."""

    def run(scene):
        for statement in statements:
            scene.lab.sql(scene.primary, statement, database)

    return run


def fill_slot(scene):
    """A slot without a consumer, whose WAL exceeds what the server keeps for it."""
    run_on_primary(
        "alter system set max_slot_wal_keep_size = '32MB'", "select pg_reload_conf()",
        "select pg_create_physical_replication_slot('forgotten', true)",
    )(scene)
    began = time.time()
    # Each switch ends a segment of 16 MB.
    run_on_primary(*(["create table if not exists filler (n int)", "insert into filler values (1)", "select pg_switch_wal()"] * 3), "checkpoint")(scene)
    return began


drop_slot = run_on_primary(
    "select pg_drop_replication_slot('forgotten')", "alter system reset max_slot_wal_keep_size", "select pg_reload_conf()", "drop table filler",
)


def corrupt_page(scene):
    """A page of a table is overwritten on the disk of the remote standby, and then read."""
    run_on_primary("create table damaged as select n, repeat('x', 500) as text from generate_series(1, 200) n", "checkpoint")(scene)
    position = scene.lab.sql(scene.primary, "select pg_current_wal_lsn()")

    def replayed():
        done = scene.lab.sql(scene.remote, f"select coalesce(pg_last_wal_replay_lsn() >= '{position}', false)")
        if done != "t":
            raise wait.NotYet(f"{scene.remote} has not replayed {position}")

    wait.until("the table on the standby", 60, replayed)
    # A restart point writes the pages; a restart empties the buffers.
    scene.lab.sql(scene.remote, "checkpoint")
    path = scene.lab.sql(scene.remote, "select pg_relation_filepath('damaged')", "app")
    started = scene.lab.sql(scene.remote, "select pg_postmaster_start_time()")
    scene.lab.inject("guard-restarted", scene.remote)

    def restarted():
        now = scene.lab.sql(scene.remote, "select pg_postmaster_start_time()", check=False)
        if now in ("", started):
            raise wait.NotYet(f"started at {now or 'no time'}")

    wait.until("a restarted PostgreSQL", 60, restarted)
    with (scene.lab.directory / f"node-{scene.remote}" / "data" / path).open("r+b") as file:
        file.seek(PAGE + 100)
        file.write(b"\0" * 100)
    began = time.time()
    if scene.lab.sql(scene.remote, "select count(*) from damaged", "app", check=False):
        raise RuntimeError("PostgreSQL read the damaged page without an error")
    return began


def repair_page(scene):
    run_on_primary("drop table damaged")(scene)
    scene.lab.sql(scene.remote, "select pg_stat_reset()", "app")


def use_short_certificate(scene):
    """The remote standby gets a certificate that expires in days."""
    conf = scene.lab.directory / f"node-{scene.remote}" / "conf"
    scene.lab.exec(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={scene.remote}", "-days", str(CERTIFICATE_DAYS),
        "-keyout", f"{conf}/server.key", "-out", f"{conf}/server.crt", node=scene.remote,
    )
    scene.lab.exec("chown", "postgres:postgres", f"{conf}/server.key", f"{conf}/server.crt", node=scene.remote)
    for setting in (f"ssl_cert_file = '{conf}/server.crt'", f"ssl_key_file = '{conf}/server.key'", "ssl = on"):
        scene.lab.sql(scene.remote, f"alter system set {setting}")
    began = time.time()
    scene.lab.sql(scene.remote, "select pg_reload_conf()")
    return began


def remove_certificate(scene):
    for name in ("ssl", "ssl_cert_file", "ssl_key_file"):
        scene.lab.sql(scene.remote, f"alter system reset {name}")
    scene.lab.sql(scene.remote, "select pg_reload_conf()")


SLOT = Fault(
    "a replication slot is forgotten", fill_slot, drop_slot,
    (
        Expected("SlotWalRetention", on="primary", labels=(("slot_name", "forgotten"),)),
        Expected("SlotInactive", "warning", on="primary", labels=(("slot_name", "forgotten"),), muted_by=("SlotWalRetention",)),
    ),
)
CHECKSUM = Fault("a page is corrupt on disk", corrupt_page, repair_page, (Expected("ChecksumFailure", on="remote"), Expected("PostgresRestarted", "info", on="remote")))
CERTIFICATE = Fault("a certificate expires in days", use_short_certificate, remove_certificate, (Expected("TlsExpiry", on="remote", timeout=400),))
SEQUENCE = Fault(
    "a sequence is nearly used up", run_on_primary("create sequence short maxvalue 10", "alter sequence short owner to app", "select setval('short', 9)"),
    run_on_primary("drop sequence short"), (Expected("SequenceExhaustion", "warning", labels=(("datname", "app"),)),),
)
COLLATION = Fault(
    "the collation library has changed", run_on_primary("update pg_database set datcollversion = '1' where datname = 'app'"),
    run_on_primary("update pg_database set datcollversion = null where datname = 'app'"), (Expected("CollationMismatchBetweenNodes", on="primary"),),
)
VACUUM = Fault(
    "autovacuum is off for a table with many dead rows",
    run_on_primary(
        "create table dead (n int) with (autovacuum_enabled = off)", "insert into dead select generate_series(1, 5000)", "delete from dead",
    ),
    run_on_primary("drop table dead"), (Expected("AutovacuumBehind", "warning", labels=(("datname", "app"),), timeout=240),),
)

GROUPS = ((SLOT, SEQUENCE, VACUUM), (CHECKSUM,), (CERTIFICATE, COLLATION))
