"""Changes each rule of monitoring/rules in many ways, and reports which changes no promtool test notices: `make test-alert-mutants`.

python monitoring/mutants [--only NAME...] [--list]

A mutant is killed if a test of its alert, or of an alert that uses its recording rule, fails.
"""

import argparse
import collections
import concurrent.futures
import os
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "check"))

import folder
import mutations
from batch import Batch

LEAST_KILLED = 0.95


def tested(declared, rule):
    """Returns a rule's mutants with their verdicts. Without a change, its tests must pass: else every mutant would count as killed."""
    mutants = [mutations.unchanged(rule), *mutations.of(rule)]
    verdicts = Batch(declared, rule, mutants).verdicts()
    if verdicts[0] != "survived":
        raise RuntimeError(f"the tests of `{rule.name}` fail without a mutant: run `make lint-monitoring`")
    return [(rule, mutant, verdict) for mutant, verdict in zip(mutants[1:], verdicts[1:])]


def main():
    parser = argparse.ArgumentParser(prog="alert-mutants")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rules whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    arguments = parser.parse_args()
    declared = folder.load()
    chosen = [rule for rule in declared.rules if not arguments.only or any(part in rule.name for part in arguments.only)]
    if not chosen:
        sys.exit(f"alert-mutants: no rule's name contains {' or '.join(arguments.only)}")
    if arguments.list:
        for rule in chosen:
            for mutant in mutations.of(rule):
                print(f"{rule.name}: {mutant.change}")
        return
    began = time.monotonic()
    results = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda rule: tested(declared, rule), chosen):
            results += found
            for rule, mutant, verdict in found:
                if verdict == "survived":
                    print(f"survived: {rule.name} ({rule.subject}): {mutant.change}", flush=True)
    report(results, time.monotonic() - began)


def report(results, secs):
    """Prints the counts, and fails below the limit."""
    counts = collections.Counter((mutant.kind, verdict) for _, mutant, verdict in results)
    for kind in sorted({mutant.kind for _, mutant, _ in results}):
        killed, survived = counts[kind, "killed"], counts[kind, "survived"]
        print(f"{kind:12} {killed:4} of {killed + survived:4} killed")
    killed = sum(count for (_, verdict), count in counts.items() if verdict == "killed")
    valid = sum(count for (_, verdict), count in counts.items() if verdict != "invalid")
    print(f"alert-mutants: {killed} of {valid} killed ({killed / valid:.1%}), {len(results) - valid} invalid, {secs:.0f} s")
    sys.exit(0 if killed >= LEAST_KILLED * valid else 1)


if __name__ == "__main__":
    main()
