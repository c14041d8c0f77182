"""Checks of the infrastructure that need no AWS account: `make test-infra`.

    check.py [--jobs N] [NAME...]     only the checks whose name contains one of NAME

Works on a copy. Prints each check with its time and number of items, and fails if one does. With
`--where-possible`, as in `.ci/run`, a machine without Terraform or its providers skips the checks that need them,
and reports that.
"""

import argparse
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import chart_values
import faults
import infra_script
import inventory
import policies
import ports
import settings
import static
import terraform
from examples import planned
from pipelines import pipelines
from terraform import ROOT, Failed, formatted
from workflow_runs import executed

ROOTS = ("infra-primary", "infra-dr", "infra-bootstrap")


def checks(tree, env):
    """Every check by name, with its number of items. The longest come first."""
    yield "scripts of a deployment", lambda: (static.deployment(), "program of tests")
    yield "checkov", lambda: (static.checkov(tree), "rules passed")
    if env:
        yield from with_providers(tree, env)
    if shutil.which("terraform"):
        yield "terraform fmt", lambda: (formatted(tree), "directories")
    yield "chart", lambda: (static.chart(tree), "chart linted, rendered and validated")
    yield "lifecycles", lambda: (static.lifecycles(tree), "resources")
    yield "roots", lambda: (static.roots(tree), "modules of both roots, with the same arguments")
    yield "reachable inputs", lambda: (static.reachable(tree), "inputs")
    yield "commands", lambda: (static.commands(tree), "pages of documentation")
    yield "policy for the organisation", lambda: (policies.organization(tree), "statements")
    yield "backends", lambda: (static.backends(tree), "of the state")
    yield "hadolint", lambda: (static.hadolint(tree), "Dockerfile")
    yield "image", lambda: (static.image(tree), "Dockerfile")
    yield "actionlint", lambda: (static.actionlint(tree), "workflows")
    yield "zizmor", lambda: (static.zizmor(tree), "workflows")
    yield "pipelines", lambda: (pipelines(tree), "workflows")
    yield "workflow runs", lambda: (executed(tree), "steps executed")
    yield "shellcheck", lambda: (static.shellcheck(), "scripts")
    yield "cost, diagram, inputs", lambda: (static.generated(), "pages up to date")


def with_providers(tree, env):
    """Checks by Terraform itself."""
    tests = {directory: (lambda path=directory: (terraform.test(tree, path, env), "runs passed")) for directory in terraform.configurations(tree)}
    for directory in ROOTS:
        yield f"{directory}: test", tests.pop(directory)
    if "TF_CLI_CONFIG_FILE" in env:  # the real providers would need an account to apply
        yield "scripts/deploy/infra with Terraform", lambda: (infra_script.script(tree, env), "calls, from a plan to a comparison")
    yield "injected faults, a sample", lambda: (faults.sample(env), "faults caught")
    for root in ROOTS:
        for example in sorted((tree / root / "examples").glob("*.tfvars")):
            yield f"{root}: {example.stem}", lambda root=root, example=example.stem: planned(tree, root, example, env)
    for directory, check in tests.items():
        yield f"{directory}: test", check
    yield "chart with the values of Terraform", lambda: (chart_values.check(tree, env), "renderings")
    yield "ports of the roles", lambda: (ports.check(tree, env), "ports, as the security groups admit them")
    yield "dynamic inventory", lambda: (inventory.check(tree, env), "hosts found by their tags")
    yield "settings against docs/examples", lambda: (settings.check(tree, env), "files parsed")


def outcome(check):
    began = time.monotonic()
    try:
        count, what = check()
        return True, f"{count} {what}", time.monotonic() - began, count
    except Failed as failed:
        return False, str(failed), time.monotonic() - began, 0
    except Exception as error:  # a check that crashes has failed
        return False, f"{type(error).__name__}: {error}", time.monotonic() - began, 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--where-possible", action="store_true")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        env, which = terraform.environment()
        print(f"with {which}", flush=True)
    except terraform.NoProviders as missing:
        if not arguments.where_possible:
            sys.exit(f"test-infra: {missing}")
        env = None
        print(f"NOT TESTED: modules, roots, plans and injected faults: {missing}", flush=True)
    except Failed as failed:
        sys.exit(f"test-infra: {failed}")
    failed = runs = 0
    with tempfile.TemporaryDirectory() as scratch:
        tree = terraform.copy(ROOT, Path(scratch))
        terraform.keep(tree)
        chosen = [check for check in checks(tree, env) if not arguments.names or any(name in check[0] for name in arguments.names)]
        with ThreadPoolExecutor(arguments.jobs) as pool:
            waiting = {pool.submit(outcome, check): name for name, check in chosen}
            for done in as_completed(waiting):
                passed, text, took, count = done.result()
                failed += not passed
                runs += count if "run" in text else 0
                print(f"{'ok  ' if passed else 'FAIL'} {took:5.1f} s  {waiting[done]}: {text}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} checks passed, with {runs} runs of terraform test, in {time.monotonic() - began:.0f} s")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
