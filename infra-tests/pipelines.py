"""Properties of the pipelines that no linter checks: which job takes which role, what waits for what, and that a
failure is one."""

import re

import yaml

from policies import listed
from static import workflows
from terraform import Failed

# Roles that change something, and the only GitHub environment in which a job has them. The trust policies of
# infra-bootstrap name the same.
ACTING = {
    "APPLY_ROLE": "${{ inputs.environment }}-infra", "DEPLOY_ROLE": "${{ inputs.environment }}", "DRILL_ROLE": "restore-drill",
    "OPERATE_ROLE": "${{ inputs.environment }}-hosts", "PUSH_ROLE": "release",
}
FIRST, SECOND = ("${{ fromJSON(vars.ENVIRONMENTS)[%d] }}" % number for number in range(2))
# What may be written besides a token for AWS, and by which job.
WRITES = {("release.yml", "image", "attestations"), ("release.yml", "chart", "attestations"), ("release.yml", "chart", "packages"), ("release.yml", "publish", "attestations"), ("release.yml", "publish", "contents"), ("drift.yml", "report", "issues")}
# What has to be there, as it is written.
STEPS = {
    "pull-request.yml": ["target: [check, test, test-infra, advisories]", 'run: make "$TARGET"\n'],
    "infrastructure.yml": ['infra plan --root "$ROOT"'],
    "infrastructure-apply.yml": ['infra apply --root "$ROOT" --environment "$ENVIRONMENT" --plan approved/tfplan\n'],
    "drift.yml": ["schedule:", 'infra drift --root "$ROOT"'],
    "nightly.yml": ["schedule:", "target: nightly-simulation", 'run: make "$TARGET"\n'],
    "restore-drill.yml": ["schedule:", "scripts/deploy/restore-drill --name"],
    "deploy-environment.yml": ["scripts/deploy/environment --name"],
    "release.yml": ["scripts/release/image --repository", "scripts/release/chart --repository", "uses: actions/attest@"],
}


def before(jobs, name):
    """This job, and those that must succeed before it starts."""
    return {name}.union(*(before(jobs, needed) for needed in listed(jobs[name].get("needs", []))))


def only_merged(job):
    return "github.ref == 'refs/heads/main'" in str(job.get("if"))


def workflow(name, text):
    said = yaml.safe_load(text)
    triggers, jobs = said[True], said["jobs"]  # YAML reads `on` as true
    if said.get("permissions") != {}:
        yield "permissions: {} at the top; each job names its own"
    for trigger in {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers):
        yield f"{trigger} runs foreign code with our permissions"
    cancels = said.get("concurrency", {}).get("cancel-in-progress", False)
    if cancels and cancels != "${{ github.event_name == 'pull_request' }}":
        yield "a job that changes something must not be cancelled: cancel-in-progress is for pull requests"
    for line in re.findall(r"continue-on-error.*|.*\|\| (?:true|:)\s*$|.*\|\s*(?:ba)?sh\b.*|.*auto-approve.*|.*\bsecrets\..*", text, re.M):
        yield f"`{line.strip()}`: a failure must fail, downloads are not executed, and secrets are not used: credentials come from OIDC"
    for literal in re.findall(r"^[^#\n]*\b(?:staging|production)\b.*", re.sub(r"description: .*|--profile production|approved/", "", text), re.M):
        yield f"`{literal.strip()}`: the environments' names are in the variable ENVIRONMENTS: an account may have others, or one"
    for step in STEPS.get(name, []):
        if step not in text:
            yield f"`{step.strip()}` is missing"
    for label, job in jobs.items():
        for what in job_says(name, label, job, jobs, triggers):
            yield f"{label}: {what}"


def job_says(name, label, job, jobs, triggers):
    text = yaml.safe_dump(job, width=10**6)
    calls = str(job.get("uses", "")).startswith("./")
    if not calls and not job.get("timeout-minutes"):
        yield "timeout-minutes is missing"
    permissions = job.get("permissions")
    if not isinstance(permissions, dict):
        yield "permissions are missing"
        permissions = {}
    writes = {key for key, value in permissions.items() if value != "read"}
    for permission in sorted(writes - {"id-token"}):
        if (name, label, permission) not in WRITES:
            yield f"writes {permission}"
    if "id-token" in writes and not calls and "aws-actions/configure-aws-credentials@" not in text and "actions/attest@" not in text:
        yield "has a token for AWS and does not use it"
    if "attestations" in writes and "actions/attest@" not in text:
        yield "may write attestations, and does not"
    roles = set(re.findall(r"role-to-assume: \$\{\{ vars\.(\w+) \}\}", text))
    if text.count("aws-actions/configure-aws-credentials@") != text.count("role-to-assume:"):
        yield "AWS credentials without a role"
    if roles & ACTING.keys() and not job.get("environment"):
        yield f"takes {', '.join(sorted(roles & ACTING.keys()))} outside an environment, without an approval"
    for role in sorted(roles & ACTING.keys()):
        if job.get("environment") not in (None, ACTING[role]):
            yield f"takes {role} in {job['environment']}, and its trust policy names {ACTING[role]}"
    if "pull_request" in triggers and "id-token" in writes:
        own = "github.event.pull_request.head.repo.full_name == github.repository" in str(job.get("if"))
        if not (own and roles == {"PLAN_ROLE"}) and not any(only_merged(jobs[earlier]) for earlier in before(jobs, label)):
            yield "gives a pull request credentials: only those of this repository may plan, and only merged code is applied"
    of_second = job.get("with", {}).get("environment") == SECOND
    if calls and of_second and not any(jobs[earlier].get("with", {}).get("environment") == FIRST for earlier in before(jobs, label)):
        yield "the second environment, such as production, does not wait for the first"


def times(tree):
    """A release's waits fit into its role's session, and the session into the job."""
    text = (tree / ".github/workflows/deploy-environment.yml").read_text()
    wait, session, job = (int(re.search(rf"{key}: (\d+)", text)[1]) for key in ("DEPLOY_TIMEOUT", "role-duration-seconds", "timeout-minutes"))
    allowed = int(re.search(r"deploy_session = (\d+)", (tree / "infra-bootstrap/github.tf").read_text())[1])
    declared = re.search(r'^variable "bake_time_minutes" \{\n(.*?)^\}', (tree / "infra-modules/api-ecs/variables.tf").read_text(), re.M | re.S)[1]
    bake = max(int(value) for value in re.findall(r"(?:default += |bake_time_minutes <= )(\d+)", declared))
    if session != allowed:
        yield f"deploy-environment.yml asks for credentials for {session} s, and its role gives them for {allowed} s"
    if 4 * wait + 3 * bake * 60 > session or session > job * 60:
        yield f"a release waits up to 4 * {wait} s and 3 * {bake} min, and has credentials for {session} s and {job} min: bake_time_minutes, DEPLOY_TIMEOUT and the session must fit"


def pipelines(tree):
    found = workflows(tree)
    missing = set(STEPS) - {path.name for path in found}
    wrong = [f"{file_name} is missing" for file_name in sorted(missing)]
    for path in found:
        wrong += [f"{path.name}: {finding}" for finding in workflow(path.name, path.read_text())]
    wrong += times(tree)
    if wrong:
        raise Failed("\n".join(wrong))
    return len(found)
