"""Terraform on a copy of the tree, with the real providers if their registry is reachable."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
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

_init = threading.Lock()
_real = False  # whether the providers are the real ones


class Failed(Exception):
    """A failed check, with its message."""


class NoProviders(Failed):
    """Terraform or its providers are missing."""


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
    """One at a time: the plugin cache is shared."""
    if (tree / directory / ".terraform").exists():
        return
    with _init:
        run("terraform", "init", "-backend=false", "-input=false", "-no-color", cwd=tree / directory, env=env)


def formatted(tree):
    for name in DIRECTORIES:
        run("terraform", "fmt", "-check", "-diff", "-recursive", "-no-color", cwd=tree / name)
    return len(DIRECTORIES)


def validate(tree, directory, env):
    init(tree, directory, env)
    run("terraform", "validate", "-no-color", cwd=tree / directory, env=env)
    return 1


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
        raise Failed("\n".join(explain(message) for message in told if message.get("@level") == "error") or "no test ran")
    return told, summary["passed"]


def explain(message):
    diagnostic = message.get("diagnostic", {})
    where = diagnostic.get("range", {})
    lines = [message.get("@message", ""), diagnostic.get("detail", "")]
    if where:
        lines.append(f"  at {where.get('filename')}:{where.get('start', {}).get('line')}, of {message.get('@testrun', '')}")
    return "\n".join(line for line in lines if line)


def test(tree, directory, env):
    """Runs the tests in tests/."""
    return messages(tree, directory, env)[1]


def plan(tree, directory, example, env):
    """The plan of an example, with mocks only for values of an account, and the number of passed runs."""
    told, passed = messages(tree, directory, env, "-verbose", "-test-directory=tests/examples",
                            f"-var-file=examples/{example}.tfvars")
    return [message["test_plan"] for message in told if message.get("type") == "test_plan"], passed


def offline(root):
    """Makes each provider of a copied root work without an account."""
    aliases = re.findall(r'^provider "aws" \{\n(?:  alias += +"(\w+)"\n)?', (root / "providers.tf").read_text(), re.M)
    blocks = [OFFLINE % (f'  alias                       = "{alias}"\n' if alias else "") for alias in aliases]
    (root / "offline_override.tf").write_text("".join(blocks).lstrip())
