"""Clients that write to every node all the time, and remember what each acknowledged and when.

One thread for each node asks that node, and no other, to store a row. What is measured is therefore
when a node accepted writes, and not how soon some client's own way of looking for the primary found it.
"""

import select
import threading
import time
from dataclasses import dataclass, field

import psycopg2
from psycopg2 import extensions

# How often each node is asked.
PACE = 0.01
# How long a node may take to answer, or to let a client in. One that is frozen is not writable.
PATIENCE = 1.0

_deadline = threading.local()


class Silent(Exception):
    """A server that did not answer in time."""


def _wait(connection: extensions.connection) -> None:
    """Waits for a server as psycopg2 does, until the deadline of this thread."""
    events = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}
    while (state := connection.poll()) != extensions.POLL_OK:
        left = getattr(_deadline, "at", time.monotonic() + PATIENCE) - time.monotonic()
        poll = select.poll()
        poll.register(connection.fileno(), events[state])
        if left <= 0 or not poll.poll(left * 1000):
            raise Silent


extensions.set_wait_callback(_wait)


@dataclass(frozen=True)
class Node:
    """Where a node's PostgreSQL is, and as whom to log in."""

    name: str
    host: str
    port: int
    user: str
    password: str
    database: str

    def connect(self) -> extensions.connection:
        """Logs in, within the deadline of this thread."""
        connection = psycopg2.connect(host=self.host, port=self.port, user=self.user,
                                      password=self.password, dbname=self.database, sslmode="disable")
        connection.autocommit = True
        return connection


@dataclass
class Writers:
    """The threads, and their memory."""

    nodes: list[Node]
    # Of each node, when it acknowledged a row, in order.
    acknowledged: dict[str, list[float]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Writers":
        for node in self.nodes:
            self.acknowledged[node.name] = []
            thread = threading.Thread(target=self._write, args=(node,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_error) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, node: Node) -> None:
        while not self._stop.is_set():
            try:
                self._write_on_one_connection(node)
            except (psycopg2.Error, Silent):
                time.sleep(PACE)

    def _write_on_one_connection(self, node: Node) -> None:
        _deadline.at = time.monotonic() + PATIENCE
        connection = node.connect()
        try:
            cursor = connection.cursor()
            while not self._stop.is_set():
                _deadline.at = time.monotonic() + PATIENCE
                try:
                    cursor.execute("INSERT INTO bench_failover (node) VALUES (%s)", (node.name,))
                    self.acknowledged[node.name].append(time.monotonic())
                except psycopg2.errors.ReadOnlySqlTransaction:
                    pass
                time.sleep(PACE)
        finally:
            connection.close()

    def moments(self) -> list[float]:
        """Returns when any node acknowledged a row, in order."""
        return sorted(at for each in self.acknowledged.values() for at in list(each))

    def first_after(self, moment: float) -> float | None:
        """Returns when the first row after a moment was acknowledged."""
        return next((at for at in self.moments() if at > moment), None)

    def writers_since(self, moment: float) -> list[str]:
        """Returns the nodes that acknowledged a row since then."""
        return [name for name, each in self.acknowledged.items() if each and each[-1] >= moment]

    def longest_gap(self, since: float, until: float) -> float:
        """Returns the longest time without an acknowledged row."""
        moments = [since, *(at for at in self.moments() if since < at < until), until]
        return max(after - before for before, after in zip(moments, moments[1:]))

    def together(self, since: float) -> float:
        """Returns for how long, since a moment, two nodes acknowledged rows in turn."""
        spans = [self._spans(each, since) for each in self.acknowledged.values()]
        total = 0.0
        for number, one in enumerate(spans):
            for other in spans[number + 1:]:
                total += sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in one for b in other)
        return total

    @staticmethod
    def _spans(moments: list[float], since: float) -> list[tuple[float, float]]:
        """Returns when a node was writable: rows less than half a second apart are of one time."""
        spans: list[tuple[float, float]] = []
        for at in (at for at in list(moments) if at >= since):
            if spans and at - spans[-1][1] < 0.5:
                spans[-1] = (spans[-1][0], at)
            else:
                spans.append((at, at))
        return spans
