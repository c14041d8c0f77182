"""`scripts/deploy/infra` from its first plan to a comparison without a difference: Terraform itself, with the stand-ins of the
providers, and moto in place of the bucket of the state."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3

import terraform
from terraform import Failed

ROOT = "infra-bootstrap"  # the smallest root; its examples are complete
BUCKET, REGION = "causeway-state-123456789012", "eu-north-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def state(endpoint):
    """Waits for the server, and makes the bucket."""
    client = boto3.client("s3", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")
    for _ in range(120):
        try:
            client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
            return client
        except Exception:  # noqa: BLE001 - of a server that does not listen yet
            time.sleep(0.5)
    raise Failed("moto did not start")


def prepared(tree, scratch, endpoint, env):
    """A repository as after the guide's first steps: variables, and the lock file."""
    repository = scratch / "repository"
    shutil.copytree(tree, repository, ignore=shutil.ignore_patterns(".terraform", ".terraform.lock.hcl"))
    root = repository / ROOT
    (root / "environments").mkdir()
    # A plan refuses the example's repository.
    (root / "environments/account.tfvars").write_text((root / "examples/account.tfvars").read_text().replace("example/", "octo-org/"))
    own = re.search(r'backend "s3" \{\n(.*?)^  \}', (root / "backend.tf").read_text(), re.M | re.S)[1]
    (root / "backend_override.tf").write_text(
        f'terraform {{\n  backend "s3" {{\n{own}    use_path_style = true\n    endpoints = {{ s3 = "{endpoint}" }}\n'
        "    skip_credentials_validation = true\n    skip_requesting_account_id = true\n    skip_metadata_api_check = true\n  }\n}\n")
    terraform.run("terraform", "init", "-backend=false", "-input=false", "-no-color", cwd=root, env=env)
    shutil.rmtree(root / ".terraform")
    return repository


def script(tree, env):
    """Plans into a directory that is not there, applies that plan, and finds no difference; then one."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([Path(sys.executable).parent / "moto_server", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            client = state(endpoint)
            repository = prepared(tree, Path(scratch), endpoint, env)
            given = env | CREDENTIALS | {"STATE_BUCKET": BUCKET, "STATE_REGION": REGION, "STATE_KMS_KEY": "arn:aws:kms:eu-north-1:123456789012:key/12345678-1234-4234-8234-123456789012"}

            def infra(act, *more, code=0):
                result = subprocess.run([repository / "scripts/deploy/infra", act, "--root", ROOT, "--environment", "account", *more], cwd=scratch, env=given, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
                if result.returncode != code:
                    raise Failed(f"infra {act} ended with {result.returncode}, expected {code}: {result.stdout[-3000:]}")
                return result.stdout

            if "to add, 0 to change" not in infra("plan", "--plan", "approved/tfplan"):
                raise Failed("the plan is not shown")
            infra("apply", "--plan", "approved/tfplan")
            if [content["Key"] for content in client.list_objects_v2(Bucket=BUCKET)["Contents"]] != ["account/bootstrap.tfstate"]:
                raise Failed("the state is not in its place, or its lock is left")
            infra("drift")
            variables = repository / ROOT / "environments/account.tfvars"
            variables.write_text(variables.read_text() + "images_kept = 60\n")
            infra("drift", code=2)
    finally:
        server.terminate()
        server.wait()
    return 5
