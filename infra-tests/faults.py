"""Mutation testing of the checks: injects one fault of each kind into a copy, which a check must catch: `make test-infra-faults`.

    faults.py [--from N] [--sample N --seed S] [NAME...]     only the faults whose kind contains one of NAME

Each fault of fault_table.py names the part of a check that must catch it, so that only this part runs, and a pattern of the message
that names the fault. These fail: an uncaught fault; one that another message reports, or that Terraform cannot read or evaluate (but
for those of `invalid`); one whose text is no longer in its file; and one whose check fails on the copy as it was.
"""

import argparse
import random
import re
import sys
import tempfile
import time
from pathlib import Path

import chart_values
import inventory
import policies
import ports
import settings
import static
import terraform
from examples import planned
from fault_table import FAULTS
from pipelines import pipelines
from terraform import ROOT, Failed, Invalid
from workflow_runs import executed

# Of `make test-infra`. They are in one plan together, so that the pattern of each must match lines of its own.
SAMPLE = {"open security group", "wrong port", "public database", "unencrypted volume", "`*` action", "missing tag"}


def judged(by, tree, env):
    """The message of a check, or of the part of it that `by` names; an empty string if it passes."""
    name, _, argument = by.partition(" ")
    first, _, second = argument.partition(" ")
    try:
        match name:
            case "plan":
                planned(tree, first or "infra-primary", second or "production", env)
            case "test":
                terraform.test_run(tree, first, second, env)
            case "invalid":
                try:
                    terraform.test_run(tree, first, second, env)
                except Invalid as invalid:
                    return str(invalid)
            case "values":
                chart_values.check(tree, env)
            case "inventory":
                inventory.check(tree, env)
            case "ports":
                ports.check(tree, env, [argument])
            case "settings":
                settings.check(tree, env)
            case "fmt":
                terraform.formatted(tree)
            case "pipelines":
                pipelines(tree)
            case "organization":
                policies.organization(tree)
            case "executed":
                executed(tree, first)
            case "checkov":
                static.checkov(tree, first, second.split())
            case _:
                getattr(static, name)(tree)
    except Invalid:
        raise
    except Failed as failed:
        return str(failed)
    return ""


class Bench:
    """A copy of the tree, in which faults are injected one after the other."""

    def __init__(self, scratch, env):
        self.tree, self.env = terraform.copy(ROOT, Path(scratch)), env
        self.passed = set()  # checks that passed without a fault

    def control(self, by):
        """A check that fails without a fault would catch any."""
        if by in self.passed:
            return
        try:
            said = judged(by, self.tree, self.env)
        except Invalid as invalid:
            said = str(invalid)
        if said:
            raise Failed(f"NOT INJECTED: `{by}` fails without a fault: {said[:600]}")
        self.passed.add(by)

    def plant(self, fault):
        """Changes the first occurrence; returns the file and its original text."""
        path = self.tree / fault.file
        text = path.read_text()
        changed = text.replace(fault.was, fault.becomes, 1) if fault.was in text else re.sub(fault.was, fault.becomes, text, count=1)
        if changed == text:
            raise Failed(f"NOT INJECTED: {fault.file} no longer contains its text: change infra-tests/fault_table.py")
        path.write_text(changed)
        return path, text

    def said(self, faults):
        """The message of their check with these faults, which have the same one."""
        originals = []
        try:
            for fault in faults:
                originals.append(self.plant(fault))
            return judged(faults[0].by, self.tree, self.env)
        finally:
            for path, text in reversed(originals):
                path.write_text(text)

    def catch(self, fault):
        """Fails if the check does not report this fault, and only with it."""
        self.control(fault.by)
        try:
            said = self.said([fault])
        except Invalid as invalid:
            raise Failed(f"NOT CAUGHT: Terraform cannot read or evaluate the configuration, so that no test judged it: {str(invalid)[:600]}") from None
        if not re.search(fault.says, said, re.DOTALL):
            raise Failed(f"NOT CAUGHT: {said[:600] or 'the check passed'}")


def together(chosen, env):
    """Injects faults of one check at the same time; fails if one is missed, or if two match the same line of the message."""
    with tempfile.TemporaryDirectory() as scratch:
        lines = Bench(scratch, env).said(chosen).splitlines()
    of = {fault.kind: [line for line in lines if re.search(fault.says, line)] for fault in chosen}
    missed = [kind for kind, own in of.items() if not own]
    shared = [line for line in lines if sum(line in own for own in of.values()) > 1]
    if missed or shared:
        raise Failed(f"not caught: {missed}; ambiguous: {shared}; the check says: {lines}")
    return len(chosen)


def sample(env):
    """A sample of the costliest faults, for `make test-infra`: all in one plan, which passes there without them."""
    chosen = [fault for fault in FAULTS if fault.kind in SAMPLE]
    if len(chosen) != len(SAMPLE) or {fault.by for fault in chosen} != {"plan"}:
        raise Failed("SAMPLE of faults.py names faults of one plan, by their kinds")
    return together(chosen, env)


def picked(arguments):
    """The chosen faults, by their number in the table."""
    numbered = [(number, fault) for number, fault in enumerate(FAULTS) if number >= arguments.first]
    numbered = [(number, fault) for number, fault in numbered if not arguments.names or any(name in fault.kind for name in arguments.names)]
    if arguments.sample is None:
        return numbered
    return sorted(random.Random(arguments.seed).sample(numbered, min(arguments.sample, len(numbered))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="N", help="number of the first fault in the table")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many faults, by --seed")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        env, which = terraform.environment()
    except Failed as failed:
        sys.exit(f"test-infra-faults: {failed}")
    chosen, failures = picked(arguments), 0
    print(f"{len(chosen)} of {len(FAULTS)} faults, with {which}\n\n| number | fault | caught by | seconds | |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(scratch, env)
        for number, fault in chosen:
            since, result = time.monotonic(), "caught"
            try:
                bench.catch(fault)
            except Failed as failed:
                failures, result = failures + 1, str(failed)
            print(f"| {number} | {fault.kind} | {fault.by} | {time.monotonic() - since:.0f} | {result} |", flush=True)
    print(f"\n{len(chosen) - failures} of {len(chosen)} faults caught, in {time.monotonic() - began:.0f} s")
    return 1 if failures or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
