"""Stand-ins for the commands that reach something outside of the repository: `workflow_stand_ins.py COMMAND ARGUMENT...`.

Each call is noted in the file CALLS. A stand-in fails where the real command would fail for what this repository gives it.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["STATE"])
TASK = "arn:aws:ecs:eu-west-1:1:task-definition"
REFUSED = 1


def note(text):
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(text.replace("\n", " ") + "\n")


def option(arguments, name, default=""):
    for number, word in enumerate(arguments):
        if word == name:
            return arguments[number + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return default


def stop(text):
    print(text, file=sys.stderr)
    sys.exit(REFUSED)


def remembered(key, value=None):
    """State between calls, such as the running revision."""
    said = json.loads(STATE.read_text()) if STATE.exists() else {}
    if value is not None:
        said[key] = value
        STATE.write_text(json.dumps(said))
    return said.get(key)


def terraform(arguments):
    root, words = Path(option(arguments, "-chdir")), [word for word in arguments if not word.startswith("-chdir")]
    act = words[0]
    key = "key"
    if act == "init":
        if not (root / ".terraform.lock.hcl").exists():
            stop("there is no lock file")
        remembered("key", next(word for word in words if word.startswith("-backend-config=key=")).rpartition("=")[2].removesuffix(".tfstate"))
        return
    key = remembered("key")
    if act == "plan":
        if not (root / option(words, "-var-file")).exists():
            stop("Failed to read variables file")
        if option(words, "-out"):
            try:
                Path(root, option(words, "-out")).write_text(f"plan of {key}")
            except FileNotFoundError as error:
                stop(f"Error: Failed to write plan file: {error}")
    elif act == "show":
        print("Plan: 1 to add, 0 to change, 0 to destroy.")
    elif act == "apply":
        plan = Path(root, words[-1])
        if plan.read_text() != f"plan of {key}":
            stop(f"the plan is another's: {plan.read_text()}")
        if not os.environ["ROLE"].startswith("apply-"):
            stop(f"{os.environ['ROLE']} may not apply")
        note(f"terraform apply of {key}")
    else:
        stop(f"terraform {act} is not simulated")


def service(cluster):
    revision = remembered(f"{os.environ['AWS_REGION']} {cluster}") or f"{TASK}/{cluster}:1"
    return {
        "status": "ACTIVE", "taskDefinition": revision, "desiredCount": 1, "launchType": "FARGATE",
        "deploymentConfiguration": {"strategy": "ROLLING"}, "runningCount": 1, "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        "deployments": [{"taskDefinition": revision, "rolloutState": "COMPLETED", "runningCount": 1, "createdAt": "2026-01-01T00:00:00Z"}],
    }


def aws(arguments):
    act = " ".join(arguments[:2])
    # `get-login-password` is the command's own; the others are named after their actions.
    action = "GetAuthorizationToken" if act == "ecr get-login-password" else "".join(word.capitalize() for word in arguments[1].split("-"))
    note(f"call by {os.environ.get('ROLE', 'nobody')} of {arguments[0]}:{action}")
    cluster = option(arguments, "--cluster")
    region = os.environ.get("AWS_REGION")
    match act:
        case "ssm get-parameter":
            name = option(arguments, "--name")
            found = re.fullmatch(r"/(causeway-\w+)/(primary|dr)/(deploy|restore-drill)", name)
            if not found:
                stop(f"An error occurred (ParameterNotFound) when calling GetParameter: {name}")
            home = "eu-west-1" if found[2] == "primary" else "eu-central-1"
            if found[3] == "restore-drill":
                print(json.dumps({"region": home, "instance_id": "i-1"}))
            else:
                print(json.dumps({"region": home, "cluster": f"{found[1]}-api", "service": f"{found[1]}-api", "url": None,
                                  "migration": f"{found[1]}-api-migrate" if found[2] == "primary" else None, "image_repository": f"1.dkr.ecr.{home}.amazonaws.com/causeway/api"}))
        case "ecr get-login-password":
            print("password")
        case "ecr describe-images":
            print(f"sha256:{'1' * 64}")
        case "ecs describe-services":
            print(json.dumps({"services": [service(cluster)]}))
        case "ecs describe-task-definition":
            print(json.dumps({"taskDefinition": {"taskDefinitionArn": option(arguments, "--task-definition"), "family": "f", "containerDefinitions": [{"name": "api", "image": "old"}]}}))
        case "ecs register-task-definition":
            print(f"{TASK}/f:2")
        case "ecs run-task":
            print(json.dumps({"tasks": [{"taskArn": "arn:aws:ecs:eu-west-1:1:task/c/1"}]}))
        case "ecs describe-tasks":
            print(json.dumps({"tasks": [{"lastStatus": "STOPPED", "containers": [{"name": "api", "exitCode": 0}]}]}))
        case "ecs update-service":
            remembered(f"{region} {cluster}", option(arguments, "--task-definition"))
            print(json.dumps({"service": service(cluster)}))
        case "ecs list-service-deployments":
            revision = remembered(f"{region} {cluster}")
            print(json.dumps({"serviceDeployments": [{"serviceDeploymentArn": "arn:1", "createdAt": "2026-01-01T00:00:00Z", "status": "SUCCESSFUL"}]
                              + ([{"serviceDeploymentArn": "arn:2", "createdAt": "2026-01-02T00:00:00Z", "status": "SUCCESSFUL"}] if revision else [])}))
        case "ecs describe-service-deployments":
            print(json.dumps({"serviceDeployments": [{"serviceDeploymentArn": option(arguments, "--service-deployment-arns"), "status": "SUCCESSFUL"}]}))
        case "ec2 describe-instances":
            print(remembered("drill host") or "stopped")
        case "ec2 start-instances" | "ec2 stop-instances":
            remembered("drill host", {"start": "running", "stop": "stopped"}[act.split()[1].partition("-")[0]])
        case "ssm describe-instance-information":
            print("Online" if remembered("drill host") == "running" else "None")
        case "ssm send-command":
            if remembered("drill host") != "running":
                stop("An error occurred (InvalidInstanceId) when calling the SendCommand operation: Instances not in a valid state for account")
            print("command-1")
        case "ssm get-command-invocation":
            print(json.dumps({"Status": "Success", "StandardOutputContent": "restored"}))
        case _:
            stop(f"aws {act} is not simulated: add it to infra-tests/workflow_stand_ins.py")


def docker(arguments):
    match arguments[:2]:
        case ["buildx", "build"]:
            if not Path("Dockerfile").exists():
                stop("no Dockerfile")
            Path(option(arguments, "--metadata-file")).write_text(json.dumps({"containerimage.digest": f"sha256:{'1' * 64}"}))
        case ["run", *_]:
            for program in ("api", "failover-ctl", "backup-agent"):
                Path("target/debian-12/image").mkdir(parents=True, exist_ok=True)
                Path("target/debian-12/image", program).touch()
            for directory in ("man", "completions"):
                Path("target/debian-12/reference", directory).mkdir(parents=True, exist_ok=True)
            script = arguments[-1]
            for word in ("cargo-deb@", "scripts/package --profile image", "--output target/release-files"):
                if word not in script:
                    stop(f"the packages are not built: no {word}")
            Path("target/release-files/failover-ctl_1.4.0-1_amd64.deb").touch()


def helm(arguments):
    match arguments[0]:
        case "package":
            if not Path(arguments[1], "Chart.yaml").exists():
                stop(f"{arguments[1]} is no chart")
            Path(option(arguments, "--destination"), f"api-{option(arguments, '--version')}.tgz").touch()
        case "push":
            if not Path(arguments[1]).exists() or not remembered("helm"):
                stop("no such chart, or no login")
            # As Helm does, on standard error.
            print(f"Pushed: {arguments[2].removeprefix('oci://')}/api:1.4.0\nDigest: sha256:{'2' * 64}", file=sys.stderr)
        case "registry":
            remembered("helm", sys.stdin.read().strip())


def gh(arguments):
    if arguments[:2] == ["release", "create"]:
        for file in arguments[arguments.index("--") + 1:]:
            if not Path(file).exists():
                stop(f"there is no {file} to publish")
    if arguments[:2] in (["issue", "create"], ["issue", "comment"]) and not Path(option(arguments, "--body-file")).exists():
        stop("no body")


def git(arguments):
    print("1700000000" if arguments[0] == "log" else "1" * 40)


def make(arguments):
    """Prints the commands of the target instead of running them: a missing target fails."""
    sys.exit(subprocess.run(["/usr/bin/make", "--dry-run", *arguments], stdout=subprocess.DEVNULL, check=False).returncode)


def python3(arguments):
    """An environment with Ansible's programs."""
    if arguments[:2] != ["-m", "venv"]:
        os.execv(sys.executable, [sys.executable, *arguments])
    programs = Path(arguments[2], "bin")
    programs.mkdir(parents=True)
    for name in ("pip", "ansible-playbook"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\nfor word; do :; done\n[ -f "$word" ]\n')
        (programs / name).chmod(0o755)


def main():
    command, *arguments = sys.argv[1:]
    note(" ".join([command, *arguments]))
    act = globals().get(command)
    if act:
        act(arguments)


if __name__ == "__main__":
    main()
