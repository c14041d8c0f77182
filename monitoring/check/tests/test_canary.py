"""The canary against an API that answers rightly, wrongly, or not: `python -m unittest discover monitoring/check/tests`."""

import datetime
import http.server
import importlib.machinery
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
CANARY = Path(__file__).resolve().parents[2] / "canary"
LOADER = importlib.machinery.SourceFileLoader("canary", str(CANARY))
canary = importlib.util.module_from_spec(importlib.util.spec_from_loader("canary", LOADER))
LOADER.exec_module(canary)


class Api(http.server.BaseHTTPRequestHandler):
    """The contract of `/hello`, as far as the canary uses it."""

    def do_PUT(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.server.forgets:
            self.server.born = datetime.date.fromisoformat(body["dateOfBirth"])
        self.send_response(self.server.status)
        self.end_headers()

    def do_GET(self):
        today = datetime.datetime.now(datetime.timezone.utc).date()
        day = self.server.born.replace(year=today.year)
        if day < today:
            day = day.replace(year=today.year + 1)
        self.send_response(200)
        self.end_headers()
        days = (day - today).days
        told = f"Your birthday is in {days} day(s)" if days else "Happy birthday!"
        self.wfile.write(json.dumps({"message": f"Hello, canary! {told}"}).encode())

    def log_message(self, *_):
        pass


class Canary(unittest.TestCase):
    def setUp(self):
        self.api = http.server.HTTPServer(("127.0.0.1", 0), Api)
        self.api.status, self.api.forgets, self.api.born = 204, False, datetime.date(2000, 1, 1)
        thread = threading.Thread(target=self.api.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.api.server_close)
        self.addCleanup(self.api.shutdown)
        self.url = f"http://127.0.0.1:{self.api.server_port}"
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.textfile = Path(directory.name) / "canary.prom"

    def sing(self, textfile=None):
        return subprocess.run([CANARY, self.url, textfile or self.textfile], capture_output=True, text=True, check=False)

    def value(self, metric):
        return float(re.search(rf"^{metric}\{{.*\}} (\S+)$", self.textfile.read_text(), flags=re.M)[1])

    def test_answer_then_success(self):
        self.assertEqual(self.sing().returncode, 0)
        self.assertEqual(self.value("canary_success"), 1)
        self.assertGreater(self.value("canary_last_success_timestamp_seconds"), 1.7e9)
        checked = subprocess.run(["promtool", "check", "metrics"], input=self.textfile.read_text(), capture_output=True, text=True, check=False)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_status_503_then_time_of_the_last_success_stays(self):
        self.sing()
        before = self.value("canary_last_success_timestamp_seconds")
        self.api.status = 503
        done = self.sing()
        self.assertEqual(done.returncode, 1)
        self.assertIn("PUT", done.stderr)
        self.assertIn("status 503", done.stderr)
        self.assertTrue(done.stderr.startswith("<3>"), "the unit's LogLevelMax= drops lines without a priority")
        self.assertEqual(self.value("canary_success"), 0)
        self.assertEqual(self.value("canary_last_success_timestamp_seconds"), before)

    def test_write_is_not_stored_then_failure(self):
        self.api.forgets = True
        # Of every date, this one alone would be right by chance.
        days, _ = canary.birthday(datetime.datetime.now(datetime.timezone.utc))
        today = datetime.datetime.now(datetime.timezone.utc).date()
        self.api.born = (today + datetime.timedelta(days=days + 40)).replace(year=2000)
        done = self.sing()
        self.assertEqual(done.returncode, 1)
        self.assertIn("instead of", done.stderr)

    def test_write_is_not_stored_and_old_birthday_is_today_then_failure(self):
        self.api.forgets = True
        self.api.born = datetime.datetime.now(datetime.timezone.utc).date()
        with self.assertRaisesRegex(OSError, "instead of"):
            canary.write_and_read(self.url, datetime.datetime.fromtimestamp(60 * 100, datetime.timezone.utc))

    def test_never_succeeded_then_zero(self):
        self.api.status = 500
        self.sing()
        self.assertEqual(self.value("canary_last_success_timestamp_seconds"), 0)

    def test_textfile_cannot_be_written_then_another_code(self):
        done = self.sing("/nonexistent/canary.prom")
        self.assertEqual(done.returncode, 2)
        self.assertIn("was not written", done.stderr)
        self.assertTrue(done.stderr.startswith("<3>"), done.stderr)

    def test_day_is_another_one_each_minute(self):
        start = datetime.datetime(2027, 1, 1, tzinfo=datetime.timezone.utc)
        seen = [canary.birthday(start + datetime.timedelta(minutes=minute)) for minute in range(300)]
        self.assertEqual(len({born for _, born in seen}), 300)
        for _, born in seen:
            self.assertNotEqual((born.month, born.day), (2, 29))


if __name__ == "__main__":
    unittest.main()
