"""The receiver of Alertmanager's notifications, and what it counts.

A pager opens one incident for one `groupKey`, as Alertmanager's documentation says of that field, and closes it with the
notification whose status is `resolved`. A page is an opened incident; further notifications of it are not pages.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Inbox:
    """Notifications by receiver, in order."""

    def __init__(self):
        self.lock = threading.Lock()
        self.notifications = []
        self.open = {}

    def accept(self, receiver, body):
        """Records a notification."""
        with self.lock:
            key = (receiver, body["groupKey"])
            firing = body["status"] == "firing"
            entry = {
                "at": time.time(),
                "receiver": receiver,
                "opens": firing and key not in self.open,
                "status": body["status"],
                "alerts": sorted({alert["labels"]["alertname"] for alert in body["alerts"] if alert["status"] == "firing"}),
            }
            self.notifications.append(entry)
            if firing:
                self.open[key] = entry
            else:
                self.open.pop(key, None)

    def since(self, at, receiver):
        """Returns the notifications of a receiver from a time on."""
        with self.lock:
            return [each for each in self.notifications if each["receiver"] == receiver and each["at"] >= at]

    def pages(self, at):
        """Returns the incidents that were opened from a time on."""
        return [each for each in self.since(at, "page") if each["opens"]]

    def open_pages(self):
        """Returns the alerts of the incidents that are open."""
        with self.lock:
            return [entry["alerts"] for (receiver, _), entry in self.open.items() if receiver == "page"]


class Handler(BaseHTTPRequestHandler):
    """Answers POST /<receiver>."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.inbox.accept(self.path.removeprefix("/"), body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments):
        """The inbox is the log."""


class Receiver(ThreadingHTTPServer):
    """Serves until `close`."""

    daemon_threads = True

    def __init__(self, address, inbox):
        super().__init__(address, Handler)
        self.inbox = inbox
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        """Stops serving."""
        self.shutdown()
        self.thread.join()
        self.server_close()
