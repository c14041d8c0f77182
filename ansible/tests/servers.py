"""DNS, NTP and a cache of Debian's packages, on this machine's address in each region's network, and a webhook for alerts.

Run by aws.py in the environment of an operator, with the number of the run.

DNS answers for the hosts, and for the records in Route 53 as they are now; other names are forwarded. The cache keeps
files whose path names their content, so that three hosts and the next run download nothing twice.
"""

import http.client
import http.server
import json
import os
import shutil
import socket
import socketserver
import struct
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

from aws import Aws
from topology import (
    CACHE, DOMAIN, HOSTS, LEASE_REGION, MOTO_PORT, PRIMARY_REGION, PROXY_PORT, REGIONS, UNCONDITIONAL_PORT, WEBHOOK_PORT, Topology,
)

A, CNAME, TXT = 1, 5, 16
TYPES = {"A": A, "CNAME": CNAME, "TXT": TXT}
NO_ERROR, NAME_ERROR = 0, 3
# From 1900, where NTP's era begins, to 1970.
NTP_EPOCH = 2_208_988_800
FRESH_SECS = 0.2


class Records:
    """Names of the run, by name and type."""

    def __init__(self, topology, aws):
        self.aws = aws
        self.hosts = {(f"{name}.{DOMAIN}", A): [topology.address(name)] for name in HOSTS}
        self.lock = threading.Lock()
        self.read_at, self.found = 0.0, {}

    def all(self):
        with self.lock:
            if time.monotonic() - self.read_at > FRESH_SECS:
                self.found, self.read_at = self._route53(), time.monotonic()
            return self.hosts | self.found

    def _route53(self):
        client, found = self.aws.client("route53"), {}
        for zone in self.aws.zones().values():
            for record in client.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]:
                if record["Type"] in TYPES and "ResourceRecords" in record:
                    values = [value["Value"] for value in record["ResourceRecords"]]
                    found[record["Name"].rstrip(".").lower(), TYPES[record["Type"]]] = values
        return found


def answer(query, records):
    """Returns the response to a query for a name of the run, or nothing for other names."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace").lower())
        at += 1 + query[at]
    name, (kind,) = ".".join(labels), struct.unpack_from(">H", query, at + 1)
    if name != DOMAIN and not name.endswith(f".{DOMAIN}"):
        return None
    known, answers = records.all(), []
    while (name, CNAME) in known and kind != CNAME:
        target = known[name, CNAME][0].rstrip(".")
        answers.append((name, CNAME, target))
        name = target
    answers += [(name, kind, value) for value in known.get((name, kind), [])]
    exists = any(there == name for there, _ in known)
    flags = 0x8580 | (NO_ERROR if exists else NAME_ERROR)
    packed = b"".join(_record(*each) for each in answers)
    return query[:2] + struct.pack(">5H", flags, 1, len(answers), 0, 0) + query[12 : at + 5] + packed


def _record(name, kind, value):
    if kind == A:
        data = socket.inet_aton(value)
    elif kind == CNAME:
        data = _name(value)
    else:
        text = value.strip('"').encode()
        data = bytes([len(text)]) + text
    return _name(name) + struct.pack(">HHIH", kind, 1, 1, len(data)) + data


def _name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


class Dns(socketserver.BaseRequestHandler):
    records = None
    upstream = None

    def handle(self):
        query, server = self.request
        reply = answer(query, self.records) or self._forward(query)
        if reply:
            server.sendto(reply, self.client_address)

    def _forward(self, query):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(4)
            client.sendto(query, (self.upstream, 53))
            try:
                return client.recv(4096)
            except TimeoutError:
                return None


class Ntp(socketserver.BaseRequestHandler):
    """This machine's time."""

    def handle(self):
        query, server = self.request
        if len(query) < 48:
            return
        now = _ntp_time()
        # Version 4, server; stratum 2; polled every 8 s; a microsecond of precision.
        head = struct.pack(">BBbbIII", 0x24, 2, 3, -20, 0, 16, 0x7F7F0101)
        server.sendto(head + now + query[40:48] + now + _ntp_time(), self.client_address)


def _ntp_time():
    now = time.time() + NTP_EPOCH
    return struct.pack(">II", int(now), int(now % 1 * (1 << 32)))


class Proxy(http.server.BaseHTTPRequestHandler):
    """HTTP proxy that keeps packages and indexes."""

    protocol_version = "HTTP/1.1"
    directory = CACHE / "apt"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.scheme != "http":
            self.send_error(501, "only http:// is fetched")
            return
        kept = "/pool/" in url.path or "/by-hash/" in url.path
        file = self.directory / url.netloc / url.path.lstrip("/")
        if ".." in file.parts:
            self.send_error(400, "a path with ..")
            return
        if kept and file.exists():
            self._send_file(file)
            return
        try:
            self._fetch(url, file if kept else None)
        except (OSError, http.client.HTTPException) as error:
            self.close_connection = True
            self.log_error("%s: %s", self.path, error)

    def _send_file(self, file):
        with file.open("rb") as content:
            self.send_response(200)
            self.send_header("Content-Length", str(os.fstat(content.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(content, self.wfile)

    def _fetch(self, url, file):
        upstream = http.client.HTTPConnection(url.netloc, timeout=60)
        wanted = ("If-Modified-Since", "Cache-Control", "Range", "User-Agent")
        headers = {name: self.headers[name] for name in wanted if name in self.headers and not (file and name == "Range")}
        path = url.path + (f"?{url.query}" if url.query else "")
        upstream.request("GET", path, headers=headers | {"Host": url.netloc})
        response = upstream.getresponse()
        with tempfile.TemporaryFile() as content:
            # Complete before the first byte goes on: a length is then known, and a failure is an error.
            shutil.copyfileobj(response, content)
            if file and response.status == 200:
                _keep(content, file)
            self.send_response(response.status)
            for name in ("Last-Modified", "Content-Type", "Location", "Content-Range"):
                if response.headers[name]:
                    self.send_header(name, response.headers[name])
            self.send_header("Content-Length", str(content.seek(0, os.SEEK_END) if response.status != 304 else 0))
            self.end_headers()
            content.seek(0)
            if response.status != 304:
                shutil.copyfileobj(content, self.wfile)
        upstream.close()

    def log_message(self, *_):
        pass


class Unconditional(http.server.BaseHTTPRequestHandler):
    """An S3 that ignores the condition of a write: moto's, which checks no signature, without the header."""

    protocol_version = "HTTP/1.1"
    moto = None

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("if-match", "if-none-match")}
        upstream = http.client.HTTPConnection(*self.moto, timeout=10)
        upstream.request(self.command, self.path, body=body, headers=headers)
        response = upstream.getresponse()
        content = response.read()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

    def log_message(self, *_):
        pass


class Webhook(http.server.BaseHTTPRequestHandler):
    """Keeps the notifications of Alertmanager, a line for each."""

    file = None

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.file.open("a") as kept:
            kept.write(json.dumps(body) + "\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def _keep(content, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    content.seek(0)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as part:
        shutil.copyfileobj(content, part)
    os.replace(part.name, file)


class Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    allow_reuse_address = True


class Http(http.server.ThreadingHTTPServer):
    daemon_threads = True


def main():
    topology = Topology(int(sys.argv[1]))
    Dns.records = Records(topology, Aws(topology))
    resolvers = (line.split()[1] for line in Path("/etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver"))
    Dns.upstream = next(resolvers, "127.0.0.53")
    for region in REGIONS:
        gateway = topology.gateway(region)
        for server in (Udp((gateway, 53), Dns), Udp((gateway, 123), Ntp), Http((gateway, PROXY_PORT), Proxy)):
            threading.Thread(target=server.serve_forever, daemon=True).start()
    Webhook.file = Aws(topology).alerts
    threading.Thread(target=Http((topology.gateway(PRIMARY_REGION), WEBHOOK_PORT), Webhook).serve_forever, daemon=True).start()
    gateway = topology.gateway(LEASE_REGION)
    Unconditional.moto = (gateway, MOTO_PORT)
    threading.Thread(target=Http((gateway, UNCONDITIONAL_PORT), Unconditional).serve_forever, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
