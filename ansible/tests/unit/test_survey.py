"""`host_survey` and the agent mean the same by each state of a data directory."""

import os
import struct
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "library"))

import host_survey

CONTROL = struct.pack("=Q", 7) + bytes(192)


class DataDirectory(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.root = Path(place.name)
        self.data, self.wal = self.root / "main", self.root / "wal"
        self.marker, self.first = self.root / "rewinding", self.root / "first-database"

    def survey(self):
        return host_survey.database(str(self.data), str(self.marker), str(self.first))

    def state(self):
        return self.survey()["state"]

    def make(self, control=None, release=None):
        (self.data / "global").mkdir(parents=True)
        if control is not None:
            (self.data / "global/pg_control").write_bytes(control)
        if release:
            (self.data / "PG_VERSION").write_text(f"{release}\n")

    def test_no_directory_then_absent(self):
        self.assertEqual(self.state(), "absent")

    def test_nothing_or_a_link_for_the_wal_then_empty(self):
        self.data.mkdir()
        self.assertEqual(self.state(), "empty")
        (self.data / "pg_wal").symlink_to(self.wal)
        self.assertEqual(self.state(), "empty")
        self.wal.mkdir()
        self.assertEqual(self.state(), "empty")
        self.assertEqual(self.survey()["wal"], str(self.wal))

    def test_wal_behind_the_link_then_foreign(self):
        self.data.mkdir()
        self.wal.mkdir()
        (self.wal / "000000010000000000000001").touch()
        (self.data / "pg_wal").symlink_to(self.wal)
        self.assertEqual(self.state(), "foreign")

    def test_anything_else_then_foreign(self):
        for name in ("lost+found", "pg_wal", "notes"):
            (self.data / name).mkdir(parents=True)
            self.assertEqual(self.state(), "foreign", name)
            (self.data / name).rmdir()

    def test_complete_control_file_then_database(self):
        self.make(CONTROL, "15")
        found = self.survey()
        self.assertEqual((found["state"], found["release"], found["system_id"]), ("database", "15", "7"))

    def test_control_file_is_missing_or_cut_off_then_damaged(self):
        self.make(release="15")
        self.assertEqual(self.state(), "damaged")
        (self.data / "global/pg_control").write_bytes(CONTROL[:-1])
        found = self.survey()
        self.assertEqual((found["state"], found["system_id"]), ("damaged", ""))

    def test_marker_then_rewinding_whatever_is_there(self):
        self.marker.touch()
        self.assertEqual(self.state(), "rewinding")
        self.data.mkdir()
        self.assertEqual(self.state(), "rewinding", "a copy has emptied the directory, and it is not for another to fill")
        self.make(CONTROL, "15")
        self.assertEqual(self.state(), "rewinding")

    def test_marker_or_control_file_cannot_be_read_then_unreadable(self):
        self.make(CONTROL, "15")
        os.symlink(self.marker, self.marker)
        self.assertEqual(self.state(), "unreadable")
        self.marker.unlink()
        control = self.data / "global/pg_control"
        control.unlink()
        control.mkdir()
        self.assertEqual(self.state(), "unreadable")

    def test_first_database_without_its_name_then_unfinished(self):
        self.first.touch()
        self.assertEqual(self.state(), "unfinished")
        self.data.mkdir()
        self.assertEqual(self.state(), "unfinished")
        (self.data / "global").mkdir()
        (self.data / "global/pg_control").write_bytes(CONTROL)
        self.assertEqual(self.state(), "database")


if __name__ == "__main__":
    unittest.main()
