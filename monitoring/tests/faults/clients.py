"""Faults of clients: connections, transactions, locks, and what the API makes of them."""

from load import Load
from scene import Expected, Fault

# Of 97, which the lab's max_connections of 100 leave; agents, exporters and the API have the others.
MOST_CONNECTIONS = 97
DEADLOCKING = 3
# Clients of two instances, each with a pool of sixteen connections.
CROWD = 64


def close(scene):
    """Ends the sessions of the fault."""
    scene.sessions.close()


def use_connections(share):
    """Returns a cause: clients use this share of the primary's connections."""

    def run(scene):
        statement = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
        used = int(scene.lab.sql(scene.primary, statement))
        # The superuser's own session is gone by then.
        for _ in range(int(share * MOST_CONNECTIONS) - used + 1):
            scene.sessions.connect(scene.primary)

    return run


def idle_in_transaction(scene):
    scene.sessions.transaction(scene.primary, "select count(*) from ledger")


def queue_for_lock(scene):
    scene.sessions.transaction(scene.primary, "lock table lab_probe in access exclusive mode")
    for _ in range(7):
        scene.sessions.blocked(scene.primary, "select count(*) from lab_probe")


def deadlock(scene):
    """Transactions that lock two rows in opposite orders, again and again."""
    scene.sessions.repeat(scene.primary, "create table if not exists deadlocked (n int primary key)", "insert into deadlocked values (1), (2) on conflict do nothing")
    for _ in range(DEADLOCKING):
        for first, second in ((1, 2), (2, 1)):
            scene.sessions.repeat(
                scene.primary, f"update deadlocked set n = n where n = {first}", "select pg_sleep(0.05)", f"update deadlocked set n = n where n = {second}",
            )


def roll_back(scene):
    for _ in range(4):
        scene.sessions.repeat(scene.primary, "select 1 / (select count(*) from ledger where n = -1)", "select pg_sleep(0.01)")


def drop_deadlocked(scene):
    scene.sessions.close()
    scene.lab.sql(scene.primary, "drop table if exists deadlocked", "app")


def force_checkpoints(scene):
    """Maintenance that runs a checkpoint each second."""
    scene.repeat_sql("checkpoints", "checkpoint", every=1)


def stop_checkpoints(scene):
    scene.stack.of_faults.end("checkpoints")


def use_pool(scene):
    """Every write of the API waits for a standby that does not answer, and more of them come than it has connections."""
    scene.lab.sql(scene.primary, "alter system set synchronous_standby_names = 'silent'")
    scene.lab.sql(scene.primary, "select pg_reload_conf()")
    scene.notes["crowd"] = Load(scene.lab, clients=CROWD, reads=False)


def free_pool(scene):
    scene.lab.sql(scene.primary, "alter system reset synchronous_standby_names")
    scene.lab.sql(scene.primary, "select pg_reload_conf()")
    scene.notes["crowd"].close()


def lock_members(scene):
    """A migration holds the lock of a table that the API reads and writes."""
    scene.sessions.transaction(scene.primary, "lock table members in access exclusive mode")


EXHAUSTED = Fault(
    "clients use every connection", use_connections(0.97), close,
    (Expected("ConnectionsExhausted", on="primary"), Expected("ConnectionsHigh", "warning", on="primary", muted_by=("ConnectionsExhausted",))),
)
IDLE = Fault(
    "a client leaves its transaction open", idle_in_transaction, close,
    (Expected("IdleInTransaction", "warning", on="primary"), Expected("LongTransaction", "warning", on="primary", timeout=400)),
)
LOCKS = Fault("sessions queue for a lock", queue_for_lock, close, (Expected("LockQueue", "warning", on="primary"),))
DEADLOCKS = Fault("transactions deadlock", deadlock, drop_deadlocked, (Expected("Deadlocks", "warning"),))
ROLLBACKS = Fault("a client's transactions fail", roll_back, close, (Expected("RollbackRateHigh", "warning"),))
CHECKPOINTS = Fault("checkpoints are forced", force_checkpoints, stop_checkpoints, (Expected("CheckpointsForced", "warning", timeout=240),))
LOCKED_API = Fault(
    "a table of the API is locked", lock_members, close,
    (Expected("ApiErrorBudgetBurn"), Expected("ApiLatencyHigh", "warning", muted_by=("ApiErrorBudgetBurn",))),
)
POOL = Fault(
    "writes of the API use every connection of its pool", use_pool, free_pool,
    (Expected("ApiErrorBudgetBurn"), Expected("ApiPoolStarved", "warning")),
)

GROUPS = ((EXHAUSTED,), (IDLE, LOCKS, DEADLOCKS, ROLLBACKS), (CHECKPOINTS,), (LOCKED_API,), (POOL,))
