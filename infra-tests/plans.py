"""What holds in every plan, whichever module makes a thing: tags, regions, encryption, exposure.

A module's own tests see the module alone, and a root's cannot see into modules. A value that is known
only after the apply is absent from a plan, and passes here; the modules' tests hold it.
"""

import json
import re
from fnmatch import fnmatchcase

import policies
import terraform
from terraform import Failed

# Made up in tests/examples, so that their ARNs are known; the modules' tests hold their tags.
OVERRIDDEN = {"module.kms.aws_kms_key.this"}
ANYWHERE = {"0.0.0.0/0", "::/0"}
WEB = {80, 443}


class Plan:
    def __init__(self, plan):
        self.resources = [(it["address"], it["type"], it["change"]["after"]) for it in plan["resource_changes"]
                          if it["change"]["after"] and it["mode"] == "managed" and it["address"] not in OVERRIDDEN]

    def of(self, *types):
        return [(address, after) for address, type, after in self.resources if type in types]


def tags(plan, expected):
    """Each resource that can have tags has those of its provider."""
    for address, _, after in plan.resources:
        found = after.get("tags_all")
        if found is None:
            continue
        # The accepter of the peering is in the other region, and made by this root.
        region = None if address.startswith("module.peering.") else expected["roles"].get(after.get("region"))
        for key in ("project", "environment", "owner", "region_role"):
            wanted = expected.get(key) or region
            if key not in found or wanted and found[key] != wanted:
                yield f"{address}: its tag `{key}` is {found.get(key)!r}, and should be {wanted!r}: default_tags of its provider lack it"


def regions(plan, expected):
    """Nothing is made in a region that the design does not name."""
    for address, _, after in plan.resources:
        if after.get("region") and after["region"] not in expected["roles"]:
            yield f"{address}: is in {after['region']}, and the regions are {', '.join(expected['roles'])}"


def hosts(plan, _):
    """Machines ask for a session by IMDSv2, are not reached from the internet, and let nobody in by a key."""
    for address, after in plan.of("aws_instance", "aws_launch_template"):
        options = (after.get("metadata_options") or [{}])[0]
        if options.get("http_tokens") != "required" or options.get("http_put_response_hop_limit") not in (1, None):
            yield f"{address}: answers IMDSv1, or over a hop: http_tokens = \"required\", http_put_response_hop_limit = 1"
        if after.get("associate_public_ip_address") or any(it.get("associate_public_ip_address") for it in after.get("network_interfaces") or []):
            yield f"{address}: has a public address"
        if after.get("key_name"):
            yield f"{address}: has a key pair; hosts are reached over Systems Manager"


def encryption(plan, _):
    """What is stored is encrypted, and what is sent too."""
    for address, after in plan.of("aws_ebs_volume"):
        if not after.get("encrypted"):
            yield f"{address}: is not encrypted"
    for address, after in plan.of("aws_instance"):
        for it in after.get("root_block_device") or [{}]:
            if not it.get("encrypted"):
                yield f"{address}: its root volume is not encrypted"
    for address, after in plan.of("aws_elasticache_replication_group"):
        if not after.get("transit_encryption_enabled") or str(after.get("at_rest_encryption_enabled")).lower() != "true":
            yield f"{address}: is not encrypted on disk and on its way"
    for address, after in plan.of("aws_lb_listener"):
        redirects = [it["type"] for it in after.get("default_action") or []] == ["redirect"]
        if after.get("protocol") != "HTTPS" and not redirects:
            yield f"{address}: answers without TLS"


def buckets(plan, _):
    """Each bucket is closed, versioned and encrypted."""
    made = {address.replace("aws_s3_bucket.", "") for address, _ in plan.of("aws_s3_bucket")}
    passing = {it for it in made if it.startswith("transfer[")}  # what Ansible sends, of which no version is to stay
    for type, holds in (
        ("aws_s3_bucket_public_access_block", lambda it: all(it.get(key) for key in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"))),
        ("aws_s3_bucket_versioning", lambda it: it["versioning_configuration"][0]["status"] == "Enabled"),
        ("aws_s3_bucket_server_side_encryption_configuration", lambda it: bool(it.get("rule"))),
    ):
        good = {address.replace(f"{type}.", "") for address, after in plan.of(type) if holds(after)}
        for it in sorted(made - good - (passing if type == "aws_s3_bucket_versioning" else set())):
            yield f"the bucket {it} has no {type} that holds"


def writers(plan, _):
    """What the buckets say of the nodes by their roles' names is said of every node, and of nothing else that is made here."""
    roles = {address: f"role/{after['name']}" for address, after in plan.of("aws_iam_role")}
    for bucket, after in plan.of("aws_s3_bucket_policy"):
        for it in json.loads(after.get("policy") or '{"Statement": []}')["Statement"]:
            named = {operator: keys["aws:PrincipalArn"] for operator, keys in it.get("Condition", {}).items() if "aws:PrincipalArn" in keys}
            for operator, patterns in named.items():
                for address, role in roles.items():
                    meant = any(fnmatchcase(role, pattern.rpartition(":")[2]) for pattern in patterns)
                    node = address.startswith("module.postgres.")
                    if node and not meant or meant and not node and it["Sid"] == "DenyOtherWriters":
                        yield f"{bucket}: {it['Sid']} takes {role} for {'a' if meant else 'no'} node, by {operator} {patterns}"


def exposure(plan, _):
    """Only the load balancer is open, for the web; the database for its own ports."""
    for address, after in plan.of("aws_vpc_security_group_ingress_rule"):
        ports = (after.get("from_port"), after.get("to_port"))
        if {after.get("cidr_ipv4"), after.get("cidr_ipv6")} & ANYWHERE and not (ports[0] == ports[1] and ports[0] in WEB and "api_ecs" in address):
            yield f"{address}: is open to the internet at {ports}"
        if address.startswith("module.postgres.") and (ports[0] != ports[1] or ports[0] not in (5432, 8009, 9100, 9187)):
            yield f"{address}: opens {ports}, and the database has 5432, 8009, 9100 and 9187"
    for address, after in plan.of("aws_security_group", "aws_default_security_group"):
        for it in after.get("ingress") or []:
            yield f"{address}: has rules of its own ({it.get('from_port')}): make each a resource that says what it is for"
    for address, after in plan.of("aws_db_instance", "aws_rds_cluster_instance"):
        yield f"{address}: is a managed database{', and public' if after.get('publicly_accessible') else ''}; this platform runs its own"
    for address, after in plan.of("aws_subnet"):
        if after.get("map_public_ip_on_launch"):
            yield f"{address}: gives out public addresses"


def secrets(plan, _):
    """No secret is in the state."""
    for address, type, after in plan.resources:
        for key in ("auth_token", "password", "secret_binary", "secret_string"):
            if after.get(key):
                yield f"{address}: has {key} in the state: use a write-only argument"
        if type == "aws_ssm_parameter" and after.get("type") != "String":
            yield f"{address}: a secret belongs to Secrets Manager"


def containers(plan, _):
    """A task writes nothing to its image, and is not root."""
    for address, after in plan.of("aws_ecs_task_definition"):
        text = after.get("container_definitions") or ""
        for it in re.findall(r'"readonlyRootFilesystem":\s*(\w+)', text):
            if it != "true":
                yield f"{address}: a container may write to its own file system"
        if re.search(r'"privileged":\s*true|"user":\s*"(root|0)', text):
            yield f"{address}: a container is root"


RULES = (tags, regions, hosts, encryption, buckets, writers, exposure, secrets, containers)


def judge(plan, expected):
    """What is wrong with a plan, and how many resources it has."""
    seen = Plan(plan)
    return [it for rule in RULES for it in rule(seen, expected)], len(seen.resources)


def expectations(root, example):
    """What an example's file says of tags and regions."""
    text = example.read_text()
    said = dict(re.findall(r'^(project|environment|owner) += "([^"]+)"', text, re.M))
    third = "state" if root == "infra-bootstrap" else "lease"
    roles = {"eu-west-1": "primary", "eu-central-1": "dr", "eu-north-1": third}
    if root == "infra-bootstrap":
        said["environment"] = "shared"
        roles = {region: "state" for region in roles}
    return {"project": "causeway", **said, "roles": roles}


def planned(tree, root, example, env):
    """Plans an example, tests the plan, and judges everything in it."""
    made, passed = terraform.plan(tree, root, example, env)
    wrong, found = policies.judge(made)
    expected = expectations(root, tree / root / "examples" / f"{example}.tfvars")
    resources = 0
    for plan in made:
        more, resources = judge(plan, expected)
        wrong += more
    if wrong:
        raise Failed("\n".join(wrong))
    if not found or not resources:
        raise Failed("there is nothing in the plan")
    return passed, f"run passed; {resources} resources and {found} policies judged"
