"""A client outside of the nodes that writes all the time, and the check of what was acknowledged to it."""

import contextlib
import threading
import time

import psycopg
from topology import DOMAIN

DATABASE = "causeway"
USER = "harness"
PAUSE_SECS = 0.01
CONNECT_TIMEOUT_SECS = 2
# Until a wait fails: far above every goal, which a step shows beside its figure.
WAIT_SECS = 300
# Without an answer, a connection to a host that has gone ends after this time.
USER_TIMEOUT_MS = 3000


def connection(topology, nodes, password, ca, user=USER):
    """Connects as clients do: to the node that accepts writes, with verify-full."""
    return _connect(topology, nodes, 5432, ca, user=user, password=password, target_session_attrs="read-write", options="-c search_path=pg_catalog,public")


def pooled_connection(topology, nodes, password, ca):
    """Connects as clients of the poolers do: the port is closed on a node that accepts no writes."""
    return _connect(topology, nodes, 6432, ca, user=USER, password=password)


def _connect(topology, nodes, port, ca, **options):
    return psycopg.connect(
        host=",".join(f"{node}.{DOMAIN}" for node in nodes),
        hostaddr=",".join(topology.address(node) for node in nodes),
        port=",".join(str(port) for _ in nodes),
        dbname=DATABASE,
        sslmode="verify-full",
        sslrootcert=str(ca),
        connect_timeout=CONNECT_TIMEOUT_SECS,
        tcp_user_timeout=USER_TIMEOUT_MS,
        autocommit=True,
        application_name="harness",
        **options,
    )


class Writer:
    """Writes numbered rows until it is stopped. `acknowledged` and `failed` are its history."""

    def __init__(self, connect, run):
        self.connect, self.run = connect, run
        self.acknowledged = []  # (number, server, time)
        self.failed = []  # (number, error, time): statements on a connection that existed
        self.refused = []  # (error, time): connections
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self):
        self.began = time.monotonic()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        self.thread.join()
        self.ended = time.monotonic()

    def _loop(self):
        number, session, server = 0, None, None
        while not self.stopping.is_set():
            if session is None:
                try:
                    session = self.connect()
                    server = session.execute("SELECT host(inet_server_addr())").fetchone()[0]
                except psycopg.Error as error:
                    session = _close(session)
                    self.refused.append((_line(error), time.monotonic()))
                    self.stopping.wait(0.05)
                    continue
            number += 1
            try:
                session.execute("INSERT INTO public.harness (run, number) VALUES (%s, %s)", (self.run, number))
                self.acknowledged.append((number, server, time.monotonic()))
            except psycopg.Error as error:
                self.failed.append((number, _line(error), time.monotonic()))
                session = _close(session)
            self.stopping.wait(PAUSE_SECS)
        _close(session)

    def wait_for_write(self, after=None, not_on=(), timeout_secs=WAIT_SECS):
        """Waits for an acknowledged write after a time, on another server than these. Returns its time."""
        after = time.monotonic() if after is None else after
        deadline = time.monotonic() + timeout_secs
        while True:
            for _, server, at in reversed(self.acknowledged):
                if at <= after:
                    break
                if server not in not_on:
                    return at
            if time.monotonic() > deadline:
                last = (self.refused + [(error, at) for _, error, at in self.failed])[-1:]
                raise AssertionError(f"no write was acknowledged within {timeout_secs} s: {last}")
            time.sleep(0.02)

    def longest_gap(self):
        """Longest time without an acknowledged write, in seconds."""
        times = [self.began, *(at for _, _, at in self.acknowledged), getattr(self, "ended", time.monotonic())]
        return max(later - earlier for earlier, later in zip(times, times[1:]))

    def gaps(self, at_least):
        """Every time without acknowledged writes of at least this length, in seconds."""
        times = [at for _, _, at in self.acknowledged]
        return [later - earlier for earlier, later in zip(times, times[1:]) if later - earlier >= at_least]

    def servers(self):
        return {server for _, server, _ in self.acknowledged}

    def lost(self, session):
        """Numbers of acknowledged rows that the database does not have."""
        rows = session.execute("SELECT number FROM public.harness WHERE run = %s", (self.run,))
        return sorted({number for number, _, _ in self.acknowledged} - {number for (number,) in rows})


def split_brain_secs(writers):
    """How long two servers acknowledged writes at once, in the histories of writers on the same clock."""
    spans = {}
    for writer in writers:
        for _, server, at in writer.acknowledged:
            first, last = spans.get(server, (at, at))
            spans[server] = (min(first, at), max(last, at))
    ordered = sorted(spans.values())
    return max((max(0.0, earlier[1] - later[0]) for earlier, later in zip(ordered, ordered[1:])), default=0.0)


def _close(session):
    if session is not None:
        with contextlib.suppress(psycopg.Error):
            session.close()


def _line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
