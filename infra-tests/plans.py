"""Invariants of every plan, across modules: tags, regions, encryption, exposure.

A module's tests see the module alone, and a root's cannot see into modules. A value that is known
only after the apply is absent from a plan, and passes here; the modules' tests check it.
"""

import ipaddress
import json
import re
from fnmatch import fnmatchcase

import policies

# Overridden in tests/examples, so that their ARNs are known; the modules' tests check their tags.
# So are the ids of subnets and route tables.
OVERRIDDEN = ("module.kms.aws_kms_key.this", "module.network.aws_subnet.", "module.network.aws_route_table.data")
ANYWHERE = {"0.0.0.0/0", "::/0"}
# A key in a text, or a secret that is given a value.
SECRET = r"(?i)BEGIN [A-Z ]*PRIVATE KEY|\bA[SK]IA[A-Z0-9]{16}|\w*(?:password|passwd|secret|credential|access_?key)\w*[\"']?\s*[=:]\s*[\"']?[^\s\"']"
WEB = {80, 443}
# Expected subnet tier by resource type, and the argument with the subnets.
STANDS = {
    "aws_ecs_service": ("subnets", "private"), "aws_eks_node_group": ("subnet_ids", "private"), "aws_elasticache_subnet_group": ("subnet_ids", "data"), "aws_instance": ("subnet_id", "data"),
    "aws_lb": ("subnets", "public"), "aws_nat_gateway": ("subnet_id", "public"),
}
MONITORING = "module.monitoring_host[0]."
# By this rule a monitoring host with a canary reaches the API's public addresses, from a private subnet.
CANARY = f"{MONITORING}aws_vpc_security_group_egress_rule.canary[0]"
# Allowed managed policies of AWS. All other permissions are policies of this repository.
MANAGED = {"AmazonSSMManagedInstanceCore"}
# Of a cluster: EKS extends these with its versions.
MANAGED_EKS = {"AmazonEC2ContainerRegistryPullOnly", "AmazonEKSClusterPolicy", "AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy"}


class Plan:
    def __init__(self, plan):
        self.all = [(change["address"], change["type"], change["change"]["after"]) for change in plan["resource_changes"] if change["change"]["after"] and change["mode"] == "managed"]
        self.resources = [resource for resource in self.all if not resource[0].startswith(OVERRIDDEN)]

    def of(self, *types):
        return [(address, after) for address, type, after in self.all if type in types]


def tags(plan, expected):
    """Each taggable resource has its provider's tags."""
    for address, _, after in plan.resources:
        found = after.get("tags_all")
        if found is None:
            continue
        # The peering's accepter is in the other region, and belongs to this root.
        region = None if address.startswith("module.peering.") else expected["roles"].get(after.get("region"))
        for key in ("project", "environment", "owner", "region_role"):
            wanted = expected.get(key) or region
            if key not in found or wanted and found[key] != wanted:
                yield f"{address}: its tag `{key}` is {found.get(key)!r}, expected {wanted!r}: add it to its provider's default_tags"


# Keys of tags: those of `default_tags`, by which costs are divided, in lower case; and those that identify a resource, as AWS
# writes `Name`. IAM and the inventory compare them, so that another spelling is another tag.
TAGS = {"project", "environment", "owner", "region_role"} | {"Name", "Address", "Cluster", "Node", "Purpose", "Role"}


def tag_names(plan, _):
    """No tag has a key that infra-modules/README.md does not name. EKS's own conventions have a `/`."""
    for address, _, after in plan.resources:
        for key in sorted(set(after.get("tags_all") or {}) - TAGS):
            if "/" not in key:
                yield f"{address}: has the tag `{key}`: use one of {sorted(TAGS)}, or add the key to TAGS of plans.py and to infra-modules/README.md"


def regions(plan, expected):
    """No resource is in an unexpected region. The metrics of Route 53's health checks are in us-east-1, and their alarms."""
    for address, _, after in plan.resources:
        if after.get("region") == "us-east-1" and re.fullmatch(r"module\.dns\..*\.health_check(\[.*\])?", address):
            continue
        if after.get("region") and after["region"] not in expected["roles"]:
            yield f"{address}: is in {after['region']}, and the regions are {', '.join(expected['roles'])}"


def hosts(plan, _):
    """Instances require IMDSv2, have no public address and no key pair."""
    for address, after in plan.of("aws_instance", "aws_launch_template"):
        options = (after.get("metadata_options") or [{}])[0]
        if options.get("http_tokens") != "required" or options.get("http_put_response_hop_limit") not in (1, None):
            yield f"{address}: serves IMDSv1, or over a hop: http_tokens = \"required\", http_put_response_hop_limit = 1"
        if after.get("associate_public_ip_address") or any(interface.get("associate_public_ip_address") for interface in after.get("network_interfaces") or []):
            yield f"{address}: has a public address"
        if after.get("ebs_block_device"):
            yield f"{address}: has volumes that are deleted with it: make each a resource of its own"
        if after.get("key_name"):
            yield f"{address}: has a key pair; hosts are reached over Systems Manager"
        for assigned in re.findall(SECRET, after.get("user_data") or ""):
            yield f"{address}: has a secret in its user data, which every process of the host reads: `{assigned}`: read it from Secrets Manager"


def encryption(plan, _):
    """Data is encrypted at rest and in transit."""
    for address, after in plan.of("aws_ebs_volume"):
        if not after.get("encrypted"):
            yield f"{address}: is not encrypted"
    for address, after in plan.of("aws_instance"):
        for device in after.get("root_block_device") or [{}]:
            if not device.get("encrypted"):
                yield f"{address}: its root volume is not encrypted"
    for address, after in plan.of("aws_elasticache_replication_group"):
        if not after.get("transit_encryption_enabled") or str(after.get("at_rest_encryption_enabled")).lower() != "true":
            yield f"{address}: is not encrypted at rest and in transit"
    for address, after in plan.of("aws_lb_listener"):
        redirects = [action["type"] for action in after.get("default_action") or []] == ["redirect"]
        if after.get("protocol") != "HTTPS" and not redirects:
            yield f"{address}: serves HTTP"
        if any(redirect["protocol"] != "HTTPS" for action in after.get("default_action") or [] for redirect in action.get("redirect") or []):
            yield f"{address}: redirects to HTTP"
        if after.get("protocol") == "HTTPS" and not str(after.get("ssl_policy")).startswith("ELBSecurityPolicy-TLS13-1-2"):
            yield f"{address}: {after.get('ssl_policy')} accepts TLS below 1.2"
    for address, after in plan.of("aws_kms_key"):
        if not after.get("enable_key_rotation") or (after.get("deletion_window_in_days") or 30) < 30:
            yield f"{address}: a key needs rotation and a deletion window of 30 days"


def buckets(plan, _):
    """Each bucket is closed, versioned and encrypted."""
    made = {address.replace("aws_s3_bucket.", "") for address, _ in plan.of("aws_s3_bucket")}
    for type, holds in (
        ("aws_s3_bucket_public_access_block", lambda block: all(block.get(key) for key in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"))),
        ("aws_s3_bucket_versioning", lambda block: block["versioning_configuration"][0]["status"] == "Enabled"),
        ("aws_s3_bucket_server_side_encryption_configuration", lambda block: bool(block.get("rule"))),
        ("aws_s3_bucket_ownership_controls", lambda block: block["rule"][0]["object_ownership"] == "BucketOwnerEnforced"),
        ("aws_s3_bucket_policy", lambda block: True),  # its content is checked by policies.py
    ):
        good = {address.replace(f"{type}.", "") for address, after in plan.of(type) if holds(after)}
        for bucket in sorted(made - good):
            yield f"the bucket {bucket} has no sufficient {type}"
    for address, after in plan.of("aws_s3_bucket"):
        if after.get("force_destroy"):
            yield f"{address}: is destroyed with its content: no force_destroy"
    for address, after in plan.of("aws_s3_bucket_lifecycle_configuration"):
        if any(expiration.get("days") or expiration.get("date") for rule in after["rule"] for expiration in rule.get("expiration") or []):
            yield f"{address}: expires objects by their age: the newest backup may need the oldest object"


def reached(plan, _):
    """The endpoints of S3 admit the buckets of their plan, and no pattern of buckets."""
    made = {after["bucket"] for _, after in plan.of("aws_s3_bucket") if after.get("bucket")}
    for address, after in plan.of("aws_vpc_endpoint"):
        if not (after.get("service_name") or "").endswith(".s3") or not after.get("policy"):
            continue
        named = {resource.rpartition(":")[2].partition("/")[0] for statement in json.loads(after["policy"])["Statement"] for resource in policies.listed(statement["Resource"])}
        for bucket in sorted(made - named):
            yield f"{address}: does not admit the bucket {bucket}: add it to `bucket_names` of the module network"
        for bucket in sorted(bucket for bucket in named if "*" in bucket):
            yield f"{address}: admits every bucket {bucket}: name them"


def writers(plan, _):
    """The bucket policies' role name patterns match every node's role, and no other."""
    roles = {address: f"role/{after['name']}" for address, after in plan.of("aws_iam_role")}
    for bucket, after in plan.of("aws_s3_bucket_policy"):
        for statement in json.loads(after.get("policy") or '{"Statement": []}')["Statement"]:
            named = {operator: keys["aws:PrincipalArn"] for operator, keys in statement.get("Condition", {}).items() if "aws:PrincipalArn" in keys}
            for operator, patterns in named.items():
                for address, role in roles.items():
                    meant = any(fnmatchcase(role, pattern.rpartition(":")[2]) for pattern in patterns)
                    node = address.startswith("module.postgres.")
                    deletes = statement["Sid"] == "DenyOtherDeleters"  # the only one that admits no node
                    if node and meant == deletes or meant and not node and statement["Sid"] == "DenyOtherWriters":
                        yield f"{bucket}: {statement['Sid']} takes {role} for {'a' if meant else 'no'} node, with {operator} {patterns}"


def exposure(plan, _):
    """Only the load balancer is open to the internet; the database opens only its own ports."""
    for address, after in plan.of("aws_vpc_security_group_ingress_rule"):
        ports = (after.get("from_port"), after.get("to_port"))
        if {after.get("cidr_ipv4"), after.get("cidr_ipv6")} & ANYWHERE and not (ports[0] == ports[1] and ports[0] in WEB and "api_ecs" in address):
            yield f"{address}: is open to the internet at {ports}"
        peer = address.startswith("module.monitoring_host") and ports[0] in (9094, 9100) and foreign(after["cidr_ipv4"], plan)
        scraped = address.startswith("module.drill_host") and ports[0] == 9100
        if address.startswith(("module.drill_host", "module.monitoring_host")) and not (peer or scraped) or ports[0] is not None and ports[0] <= 22 <= (ports[1] or ports[0]):
            yield f"{address}: admits connections at {ports}; hosts are reached over Systems Manager"
        if address.startswith("module.postgres.") and (ports[0] != ports[1] or ports[0] not in (5432, 6432, 8009, 9100, 9127, 9187)):
            yield f"{address}: opens {ports}; the database's ports are 5432, 8009, 9100 and 9187, and of a pooler 6432 and 9127"
        if address.startswith("module.postgres.") and ports[0] in (5432, 6432) and after.get("cidr_ipv4") and not foreign(after["cidr_ipv4"], plan):
            yield f"{address}: lets {after['cidr_ipv4']} reach {'PostgreSQL' if ports[0] == 5432 else 'the pooler'}: reference a security group of this VPC, or a subnet of the other"
        if after.get("cidr_ipv4") and not address.startswith("module.network.") and within(after["cidr_ipv4"], plan):
            yield f"{address}: admits {after['cidr_ipv4']} at {ports}, more of this network than one subnet: reference a security group, or name the subnet"
    for address, after in plan.of("aws_vpc_security_group_egress_rule", "aws_vpc_security_group_ingress_rule"):
        ports = (after.get("from_port"), after.get("to_port"))
        gossip = address.startswith("module.monitoring_host") and ports[0] == 9094  # Alertmanager's
        if after.get("ip_protocol") not in (("tcp", "udp") if gossip else ("tcp",)) or ports[0] is None or ports[0] != ports[1]:
            yield f"{address}: allows {after.get('ip_protocol')} at {ports}: a rule names one port"
    has_endpoints = any(after.get("vpc_endpoint_type") == "Interface" for _, after in plan.of("aws_vpc_endpoint"))
    for address, after in plan.of("aws_vpc_security_group_egress_rule"):
        if {after.get("cidr_ipv4"), after.get("cidr_ipv6")} & ANYWHERE and (has_endpoints and address != CANARY or after.get("from_port") != 443):
            yield f"{address}: allows {after.get('from_port')} to every address; AWS is reached through the endpoints' security group and S3's prefix list"
    for address, after in plan.of("aws_lb_listener"):
        served = address.rsplit(".", 2)[0] if address.endswith(".https") else None
        rules = [rule for name, rule in plan.of("aws_lb_listener_rule") if served and name.startswith(f"{served}.")]
        closed = [rule for rule in rules if [action["type"] for action in rule.get("action") or []] == ["fixed-response"] and "/metrics" in json.dumps(rule.get("condition"))]
        if served and not any(rule["priority"] <= min(other["priority"] for other in rules) for rule in closed):
            yield f"{address}: forwards /metrics to the tasks: answer the path with 404, by the first rule"
    for address, after in plan.of("aws_security_group", "aws_default_security_group"):
        for rule in after.get("ingress") or []:
            yield f"{address}: has inline rules ({rule.get('from_port')}): make each a resource with a description"
    for address, after in plan.of("aws_db_instance", "aws_rds_cluster_instance"):
        yield f"{address}: is a managed database{', and public' if after.get('publicly_accessible') else ''}; this platform runs its own"
    for address, after in plan.of("aws_subnet"):
        if after.get("map_public_ip_on_launch"):
            yield f"{address}: assigns public addresses"


def places(plan, _):
    """Public subnets contain only the load balancer and NAT, and data subnets have no route to the internet."""
    for address, type, after in plan.resources:
        key, tier = STANDS.get(type, (None, None))
        if address.startswith(MONITORING) and any(name == CANARY for name, _ in plan.of("aws_vpc_security_group_egress_rule")):
            tier = "private"
        inner = after["network_configuration"][0] if type == "aws_ecs_service" else after
        found = {value for value in policies.listed(inner.get(key)) if value} if key else set()
        if found - {f"subnet-{tier}"} or key and key != "subnet_id" and not found:
            yield f"{address}: is in {found or 'no subnet'}, and belongs in the {tier} subnets"
    # A network without interface endpoints leaves through NAT, from its data subnets as well.
    isolated = any(after.get("vpc_endpoint_type") == "Interface" for _, after in plan.of("aws_vpc_endpoint"))
    for address, after in plan.of("aws_route_table_association"):
        if isolated and after.get("subnet_id") and (after["subnet_id"] == "subnet-data") != (after.get("route_table_id") == "rtb-data"):
            yield f"{address}: the data subnets, and no others, must have the route table without internet"
    for address, after in plan.of("aws_route"):
        if after.get("route_table_id") == "rtb-data" and after.get("destination_cidr_block") in ANYWHERE:
            yield f"{address}: routes from the data subnets to the internet"
    for address, after in plan.of("aws_route_table", "aws_default_route_table"):
        if after.get("route"):
            yield f"{address}: has inline routes: make each a resource"


def within(cidr, plan):
    """Whether it is of this VPC, and larger than a subnet."""
    network = ipaddress.ip_network(cidr)
    own, subnets = ([ipaddress.ip_network(after["cidr_block"]) for _, after in plan.of(type)] for type in ("aws_vpc", "aws_subnet"))
    return cidr not in ANYWHERE and any(network.overlaps(other) for other in own) and not any(network.subnet_of(subnet) for subnet in subnets)


def foreign(cidr, plan):
    """Whether it is a subnet of another VPC; this VPC's members are named by their security group."""
    network = ipaddress.ip_network(cidr)
    own = [ipaddress.ip_network(after["cidr_block"]) for _, after in plan.of("aws_vpc")]
    return network.prefixlen >= 20 and not any(network.overlaps(other) for other in own)


def identities(plan, _):
    """Each role has its boundary, and only allowed managed policies."""
    for address, after in plan.of("aws_iam_role"):
        if after.get("permissions_boundary", "known after the apply") is None:
            yield f"{address}: has no permissions boundary"
    for address, after in plan.of("aws_iam_role_policy_attachment"):
        of_aws = re.fullmatch(r"arn:aws:iam::aws:policy/(.+)", after.get("policy_arn") or "")
        if of_aws and of_aws[1] not in MANAGED | (MANAGED_EKS if address.startswith("module.api_eks[0].") else set()):
            yield f"{address}: attaches {of_aws[1]}: write a policy with the needed permissions"
    for address, type, _ in plan.resources:
        if type in ("aws_iam_user", "aws_iam_access_key"):
            yield f"{address}: long-lived keys; use roles"


def records(plan, _):
    """Logs have a retention and a key; alarms have an action."""
    for address, after in plan.of("aws_cloudwatch_log_group"):
        if not after.get("retention_in_days") or after.get("kms_key_id", "known after the apply") is None:
            yield f"{address}: a log group needs retention_in_days and kms_key_id"
    for address, after in plan.of("aws_cloudwatch_metric_alarm"):
        if after.get("actions_enabled") is False or not after.get("alarm_actions", "known after the apply"):
            yield f"{address}: the alarm has no action"
    for address, after in plan.of("aws_budgets_budget"):
        if not after.get("notification") or any(notification["threshold"] > 100 for notification in after["notification"]):
            yield f"{address}: has no notification, or only above 100 %"


def delivery(plan, _):
    """The services that send to a topic, or write a log, may use its key: otherwise no message arrives."""
    senders = {
        "cloudwatch": any(after.get("alarm_actions") != [] for _, after in plan.of("aws_cloudwatch_metric_alarm")), "logs": bool(plan.of("aws_cloudwatch_log_group")),
        "events": bool(plan.of("aws_cloudwatch_event_target")), "budgets": bool(plan.of("aws_budgets_budget")),
    }
    for address, after in plan.of("aws_kms_key"):
        if address != "module.kms.aws_kms_key.this" or not after.get("policy"):
            continue
        admitted = {service.partition(".")[0] for statement in json.loads(after["policy"])["Statement"] if statement["Effect"] == "Allow" and isinstance(statement["Principal"], dict)
                    for service in policies.listed(statement["Principal"].get("Service", []))}
        for service in sorted(service for service, sends in senders.items() if sends and service not in admitted):
            yield f"{address}: {service} sends what this key encrypts, and may not use the key: add it to `services` of the module kms"


def decryption(plan, _):
    """A node reads the backups of both regions, each with its region's key."""
    for address, after in plan.of("aws_iam_role_policy"):
        if not re.match(r"module\.postgres\.aws_iam_role_policy\.storage\[", address) or not after.get("policy"):
            continue
        by_sid = {statement["Sid"]: set(policies.listed(statement["Resource"])) for statement in json.loads(after["policy"])["Statement"] if "Resource" in statement}
        if len(by_sid["BackupKeys"]) < len(by_sid["Backups"]):
            yield f"{address}: reads {len(by_sid['Backups'])} backup buckets with {len(by_sid['BackupKeys'])} key: backups of the other region could not be decrypted"


def secrets(plan, _):
    """No secret is in the state, and each of the platform's is in both regions."""
    for address, after in plan.of("aws_secretsmanager_secret"):
        if address.startswith("module.secrets.") and not after.get("replica"):
            yield f"{address}: has no replica in the DR region, which could not be promoted without it"
    for address, type, after in plan.resources:
        for key in ("auth_token", "password", "secret_binary", "secret_string"):
            if after.get(key):
                yield f"{address}: has {key} in the state: use a write-only argument"
        if type == "aws_ssm_parameter" and after.get("type") != "String":
            yield f"{address}: a secret belongs in Secrets Manager"


def containers(plan, _):
    """Containers have a read-only root file system, and do not run as root."""
    for address, after in plan.of("aws_ecs_task_definition"):
        text = after.get("container_definitions") or ""
        for value in re.findall(r'"readonlyRootFilesystem":\s*(\w+)', text):
            if value != "true":
                yield f"{address}: a container's root file system is writable"
        if re.search(r'"privileged":\s*true|"user":\s*"(root|0)', text):
            yield f"{address}: a container runs as root"


RULES = (tags, tag_names, regions, hosts, encryption, buckets, reached, writers, exposure, places, identities, records, delivery, decryption, secrets, containers)


def judge(plan, expected):
    """The violations in a plan, and its number of resources."""
    seen = Plan(plan)
    return [finding for rule in RULES for finding in rule(seen, expected)], len(seen.resources)
