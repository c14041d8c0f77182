"""Known faults of backup-agent, as changes of its source: each finding of `docs/guides/look-for-faults.md` put back."""

from typing import NamedTuple


class Change(NamedTuple):
    """A text that stands once in a file, and what stands there instead; `MUTANT` in it says whether the mutant is chosen."""

    file: str
    was: str
    becomes: str


class Mutant(NamedTuple):
    name: str
    finding: str
    changes: list
    seeds: tuple = ()  # histories that are known to catch it
    test: str = ""  # a test that does, where none of them did; without one, other histories are played


def inside(file, place, statement):
    """A change that executes `statement` right after `place` if the mutant is chosen."""
    return Change(file, place, f"{place}\nif MUTANT {{ {statement} }}\n")


def without(file, condition):
    """A change that makes a condition false."""
    return Change(file, condition, f"!MUTANT && {condition}")


def always(file, condition):
    """A change that makes a condition true."""
    return Change(file, condition, f"MUTANT || {condition}")
