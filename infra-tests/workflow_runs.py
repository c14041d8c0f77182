"""Executes the workflows: every `run` of every job, in GitHub's order, with the repository's own scripts.

GitHub is simulated: events, `needs`, `if`, matrices, reusable workflows, artifacts, outputs, and the variables of the
repository and of its environments, which are those that infra-bootstrap prints. Commands that reach something else
(aws, terraform, docker, gh and the like) are stand-ins that fail where the real ones would fail for a missing file, target
or argument. Expressions are evaluated for the part of their language that the workflows use.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from static import workflows
from terraform import ROOT, Failed

# Ends a command that hangs. One that is only slow, on a busy machine, must pass.
HANG_SECS = 900
STAND_INS = Path(__file__).resolve().parent / "workflow_stand_ins.py"
COMMANDS = ("aws", "docker", "gh", "git", "helm", "make", "pipx", "python3", "rustup", "session-manager-plugin", "terraform")
# Files of the repository that the workflows' scripts read, beside those of the tested copy.
READ = ("Makefile", "LICENSE", "CHANGELOG.md", "api/roles.sql", "scripts/setup")


def variables(environments):
    """Variables as `github_variables` of infra-bootstrap prints them: of the repository, and of each GitHub environment."""
    repository = {
        "PROJECT": "causeway", "ENVIRONMENTS": json.dumps(environments), "PRIMARY_REGION": "eu-west-1", "DR_REGION": "eu-central-1",
        "STATE_BUCKET": "state", "STATE_REGION": "eu-north-1", "STATE_KMS_KEY": "key", "PLAN_ROLE": "plan", "DRIFT_ROLE": "drift",
        "IMAGE_REPOSITORY": "1.dkr.ecr.eu-west-1.amazonaws.com/causeway/api", "IMAGE_CACHE": "1.dkr.ecr.eu-west-1.amazonaws.com/causeway-cache",
    }
    own = {"release": {"PUSH_ROLE": "push"}, "restore-drill": {"DRILL_ROLE": "drill"}}
    for name in environments:
        own |= {name: {"DEPLOY_ROLE": f"deploy-{name}"}, f"{name}-infra": {"APPLY_ROLE": f"apply-{name}"}, f"{name}-hosts": {"OPERATE_ROLE": f"operate-{name}"}}
    return repository, own


def printed(tree):
    """Names of the variables in infra-bootstrap's output, so that the simulated ones are no others."""
    text = (tree / "infra-bootstrap/outputs.tf").read_text()
    return set(re.findall(r"\b([A-Z][A-Z_]+) += ", text)), set(re.findall(r'\{ ([A-Z_]+_ROLE) =', text))


class Context:
    """A context of expressions; a missing key is an empty string, as at GitHub."""

    def __init__(self, values):
        self.values = values

    def __getattr__(self, name):
        value = self.values.get(name, "")
        return Context(value) if isinstance(value, dict) else value


class Items(list):
    """A list whose missing items are null."""

    def __getitem__(self, index):
        return super().__getitem__(index) if index < len(self) else None


def evaluate(expression, contexts, checkout=None):
    code = expression.replace("&&", " and ").replace("||", " or ")
    code = re.sub(r"!(?!=)", " not ", code)
    names = {name: Context(values) for name, values in contexts.items()} | {
        "true": True, "false": False, "null": None, "cancelled": lambda: False, "success": lambda: True,
        "fromJSON": lambda text: Items(json.loads(text)), "hashFiles": lambda *patterns: "hash" if checkout and any(any(checkout.glob(pattern)) for pattern in patterns) else "",
    }
    try:
        return eval(code.strip(), {"__builtins__": {}}, names)
    except SyntaxError:
        raise Failed(f"the expression `{expression}` is not simulated: extend infra-tests/workflow_runs.py") from None


def filled(value, contexts, checkout=None):
    """A value with its expressions evaluated."""
    if isinstance(value, dict):
        return {key: filled(inner, contexts, checkout) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, contexts, checkout) for inner in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\$\{\{(.*)\}\}", value.strip())
    if whole and "${{" not in whole[1]:
        return evaluate(whole[1].strip(), contexts, checkout)
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: text_of(evaluate(found[1].strip(), contexts, checkout)), value)


def text_of(value):
    return {True: "true", False: "false", None: ""}.get(value, str(value)) if isinstance(value, (bool, type(None))) else str(value)


def condition(value, contexts, checkout=None):
    if value is None:
        return True
    expression = re.sub(r"^\$\{\{|\}\}$", "", str(value).strip())
    return bool(evaluate(expression, contexts, checkout))


class Run:
    """One run of a workflow."""

    def __init__(self, tree, scratch, environments, event, answers=None):
        self.tree, self.scratch = tree, scratch
        self.repository_variables, self.own_variables = variables(environments)
        self.github = {
            "event_name": event, "ref": "refs/heads/main", "ref_name": "v1.4.0" if event == "tag" else "main", "repository": "Octo-Org/octo-repo", "actor": "octocat",
            "workflow": "simulated", "token": "token", "event": {"pull_request": {"head": {"repo": {"full_name": "Octo-Org/octo-repo"}}}},
        }
        if event == "pull_request":
            self.github["ref"] = "refs/pull/1/merge"
        self.environments = environments
        self.answers = answers or {}
        self.artifacts = {}
        self.steps = set()  # executed: workflow, job, number
        self.roles = []
        self.log = scratch / "calls"
        self.log.touch()
        self.count = itertools.count()
        self.bin = scratch / "bin"
        self.bin.mkdir()
        for command in COMMANDS:
            path = self.bin / command
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{STAND_INS}" {command} "$@"\n')
            path.chmod(0o755)

    def calls(self, command=""):
        return [line for line in self.log.read_text().splitlines() if line.startswith(command)]

    def workflow(self, name, inputs=None):
        """Runs a workflow's jobs; returns the result of each."""
        said = yaml.safe_load((self.tree / ".github/workflows" / name).read_text())
        declared = (said[True].get("workflow_call") or said[True].get("workflow_dispatch") or {}).get("inputs", {}) if isinstance(said[True], dict) else {}
        given = {key: spec.get("default", "") for key, spec in (declared or {}).items()} | (inputs or {})
        unknown = set(given) - set(declared or {})
        missing = [key for key, spec in (declared or {}).items() if spec.get("required") and key not in (inputs or {})]
        if unknown or missing:
            raise Failed(f"{name}: inputs {sorted(unknown)} are unknown, {missing} are missing")
        results, waiting = {}, dict(said["jobs"])
        while waiting:
            ready = [label for label, job in waiting.items() if all(needed in results for needed in needs(job))]
            if not ready:
                raise Failed(f"{name}: jobs wait for each other: {sorted(waiting)}")
            for label in ready:
                results[label] = self.job(name, said, label, waiting.pop(label), given, results)
        return results

    def job(self, name, said, label, job, inputs, results):
        before = [results[needed] for needed in needs(job)]
        always = "cancelled()" in str(job.get("if"))
        if not always and any(result["result"] != "success" for result in before):
            return {"result": "skipped", "outputs": {}}
        contexts = {
            "github": self.github, "inputs": inputs, "vars": self.repository_variables, "needs": {needed: results[needed] for needed in needs(job)},
        }
        if not condition(job.get("if"), contexts):
            return {"result": "skipped", "outputs": {}}
        outputs = {}
        for cell in cells(filled(job.get("strategy", {}).get("matrix", {}), contexts)):
            inner = contexts | {"matrix": cell}
            where = f"{name}, {label}{' ' + str(cell) if cell else ''}"
            if "uses" in job:
                self.workflow(Path(job["uses"]).name, {key: text_of(value) for key, value in filled(job.get("with", {}), inner).items()})
                continue
            place = filled(job.get("environment"), inner)
            if place and place not in self.own_variables:
                raise Failed(f"{where}: there is no GitHub environment {place}: infra-bootstrap prints variables for {sorted(self.own_variables)}")
            inner["vars"] = self.repository_variables | self.own_variables.get(place, {})
            outputs = self.cell(where, (name, label), said, job, inner)
        return {"result": "success", "outputs": outputs}

    def cell(self, where, key, said, job, contexts):
        checkout = self.scratch / f"checkout-{next(self.count)}"
        checkout.mkdir()
        contexts = contexts | {"steps": {}}
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.scratch), "CALLS": str(self.log), "STATE": str(self.scratch / "state"), "CI": "true"}
        environment |= self.answers
        for level in (said, job):
            environment |= {name: text_of(value) for name, value in filled(level.get("env", {}), contexts).items()}
        for number, step in enumerate(job["steps"]):
            if not condition(step.get("if"), contexts, checkout):
                continue
            name = f"{where}, step {step.get('name') or step.get('uses') or step.get('run', '').splitlines()[0]}"
            with_ = filled(step.get("with", {}), contexts, checkout)
            if "run" in step:
                contexts["steps"][step.get("id", number)] = {"outputs": self.execute(name, step, contexts, environment, checkout)}
                self.steps.add((*key, number))
            else:
                environment |= self.action(name, step["uses"].partition("@")[0], with_, checkout)
        shutil.rmtree(checkout)
        return filled(job.get("outputs", {}), contexts)

    def execute(self, name, step, contexts, environment, checkout):
        outputs = self.scratch / "outputs"
        outputs.write_text("")
        own = {key: text_of(value) for key, value in filled(step.get("env", {}), contexts, checkout).items()}
        result = subprocess.run(
            ["bash", "-e", "-c", filled(step["run"], contexts, checkout)], cwd=checkout, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            env=environment | own | {"GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(self.scratch / "summary"), "DEPLOY_POLL": "0.01"}, timeout=HANG_SECS)
        if result.returncode:
            raise Failed(f"{name}: ended with {result.returncode}: {result.stdout[-2000:]}")
        return dict(line.split("=", 1) for line in outputs.read_text().splitlines())

    def action(self, name, uses, with_, checkout):
        """Effect of an action; returns the variables that it sets."""
        match uses:
            case "actions/checkout":
                self.check_out(checkout)
            case "aws-actions/configure-aws-credentials":
                role = with_.get("role-to-assume")
                if not role or not with_.get("aws-region"):
                    raise Failed(f"{name}: no role or no region: {with_}. Which variables does this job's GitHub environment have?")
                self.roles.append(role)
                return {"AWS_REGION": with_["aws-region"], "AWS_DEFAULT_REGION": with_["aws-region"], "ROLE": role}
            case "actions/upload-artifact":
                files = sorted(path for path in checkout.glob(f"{with_['path'].rstrip('/')}"))
                if not files:
                    raise Failed(f"{name}: there is no file at {with_['path']}")
                if with_["name"] in self.artifacts:
                    raise Failed(f"{name}: the run has an artifact {with_['name']} already, and GitHub refuses a second")
                kept = self.artifacts[with_["name"]] = self.scratch / f"artifact-{next(self.count)}"
                kept.mkdir()
                for path in files:
                    shutil.copytree(path, kept, dirs_exist_ok=True) if path.is_dir() else shutil.copy(path, kept)
            case "actions/download-artifact":
                pattern = re.escape(with_["name"]) if "name" in with_ else with_.get("pattern", "*").replace("*", ".*")
                found = [artifact for artifact in self.artifacts if re.fullmatch(pattern, artifact)]
                if not found:
                    raise Failed(f"{name}: there is no artifact {with_}")
                for artifact in found:
                    alone = "name" in with_ or with_.get("merge-multiple")
                    shutil.copytree(self.artifacts[artifact], checkout / with_.get("path", ".") / ("." if alone else artifact), dirs_exist_ok=True)
            case "hashicorp/setup-terraform" | "actions/cache" | "actions/attest":
                pass
            case _:
                raise Failed(f"{name}: {uses} is not simulated: add it to infra-tests/workflow_runs.py")
        return {}

    def check_out(self, checkout):
        """The repository, with what an operator adds to it: variables, lock files and inventories."""
        shutil.copytree(self.tree, checkout, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".terraform", "offline_override.tf"))
        for file in READ:
            (checkout / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, checkout / file)
        for root in ("infra-primary", "infra-dr"):
            (checkout / root / ".terraform.lock.hcl").touch()
            (checkout / root / "environments").mkdir(exist_ok=True)
            for environment in self.environments:
                shutil.copy(checkout / root / "examples/production.tfvars", checkout / root / f"environments/{environment}.tfvars")
        # An operator's inventory of each environment, and the playbooks, as long as a commit lacks them.
        for environment in self.environments:
            shutil.copytree(checkout / "ansible/inventories/example", checkout / f"ansible/inventories/{environment}", dirs_exist_ok=True)
        for playbook in PLAYBOOKS:
            (checkout / f"ansible/{playbook}.yml").touch()


def needs(job):
    value = job.get("needs", [])
    return [value] if isinstance(value, str) else value


def cells(matrix):
    """The combinations of a matrix."""
    include = matrix.get("include", [])
    axes = {name: values for name, values in matrix.items() if name != "include"}
    if not axes:
        return include or [{}]
    return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


def applied(run):
    """Environment and root of each `terraform apply`, in order."""
    return [re.search(r"apply of (\S+)", line)[1] for line in run.calls("terraform") if "apply of" in line]


def documents(tree):
    """Actions that each policy document of infra-bootstrap lists in its Allow statements, by its name."""
    found = {}
    for path in sorted((tree / "infra-bootstrap").glob("*.tf")):
        for name, body in re.findall(r'^data "aws_iam_policy_document" "(\w+)" \{\n(.*?)^\}', path.read_text(), re.M | re.S):
            allowed = [statement for statement in re.split(r"^  (?:dynamic \")?statement", body, flags=re.M) if '"Deny"' not in statement]
            found[name] = set(re.findall(r'"([a-z0-9-]+:[A-Za-z*]+)"', "".join(allowed)))
    return found


def granted(run, policies):
    """The role of each AWS call of the scripts has its action."""
    for line in sorted(set(run.calls("call by "))):
        role, action = re.fullmatch(r"call by (\S+) of (\S+)", line).groups()
        document = role.partition("-")[0]
        if action not in policies.get(document, ()):
            raise Failed(f"the role {role} calls {action}, which infra-bootstrap does not grant it")


def expect(what, found, wanted):
    if found != wanted:
        raise Failed(f"{what}: {found}, expected {wanted}")


BOTH = ["staging", "production"]
PLAYBOOKS = ("failover", "preflight", "site")
# Workflow, event, environments, inputs.
EVENTS = (
    ("pull-request.yml", "pull_request", BOTH, {}),
    ("pull-request.yml", "push", BOTH, {}),
    ("infrastructure.yml", "pull_request", BOTH, {}),
    ("infrastructure.yml", "push", BOTH, {}),
    ("infrastructure.yml", "push", ["production"], {}),
    ("drift.yml", "schedule", BOTH, {}),
    ("drift.yml", "schedule", ["production"], {}),
    ("nightly.yml", "schedule", BOTH, {}),
    ("restore-drill.yml", "schedule", BOTH, {}),
    ("restore-drill.yml", "schedule", ["test"], {}),
    ("release.yml", "tag", BOTH, {}),
    ("deploy.yml", "workflow_dispatch", BOTH, {"version": "1.4.0"}),
    ("deploy.yml", "workflow_dispatch", ["test"], {"version": "1.4.0"}),
    ("ansible.yml", "workflow_dispatch", BOTH, {"playbook": "preflight", "environment": "production", "check": True}),
    ("ansible.yml", "workflow_dispatch", ["test"], {"playbook": "site", "environment": "test", "check": False}),
    ("ansible.yml", "workflow_dispatch", ["test"], {"playbook": "failover", "environment": "test", "check": False, "without": "eu-west-1", "limit": "eu_central_1", "set": "to=eu-central-1;accept_loss=4MiB"}),
)


def outcomes(name, event, environments, run):
    """What a run must have done, beyond succeeding."""
    if name == "infrastructure.yml":
        each = [[f"{environment}/{root}" for root in ("primary", "dr", "primary")] for environment in environments]
        expect(f"{name} on {event} applies", applied(run), [] if event == "pull_request" else sum(each, []))
        wanted = {"plan"} if event == "pull_request" else {"drift", *(f"apply-{environment}" for environment in environments)}
        expect(f"{name} on {event} assumes", set(run.roles), wanted)
    if name == "deploy.yml":
        expect(f"{name} assumes", run.roles, [f"deploy-{environment}" for environment in environments])
        updates = [re.search(r"--cluster (\S+)", line)[1] for line in run.calls("aws ecs update-service")]
        expect(f"{name} updates", updates, [f"causeway-{environment}-api" for environment in environments for _ in range(2)])
    if name == "release.yml":
        expect(f"{name} assumes", run.roles, ["push"])
        expect(f"{name} pushes the chart", [line for line in run.calls("helm push")], ["helm push target/chart/api-1.4.0.tgz oci://ghcr.io/octo-org/octo-repo/charts"])
        expect(f"{name} publishes the chart", [line.split().count("api-1.4.0.tgz") for line in run.calls("gh release create")], [1])
    if name == "restore-drill.yml":
        expect(f"{name} reads", [f"/causeway-{environments[-1]}/dr/restore-drill" in line for line in run.calls("aws ssm get-parameter")], [True])
        expect(f"{name} starts and stops the host", [line.split()[2] for line in run.calls("aws ec2") if "describe" not in line], ["start-instances", "stop-instances"])
    if name == "ansible.yml":
        call = run.calls("ansible-playbook")[0]
        expect(f"{name} runs in check mode", "--check" in call, "preflight" in call)
        lost = "failover" in call
        expect(f"{name} leaves out the lost region", (lost, "/eu-west-1.aws_ec2.yml" in call, "/eu-central-1.aws_ec2.yml" in call), (lost, False, lost))
        expect(f"{name} hands over variables", '--extra-vars {"to":"eu-central-1","accept_loss":"4MiB"}' in call and "--limit=eu_central_1" in call, lost)


def executed(tree, only=None):
    """Runs each workflow, or one of them, for its events; returns the number of executed steps."""
    repository, own = printed(tree)
    simulated, roles = variables(BOTH)
    expect("variables that infra-bootstrap prints", repository - own, set(simulated))
    expect("roles that infra-bootstrap prints", own, {name for values in roles.values() for name in values})
    done, policies = set(), documents(tree)
    for name, event, environments, inputs in EVENTS:
        if only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            run = Run(tree, Path(scratch), environments, event)
            run.workflow(name, inputs)
            outcomes(name, event, environments, run)
            granted(run, policies)
            done |= run.steps
    everything = {(path.name, label, number) for path in workflows(tree) for label, job in yaml.safe_load(path.read_text())["jobs"].items()
                  for number, step in enumerate(job.get("steps", [])) if "run" in step}
    if everything - done and not only:
        raise Failed(f"never executed: {sorted(everything - done)}: add an event to infra-tests/workflow_runs.py")
    return len(done)
