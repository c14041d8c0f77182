"""All mutants of one rule in one run of promtool: each is a copy of the rule under a name of its own, tested as the rule is."""

import re
import subprocess
import tempfile
from pathlib import Path

import promql
import yaml

MARK = "_mutant"
NAMED = re.compile(rf'"?(\w+){MARK}(\d+)\b')


class Batch:
    """The mutants of a rule, with the rules that use it and those that they are computed from."""

    def __init__(self, declared, rule, mutants):
        self.declared, self.rule, self.mutants = declared, rule, mutants
        self.users = self._closure({rule.name}, lambda name, other: name in promql.metrics(other.tree))
        recording = {other.name for other in declared.rules if not other.alert}
        self.inputs = set()
        for other in declared.rules:
            if other.name in self.users:
                self.inputs |= self._inputs(other, recording)
        self.inputs -= self.users

    def _closure(self, names, uses):
        """Returns the names and those of the rules that use any of them, directly or not."""
        grown = names | {other.name for other in self.declared.rules for name in names if uses(name, other)}
        return names if grown == names else self._closure(grown, uses)

    def _inputs(self, rule, recording):
        found = set(promql.metrics(rule.tree)) & recording
        for other in self.declared.rules:
            if other.name in found:
                found |= self._inputs(other, recording)
        return found

    def _copy(self, rule, number, content):
        """Returns a rule under the name of a mutant, which uses the mutant's copies of others."""
        suffix = f"{MARK}{number}"
        copied = {key: value for key, value in content.items() if key != "annotations"}
        key = "alert" if rule.alert else "record"
        copied[key] += suffix
        for name in self.users:
            copied["expr"] = re.sub(rf"(?<![\w:]){re.escape(name)}(?![\w:])", name + suffix, copied["expr"])
        return copied

    def _rules_of(self, content, subject, numbers):
        """Yields what replaces a rule of a file: itself, its copies, or nothing if no test needs it."""
        for other in self.declared.rules:
            if other.subject != subject or other.content != content:
                continue
            if other.name in self.inputs:
                yield content
            if other.name in self.users:
                for number in numbers:
                    changed = self.mutants[number].content if other is self.rule else content
                    yield self._copy(other, number, changed)

    def _write(self, suite, numbers, directory):
        """Writes the rules' files and the tests, and returns the names of the files of rules and of the tests."""
        subjects = [Path(path).stem for path in suite["rule_files"]]
        groups = {}
        for subject in subjects:
            groups[subject] = []
            source = Path(self.declared.directory, f"{subject}.yml").read_text()
            for group in yaml.safe_load(source)["groups"]:
                rules = [rule for content in group["rules"] for rule in self._rules_of(content, subject, numbers)]
                if rules:
                    groups[subject].append({**group, "rules": rules})
            (directory / f"{subject}.yml").write_text(yaml.safe_dump({"groups": groups[subject]}))
        present = {group["name"] for found in groups.values() for group in found}
        content = {**suite, "rule_files": [f"{subject}.yml" for subject in subjects], "tests": []}
        if "group_eval_order" in suite:
            content["group_eval_order"] = [name for name in suite["group_eval_order"] if name in present]
        for case in suite["tests"]:
            tests = [copied for test in case["promql_expr_test"] for copied in self._tests_of(test, numbers)]
            if tests:
                content["tests"].append({**case, "promql_expr_test": tests})
        (directory / "tests.yml").write_text(yaml.safe_dump(content))
        return [str(directory / f"{subject}.yml") for subject in subjects], bool(content["tests"])

    def _tests_of(self, test, numbers):
        """Yields the copies of an expression's test for the mutants, if it concerns them."""
        for name in self.users:
            used = re.compile(rf'(?<=alertname="){name}(?=")|(?<![\w:"]){name}(?![\w:"])')
            if used.search(test["expr"]):
                for number in numbers:
                    changed = lambda text, copy=f"{name}{MARK}{number}", used=used: used.sub(copy, text)
                    samples = [{**sample, "labels": changed(sample["labels"])} for sample in test["exp_samples"]]
                    yield {**test, "expr": changed(test["expr"]), "exp_samples": samples}

    def suites(self):
        """Yields the content of each test file that loads the rule's file."""
        for content in self.declared.tests.values():
            if f"../{self.rule.subject}.yml" in content["rule_files"]:
                yield content

    def verdicts(self):
        """Returns `killed`, `survived`, or `invalid` for what Prometheus does not load, for each mutant."""
        result = ["survived"] * len(self.mutants)
        for suite in self.suites():
            left = [number for number, verdict in enumerate(result) if verdict == "survived"]
            while left:
                with tempfile.TemporaryDirectory(prefix="causeway-mutants-") as name:
                    files, tested = self._write(suite, left, Path(name))
                    if not tested:
                        break
                    loaded = subprocess.run(["promtool", "check", "rules", *files], capture_output=True, text=True, check=False)
                    invalid = self._numbers(loaded) if loaded.returncode else set()
                    failed = set()
                    if not invalid:
                        done = subprocess.run(["promtool", "test", "rules", str(Path(name, "tests.yml"))], capture_output=True, text=True, check=False)
                        failed = self._numbers(done) if done.returncode else set()
                        if done.returncode and not failed:
                            raise RuntimeError(f"promtool test of `{self.rule.name}` failed: {done.stdout}{done.stderr}")
                for number in invalid | failed:
                    result[number] = "invalid" if number in invalid else "killed"
                # An error of one mutant's evaluation ends its test: the others are tested again without it.
                if not invalid and not (failed and "err:" in done.stdout + done.stderr):
                    break
                left = [number for number in left if result[number] == "survived"]
        return result

    @staticmethod
    def _numbers(done):
        return {int(match[2]) for match in NAMED.finditer(done.stdout + done.stderr)}
