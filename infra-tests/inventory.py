"""`ansible/inventories/example` against instances as Terraform's plan makes them: tags, devices and names come from the plans,
so that a change on either side that the other does not follow is found. EC2, Parameter Store and Secrets Manager are moto's.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3

import terraform
from infra_script import CREDENTIALS, free_port
from plans import Plan
from terraform import ROOT, Failed

ANSIBLE = Path(os.environ.get("CAUSEWAY_ANSIBLE") or ROOT / "target/ansible")
REGIONS = {"infra-primary": "eu-west-1", "infra-dr": "eu-central-1"}
NAME = "causeway-production"
# Variables of a host, which the roles read.
VARIABLES = ("ansible_host", "region", "zone", "address", "private_ip", "data_volume_id", "wal_volume_id", "causeway_name")


def expect(what, found, wanted):
    if found != wanted:
        raise Failed(f"{what}: {found}, expected {wanted}")


def planned_hosts(tree, env):
    """Each root's instances: tags, zone, and volumes by their purpose's device."""
    for root, region in REGIONS.items():
        plan = Plan(terraform.plan(tree, root, "production", env))
        devices = {address.rpartition(".")[2]: after["device_name"] for address, after in plan.of("aws_volume_attachment")}
        volumes = {address.rpartition(".")[2]: after for address, after in plan.of("aws_ebs_volume")}
        for address, after in plan.of("aws_instance"):
            tags = after["tags_all"]
            own = {volumes[label]["tags"]["Purpose"]: device for label, device in devices.items() if label in volumes and volumes[label]["tags"].get("Node") == tags.get("Node")
                   and volumes[label]["tags"].get("Role") in (None, tags["Role"])}
            zones = [volumes[label]["availability_zone"] for label in volumes if volumes[label]["tags"].get("Node") == tags.get("Node")]
            yield region, tags, (*zones, f"{region}a")[0], own


class Account:
    """An account in moto."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def client(self, service, region):
        return boto3.client(service, endpoint_url=self.endpoint, region_name=region, aws_access_key_id="test", aws_secret_access_key="test")

    def instance(self, region, tags, zone, devices=None):
        """Makes a host; returns its variables."""
        ec2 = self.client("ec2", region)
        made = ec2.run_instances(ImageId=ec2.describe_images()["Images"][0]["ImageId"], MinCount=1, MaxCount=1, Placement={"AvailabilityZone": zone},
                                 TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}])["Instances"][0]
        ids = {}
        for purpose, device in (devices or {}).items():
            ids[purpose] = ec2.create_volume(AvailabilityZone=zone, Size=20)["VolumeId"]
            ec2.attach_volume(VolumeId=ids[purpose], InstanceId=made["InstanceId"], Device=device)
        return {"ansible_host": made["InstanceId"], "region": region, "zone": zone, "address": tags.get("Address", made["PrivateIpAddress"]), "private_ip": made["PrivateIpAddress"],
                "data_volume_id": ids.get("data") or ids.get("scratch", ""), "wal_volume_id": ids.get("wal", ""), "causeway_name": f"{tags['project']}-{tags['environment']}"}

    def values(self, region):
        """What Terraform writes to this region."""
        for name in ("failover-ctl", "backup-agent"):
            self.client("ssm", region).put_parameter(Name=f"/{NAME}/{name}", Value=f"# {name} of {region}", Type="String")
        for name in ("api-owner", "api-service", "command-signing-key", "monitoring", "replicator", "rewinder"):
            self.client("secretsmanager", region).create_secret(Name=f"{NAME}/{name}", SecretString=f"{name} of {region}")


def ansible(program, *arguments, env, cwd):
    result = subprocess.run([ANSIBLE / "bin" / program, *arguments], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if result.returncode or "WARNING" in result.stderr:
        raise Failed(f"{program} ended with {result.returncode}: {result.stderr[-3000:] or result.stdout[-3000:]}")
    return result.stdout


def check(tree, env):
    """The inventory has the hosts of its environment, and no others; returns their number."""
    if not (ANSIBLE / "bin/ansible-inventory").exists():
        raise Failed(f"Ansible is not installed in {ANSIBLE}: run `scripts/setup infra`")
    hosts = list(planned_hosts(tree, env))
    port = free_port()
    server = subprocess.Popen([Path(sys.executable).parent / "moto_server", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return against(Account(f"http://127.0.0.1:{port}"), hosts, tree / "ansible/inventories/example", Path(scratch))
    finally:
        server.terminate()
        server.wait()


def started(account):
    for _ in range(120):
        try:
            return account.client("ec2", "eu-west-1").describe_images()
        except Exception:  # noqa: BLE001 - of a server that does not listen yet
            time.sleep(0.5)
    raise Failed("moto did not start")


def populated(account, hosts):
    """Makes the hosts, and others that the inventory must not show; returns the variables and the groups of the hosts."""
    wanted, groups = {}, {}
    missing = {"monitoring", "postgres", "restore-drill"} - {tags["Role"] for _, tags, _, _ in hosts}
    if missing:
        raise Failed(f"the plans have no hosts for the inventory with the tag Role {sorted(missing)}")
    unnamed = [tags["Name"] for _, tags, _, _ in hosts if tags["Role"] == "postgres" and not {"Address", "Node"} <= tags.keys()]
    if unnamed:
        raise Failed(f"{unnamed}: a node has the tags Node and Address, the name in its certificate")
    for region, tags, zone, devices in hosts:
        name = tags.get("Node", tags["Name"])
        wanted[name] = account.instance(region, tags, zone, devices)
        groups.setdefault(tags["Role"].replace("-", "_"), set()).add(name)
        if tags["Role"] == "postgres":
            groups.setdefault(region.replace("-", "_"), set()).add(name)
    for region in REGIONS.values():
        account.values(region)
    node = next(tags for _, tags, _, _ in hosts if tags["Role"] == "postgres")
    for change in ({"environment": "staging"}, {"project": "other"}, {"Role": "builder"}):
        account.instance("eu-west-1", node | {"Node": "eu-west-1a-9"} | change, "eu-west-1a")
    ec2 = account.client("ec2", "eu-west-1")
    ec2.terminate_instances(InstanceIds=[account.instance("eu-west-1", node | {"Node": "eu-west-1a-8"}, "eu-west-1a")["ansible_host"]])
    ec2.stop_instances(InstanceIds=[wanted[node["Node"]]["ansible_host"]])
    return wanted, groups


def against(account, hosts, example, scratch):
    started(account)
    wanted, groups = populated(account, hosts)
    env = {"PATH": os.environ["PATH"], "HOME": str(scratch), "LC_ALL": "C.UTF-8", "AWS_ENDPOINT_URL": account.endpoint, "ANSIBLE_LOCALHOST_WARNING": "False", "ANSIBLE_DEPRECATION_WARNINGS": "False",
           "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True"} | CREDENTIALS
    listed = json.loads(ansible("ansible-inventory", "--inventory", example, "--list", env=env, cwd=scratch))
    variables = listed["_meta"]["hostvars"]
    expect("hosts of the inventory", set(variables), set(wanted))
    for name, wants in wanted.items():
        # Ansible marks values that it did not template.
        expect(f"variables of {name}", {key: variables[name].get(key, {}).get("__ansible_unsafe") for key in VARIABLES}, wants)
    expect("groups of the inventory", {name: set(listed.get(name, {}).get("hosts", [])) for name in groups}, groups)
    for name, wants in wanted.items():
        templated(name, wants, example, env, scratch)
    return len(wanted)


def templated(name, wants, inventory, env, scratch):
    """The connection of a host, and its values, as a task sees them."""
    text = ansible("ansible", "--inventory", inventory, name, "--connection", "local", "--module-name", "ansible.builtin.debug", "--args",
                   "msg={{ [ansible_user, ansible_ssh_common_args, failover_ctl_settings, backup_agent_settings, causeway_secrets] | to_json }}", env=env, cwd=scratch)
    user, arguments, *settings, secrets = json.loads(json.loads(text[text.index("{"):])["msg"])
    expect(f"settings of {name}", settings, [f"# {file} of {wants['region']}" for file in ("failover-ctl", "backup-agent")])
    expect(f"secrets of {name}", secrets, {key: f"{key} of {wants['region']}" for key in secrets})
    expect(f"user of {name}", user, "admin")
    proxy = Path(arguments.partition('ProxyCommand="')[2].partition(" ")[0])
    if not os.access(proxy, os.X_OK) or f"--instance %h --region {wants['region']} --user %r" not in arguments:
        raise Failed(f"{name} is not reached through a session: {arguments}")
