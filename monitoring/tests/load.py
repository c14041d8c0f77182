"""Clients of the API: writes, and reads between them, on both regions' instances."""

import http.client
import json
import threading

import lab as labs

CLIENTS = 4
# Between two requests of a client.
PAUSE_SECS = 0.4
TIMEOUT_SECS = 15


class Load:
    """Runs until `close`."""

    def __init__(self, lab, clients=CLIENTS, reads=True):
        self.lab = lab
        self.reads = reads
        self.stopping = threading.Event()
        self.succeeded = 0
        self.failed = 0
        self.lock = threading.Lock()
        hosts = list(labs.APIS.values())
        self.threads = [threading.Thread(target=self.client, args=(hosts[number % len(hosts)],), daemon=True) for number in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, host):
        """Sends requests to one instance."""
        turn = 0
        while not self.stopping.wait(PAUSE_SECS):
            turn += 1
            try:
                passed = self.request(host, self.reads and turn % 2 == 0) < 500
            except OSError:
                passed = False
            except http.client.HTTPException:
                passed = False
            with self.lock:
                self.succeeded += passed
                self.failed += not passed

    def request(self, host, reads):
        """Sends one request, and returns its status."""
        connection = http.client.HTTPConnection(self.lab.address(host), 8080, timeout=TIMEOUT_SECS)
        try:
            if reads:
                connection.request("GET", "/members?limit=5")
            else:
                body = json.dumps({"name": "Ann", "age": 30})
                connection.request("POST", "/members", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def close(self):
        """Stops the clients."""
        self.stopping.set()
        for thread in self.threads:
            thread.join()
