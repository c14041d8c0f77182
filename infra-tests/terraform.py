"""Terraform on a copy of the tree, with the real providers if their registry is reachable."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target/infra-tests"
DIRECTORIES = ("infra-bootstrap", "infra-modules", "infra-primary", "infra-dr")
REGISTRY = ("registry.terraform.io", 443)

# A provider for plans without an account: it has no credentials.
OFFLINE = """
provider "aws" {
%s  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}
"""

# Files of tests whose plans other checks read.
READ = {"infra-dr": "tests/eks.tftest.hcl", "infra-modules/api-eks": "tests/api-eks.tftest.hcl", "infra-modules/settings": "tests/settings.tftest.hcl", "infra-primary": "tests/eks.tftest.hcl"}

# Summaries of diagnostics by which a test or a rule of the configuration judges. Any other says that Terraform could not
# read, or not evaluate, the configuration.
JUDGMENTS = {
    "Check block assertion failed", "Invalid value for variable", "Missing expected failure", "Module output value precondition failed", "Resource postcondition failed",
    "Resource precondition failed", "Test assertion failed",
}

# A block `run` of a formatted file: its name, and its body.
RUN = re.compile(r'^run "(\w+)" \{\n(.*?)^\}\n', re.MULTILINE | re.DOTALL)

_init = threading.Lock()
_initialised = set()
_real = False  # whether the providers are the real ones


class Failed(Exception):
    """A failed check, with its message."""


class NoProviders(Failed):
    """Terraform or its providers are missing."""


class Invalid(Failed):
    """A configuration that Terraform cannot read or evaluate, so that no test judged it."""


class Kept:
    """Results for a tree that does not change: each is computed once, also if two threads need it at the same time."""

    def __init__(self, tree):
        self.tree, self.lock, self.results = tree, threading.Lock(), {}

    def result(self, tree, key, compute):
        if tree != self.tree:
            return compute()
        with self.lock:
            is_first = key not in self.results
            future = self.results.setdefault(key, Future())
        if is_first:
            try:
                future.set_result(compute())
            except Exception as error:  # noqa: BLE001 - raised below, for each that waits
                future.set_exception(error)
        return future.result()


_kept = Kept(None)


def keep(tree):
    """From now on this tree does not change."""
    global _kept
    _kept = Kept(tree)


def run(*command, cwd=None, env=None, quiet=True):
    """Runs a command; returns its output, or raises `Failed` with the end of it."""
    result = subprocess.run([str(word) for word in command], cwd=cwd, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if result.returncode:
        raise Failed(result.stdout[-6000:] or f"{command[0]} ended with {result.returncode}")
    return result.stdout if quiet else None


def environment():
    """The environment in which Terraform finds its providers, and which providers they are."""
    global _real
    if not shutil.which("terraform"):
        raise NoProviders("terraform is not installed: run `scripts/setup infra`")
    env = {key: value for key, value in os.environ.items()
           if not key.startswith(("AWS_", "TF_VAR_")) and key != "TF_CLI_CONFIG_FILE"}
    env |= {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    try:
        socket.create_connection(REGISTRY, timeout=3).close()
        cache = WORK / "plugins"
        cache.mkdir(parents=True, exist_ok=True)
        _real = True
        return env | {"TF_PLUGIN_CACHE_DIR": str(cache), "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE": "1"}, "the real providers"
    except OSError:
        pass
    offline = Path(os.environ.get("CAUSEWAY_TF_OFFLINE") or ROOT.parent / "shared/tools/tf-offline")
    if not (offline / "setup").exists():
        raise NoProviders("no provider registry is reachable, and CAUSEWAY_TF_OFFLINE names no directory with "
                          "stand-ins of the providers: run this where registry.terraform.io is reachable")
    line = subprocess.run([offline / "setup"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip().splitlines()[-1]
    return env | {"TF_CLI_CONFIG_FILE": line.split("=", 1)[1].strip("'")}, "stand-ins of the providers"


def copy(source, target):
    """Copies the tested files; the checkout is never written. Stand-ins have other checksums than the lock files."""
    locks = [] if _real else [".terraform.lock.hcl"]
    ignore = shutil.ignore_patterns(".terraform", *locks, "*.tfstate*", "*_override.tf", "__pycache__")
    for name in (*DIRECTORIES, "ansible", "charts", ".github", "docs/examples", "docs/reference", "scripts/deploy", "scripts/release"):
        if (source / name).exists():
            shutil.copytree(source / name, target / name, ignore=ignore)
    for name in ("Dockerfile", ".dockerignore", ".gitignore"):
        shutil.copy(source / name, target / name)
    for providers in target.glob("*/providers.tf"):
        offline(providers.parent)
    return target


def configurations(tree):
    """Every module and root, by path."""
    return sorted(str(path.parent.relative_to(tree)) for name in DIRECTORIES
                  for path in (tree / name).glob("**/versions.tf") if "tests" not in path.parts)


def init(tree, directory, env):
    """Once for each directory, and one at a time: the plugin cache is shared."""
    with _init:
        if tree / directory not in _initialised:
            run("terraform", "init", "-backend=false", "-input=false", "-no-color", cwd=tree / directory, env=env)
            _initialised.add(tree / directory)


def formatted(tree):
    for name in DIRECTORIES:
        run("terraform", "fmt", "-check", "-diff", "-recursive", "-no-color", cwd=tree / name)
    return len(DIRECTORIES)


def messages(tree, directory, env, *arguments):
    """Output of `terraform test`, as data."""
    init(tree, directory, env)
    result = subprocess.run(["terraform", "test", "-json", *arguments], cwd=tree / directory, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    told = []
    for line in result.stdout.splitlines():
        try:
            told.append(json.loads(line))
        except ValueError:
            told.append({"@level": "error", "@message": line})
    summary = next((message["test_summary"] for message in told if message.get("type") == "test_summary"), {})
    if result.returncode or summary.get("status") != "pass" or not summary["passed"]:
        errors = [message for message in told if message.get("@level") == "error"]
        judged = all(error["diagnostic"]["summary"] in JUDGMENTS for error in errors if "diagnostic" in error)
        raise (Failed if judged and summary else Invalid)("\n".join(map(explain, errors)) or "no test ran")
    return told, summary["passed"]


def explain(message):
    diagnostic = message.get("diagnostic", {})
    where = diagnostic.get("range", {})
    lines = [message.get("@message", ""), diagnostic.get("detail", "")]
    if where:
        lines.append(f"  at {where.get('filename')}:{where.get('start', {}).get('line')}, of {message.get('@testrun', '')}")
    return "\n".join(line for line in lines if line)


def test(tree, directory, env):
    """Runs the tests in tests/, of which each validates the whole configuration first; returns the number of passed runs."""
    files = {str(path.relative_to(tree / directory)) for path in (tree / directory / "tests").glob("*.tftest.hcl")} - {READ.get(directory)}
    passed = messages(tree, directory, env, *(f"-filter={file}" for file in sorted(files)))[1] if files else 0
    return passed + (tested(tree, directory, env)[1] if directory in READ else 0)


def test_run(tree, directory, name, env):
    """Runs one `run` of the tests in tests/ alone, with the variables and mocks of its file."""
    files = [path for path in sorted((tree / directory / "tests").glob("*.tftest.hcl")) if name in dict(RUN.findall(path.read_text()))]
    if len(files) != 1:
        raise Failed(f"{directory}/tests has {len(files)} runs `{name}`: name one")
    alone = tree / directory / "tests/alone"
    alone.mkdir(exist_ok=True)
    (alone / "alone.tftest.hcl").write_text(RUN.sub(lambda run: run[0] if run[1] == name else "", files[0].read_text()))
    return messages(tree, directory, env, "-test-directory=tests/alone")[1]


def plans(told):
    """The plan of each run, by its name."""
    return {message["@testrun"]: message["test_plan"] for message in told if message.get("type") == "test_plan"}


def tested(tree, directory, env):
    """Runs the tests whose plans other checks read; returns the plan of each run, and the number of passed runs."""
    def run_tests():
        told, passed = messages(tree, directory, env, "-verbose", f"-filter={READ[directory]}")
        return plans(told), passed

    return _kept.result(tree, directory, run_tests)


def plan(tree, directory, example, env):
    """The plan of an example, with mocks only for values of an account."""
    def planned():
        told, _ = messages(tree, directory, env, "-verbose", "-test-directory=tests/examples", f"-var-file=examples/{example}.tfvars")
        return plans(told)["planned"]

    return _kept.result(tree, (directory, example), planned)


def offline(root):
    """Makes each provider of a copied root work without an account."""
    aliases = re.findall(r'^provider "aws" \{\n(?:  alias += +"(\w+)"\n)?', (root / "providers.tf").read_text(), re.M)
    blocks = [OFFLINE % (f'  alias                       = "{alias}"\n' if alias else "") for alias in aliases]
    (root / "offline_override.tf").write_text("".join(blocks).lstrip())
