"""Sessions of clients in the lab's database, as the application's role."""

import threading

import psycopg2

PORT = 5432


class Sessions:
    """Connections that a fault holds, until they are closed."""

    def __init__(self, lab):
        self.lab = lab
        self.held = []
        self.threads = []

    def connect(self, node):
        """Returns a connection to a node, which is held until `close`."""
        password = (self.lab.directory / "secrets" / "app.password").read_text()
        connection = psycopg2.connect(
            host=self.lab.host(node), port=PORT, user="app", password=password, dbname="app", sslmode="disable", connect_timeout=10,
            application_name="test-alerts",
        )
        self.held.append(connection)
        return connection

    def transaction(self, node, *statements):
        """Opens a transaction that stays open, and returns its connection."""
        connection = self.connect(node)
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        return connection

    def blocked(self, node, statement):
        """Runs a statement that waits, in a thread of its own."""
        connection = self.connect(node)

        def run():
            try:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
            except psycopg2.Error:
                # `close` ended the session, or a deadlock did.
                pass

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def repeat(self, node, *statements):
        """Runs transactions of these statements until `close`, whether they fail or not."""
        connection = self.connect(node)

        def run():
            while not connection.closed:
                try:
                    with connection.cursor() as cursor:
                        for statement in statements:
                            cursor.execute(statement)
                    connection.commit()
                except psycopg2.OperationalError:
                    # Deadlocks are operational errors; a lost session is one, too.
                    if connection.closed or not rolled_back(connection):
                        return
                except psycopg2.InterfaceError:
                    return
                except psycopg2.Error:
                    if not rolled_back(connection):
                        return

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def close(self):
        """Ends every session on its server."""
        for node in {connection.info.host: connection for connection in self.held}.values():
            self.end_on(node.info.host)
        for thread in self.threads:
            thread.join(30)
        for connection in self.held:
            connection.close()
        self.held.clear()
        self.threads.clear()

    def end_on(self, host):
        """Ends the sessions on one server, as its superuser: those that wait do not read."""
        node = next(name for name in ("a", "b", "c") if self.lab.host(name) == host)
        ending = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'test-alerts'"
        # A server that is down has ended them.
        self.lab.sql(node, ending, check=False)


def rolled_back(connection):
    """Rolls back, and returns whether the session still works."""
    try:
        connection.rollback()
    except psycopg2.Error:
        return False
    return True
