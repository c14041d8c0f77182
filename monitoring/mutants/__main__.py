"""Changes each rule of monitoring/rules in many ways, and reports which changes no promtool test notices: `make test-alert-mutants`.

python monitoring/mutants [--only NAME...] [--list]

A mutant is killed if a test of its alert, or of an alert that uses its recording rule, fails.
"""

import argparse
import collections
import concurrent.futures
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "check"))

import folder
import mutations
import promql
import yaml

RULES = folder.ROOT / "monitoring/rules"
LEAST_KILLED = 0.95


def users(declared, name):
    """Returns the rules that use a rule, itself among them."""
    found, grown = set(), {name}
    while grown != found:
        found = set(grown)
        grown |= {rule.name for rule in declared.rules if set(promql.metrics(rule.tree)) & found}
    return found


def needed(declared, names):
    """Returns the rules that rules of these names are computed from, and these."""
    found, grown = set(), set(names)
    while grown != found:
        found = set(grown)
        for rule in declared.rules:
            if rule.name in found:
                grown |= set(promql.metrics(rule.tree)) & {other.name for other in declared.rules if not other.alert}
    return found


def suites(declared, rule):
    """Yields the tests that concern a rule: their file, and its content without other tests."""
    names = users(declared, rule.name)
    for stem, content in declared.tests.items():
        used = {f"../{other.subject}.yml" for other in declared.rules if other.name == rule.name}
        if not used & set(content["rule_files"]):
            continue
        tests = [test for test in content["tests"] if any(f'alertname="{name}"' in str(test["promql_expr_test"]) for name in names)]
        if tests:
            yield stem, {**content, "tests": tests}


def write(declared, rule, mutant, suite, directory):
    """Writes the rules with the mutant, and the tests, into a directory. Only what the tests need is evaluated."""
    wanted = needed(declared, users(declared, rule.name))
    subjects = [Path(path).stem for path in suite["rule_files"]]
    for subject in subjects:
        groups = yaml.safe_load((RULES / f"{subject}.yml").read_text())["groups"]
        for group in groups:
            group["rules"] = [
                mutant.content if content == rule.content else content
                for content in group["rules"]
                if (content.get("alert") or content["record"]) in wanted
            ]
        (directory / f"{subject}.yml").write_text(yaml.safe_dump({"groups": [group for group in groups if group["rules"]]}))
    suite = {**suite, "rule_files": [f"{subject}.yml" for subject in subjects]}
    if "group_eval_order" in suite:
        present = {group["name"] for subject in subjects for group in yaml.safe_load((directory / f"{subject}.yml").read_text())["groups"]}
        suite["group_eval_order"] = [name for name in suite["group_eval_order"] if name in present]
    path = directory / "tests.yml"
    path.write_text(yaml.safe_dump(suite))
    return path


def verdict(declared, rule, mutant):
    """Returns `killed`, `survived`, or `invalid` for what Prometheus does not load."""
    for stem, suite in suites(declared, rule):
        with tempfile.TemporaryDirectory(prefix=f"causeway-mutant-{stem}-") as name:
            path = write(declared, rule, mutant, suite, Path(name))
            done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        if "parse error" in output or "could not parse" in output:
            return "invalid"
        if done.returncode:
            return "killed"
    return "survived"


def require_passing(rules, results):
    """Fails if the tests of a rule fail without a mutant: every mutant would count as killed."""
    for rule, result in zip(rules, results):
        if result != "survived":
            sys.exit(f"alert-mutants: the tests of `{rule.name}` fail without a mutant: run `make lint-monitoring`")


def main():
    parser = argparse.ArgumentParser(prog="alert-mutants")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rules whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    arguments = parser.parse_args()
    declared = folder.load()
    chosen = [rule for rule in declared.rules if not arguments.only or any(part in rule.name for part in arguments.only)]
    mutants = [(rule, mutant) for rule in chosen for mutant in mutations.of(rule)]
    if not mutants:
        sys.exit(f"alert-mutants: no rule's name contains {' or '.join(arguments.only)}")
    if arguments.list:
        for rule, mutant in mutants:
            print(f"{rule.name}: {mutant.change}")
        return
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        require_passing(chosen, pool.map(lambda rule: verdict(declared, rule, mutations.unchanged(rule)), chosen))
        results = list(pool.map(lambda pair: verdict(declared, *pair), mutants))
    report(mutants, results, time.monotonic() - began)


def report(mutants, results, secs):
    """Prints the survivors and the counts, and fails below the limit."""
    counts = collections.Counter()
    for (rule, mutant), result in zip(mutants, results):
        counts[mutant.kind, result] += 1
        if result == "survived":
            print(f"survived: {rule.name}: {mutant.change}")
    kinds = sorted({mutant.kind for _, mutant in mutants})
    for kind in kinds:
        killed, survived = counts[kind, "killed"], counts[kind, "survived"]
        print(f"{kind:12} {killed:4} of {killed + survived:4} killed")
    killed = sum(count for (_, result), count in counts.items() if result == "killed")
    valid = sum(count for (_, result), count in counts.items() if result != "invalid")
    print(f"alert-mutants: {killed} of {valid} killed ({killed / valid:.1%}), {len(results) - valid} invalid, {secs:.0f} s")
    sys.exit(0 if killed >= LEAST_KILLED * valid else 1)


if __name__ == "__main__":
    main()
