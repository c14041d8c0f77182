"""Known bugs of backup-agent as changes to its source: each reverts the fix of a finding in `docs/guides/look-for-faults.md`."""

from typing import NamedTuple


class Change(NamedTuple):
    """Text that occurs once in a file, and its replacement, in which `MUTANT` is true if the mutant is selected."""

    file: str
    was: str
    becomes: str


class Mutant(NamedTuple):
    name: str
    finding: str
    changes: list
    seeds: tuple = ()  # histories that are known to catch it
    test: str = ""  # a test that catches it, if no history does; without one, other histories are run


def inside(file, place, statement):
    """Returns a change that executes `statement` right after `place` if the mutant is selected."""
    return Change(file, place, f"{place}\nif MUTANT {{ {statement} }}\n")


def without(file, condition):
    """Returns a change that makes a condition false."""
    return Change(file, condition, f"!MUTANT && {condition}")


def always(file, condition):
    """Returns a change that makes a condition true."""
    return Change(file, condition, f"MUTANT || {condition}")
