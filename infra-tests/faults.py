"""Mutation testing of the checks: injects one fault of each kind into a copy, which a check must catch: `make test-infra-faults`.

    faults.py [NAME...]     only the faults whose kind contains one of NAME

An uncaught fault fails, and so does one whose text is no longer in the file. The check's message must
name the fault, so that it is not caught for another reason.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import chart_values
import inventory
import policies
import ports
import settings
import static
import terraform
from pipelines import pipelines
from plans import planned
from terraform import ROOT, Failed
from workflow_runs import executed

POSTGRES = "infra-modules/postgres"


class Fault(NamedTuple):
    kind: str
    file: str
    was: str
    becomes: str
    by: str  # the check that must catch it
    says: str  # a pattern in its message


FAULTS = [
    Fault("open security group", f"{POSTGRES}/security.tf", "referenced_security_group_id = aws_security_group.node.id", 'cidr_ipv4 = "0.0.0.0/0"', "plan", "open to the internet"),
    Fault("open security group, as read", f"{POSTGRES}/security.tf", "  from_port                    = var.postgres_port\n  to_port                      = var.postgres_port\n  referenced_security_group_id = each.value",
          '  from_port = 22\n  to_port = 22\n  cidr_ipv4 = "0.0.0.0/0"', "checkov CKV_AWS_24", "CKV_AWS_24"),
    Fault("wrong port", f"{POSTGRES}/security.tf", "  from_port                    = var.postgres_port\n  to_port                      = var.postgres_port", "  from_port = 5433\n  to_port = 5433", "plan", "opens .5433, 5433."),
    Fault("database for the whole network", f"{POSTGRES}/security.tf", "  referenced_security_group_id = each.value", '  cidr_ipv4 = "10.1.0.0/16"', "plan", "lets 10.1.0.0/16 reach PostgreSQL"),
    Fault("database in public subnets", "infra-primary/main.tf", "subnet_ids             = module.network.subnet_ids.data", "subnet_ids = module.network.subnet_ids.public", "plan", "belongs in the data subnets"),
    Fault("internet route of the data subnets", "infra-modules/network/routes.tf", "route_table_id         = aws_route_table.public.id", "route_table_id = aws_route_table.data.id", "plan", "routes from the data subnets to the internet"),
    Fault("every port to the internet", "infra-modules/aws-egress/main.tf", 'ip_protocol                  = "tcp"\n  from_port                    = 443\n  to_port                      = 443', 'ip_protocol = "-1"', "plan", "a rule names one port"),
    Fault("role without a boundary", f"{POSTGRES}/iam.tf", r"  permissions_boundary = var.permissions_boundary\n", "", "plan", "has no permissions boundary"),
    Fault("all of S3", f"{POSTGRES}/iam.tf", "AmazonSSMManagedInstanceCore", "AmazonS3FullAccess", "plan", "attaches AmazonS3FullAccess"),
    Fault("lock that can be undone", f"{POSTGRES}/iam.tf", 'actions   = ["s3:GetObject", "s3:PutObject"]', 'actions   = ["s3:PutObjectRetention"]', "plan", "which is never granted"),
    Fault("alarm without an action", "infra-modules/observability/alarms.tf", "alarm_actions       = local.topic", "alarm_actions = []", "plan", "the alarm has no action"),
    Fault("lease lost with another zone", "infra-primary/variables.tf", "none = 0, one = 1, two", "none = 0, one = 3, two", "test infra-primary", "endpoints_in_one_zone_while_failover_is_automatic"),
    Fault("IOPS beyond the instance", "infra-primary/examples/production.tfvars", "data_volume = { size_gib = 500 }", "data_volume = { size_gib = 500, iops = 12000 }", "plan", "sustains 6000"),
    Fault("expirer that reads", "infra-modules/backup-storage/expirer.tf", '= "s3:DeleteObject"', '= ["s3:DeleteObject", "s3:GetObject"]', "test infra-modules/backup-storage", "neither read nor delete a version"),
    Fault("expirer that deletes versions", "infra-modules/backup-storage/expirer.tf", '= "s3:DeleteObject"', '= "s3:DeleteObjectVersion"', "plan", "which is never granted"),
    Fault("volume that is not priced", "infra-primary/examples/production.tfvars", "wal_volume  = { size_gib = 50 }", "wal_volume  = { size_gib = 500 }", "plan", "`gp3 storage` is 1170 for production"),
    Fault("network typed twice", "infra-dr/main.tf", "= local.primary.cidrs.dr", '= "10.3.0.0/16"', "test infra-dr", "must be those of infra-primary"),
    Fault("image of a lost region", "infra-dr/main.tf", '"${local.image_repository}${local.primary', '"${replace(local.image_repository, var.regions.dr, var.regions.primary)}${local.primary', "test infra-dr", "no task could start without that region"),
    Fault("log that EventBridge cannot open", "infra-modules/observability/health_events.tf", 'actions   = ["logs:PutLogEvents"]', 'actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]', "test infra-modules/observability", "create its log stream"),
    Fault("log without a retention", "infra-modules/api-ecs/main.tf", "  retention_in_days = var.log_retention_days\n", "", "plan", "a log group needs retention_in_days"),
    Fault("bucket destroyed with its content", "infra-modules/backup-storage/main.tf", "  object_lock_enabled = true", "  object_lock_enabled = true\n  force_destroy = true", "plan", "no force_destroy"),
    Fault("bucket without TLS", "infra-modules/lease-storage/policy.tf", '"aws:SecureTransport" = "false"', '"aws:SecureTransport" = "true"', "plan", "admits requests without TLS"),
    Fault("token of any job", "infra-bootstrap/github.tf", ":${context}\"", ":*\"", "plan infra-bootstrap account", "all of its `sub`"),
    Fault("any role passed", "infra-bootstrap/policies.tf", r'(actions   = \["iam:PassRole"\]\n    resources = )\[[^\n]+', r'\1["*"]', "plan infra-bootstrap account", "passes any role"),
    Fault("public database", f"{POSTGRES}/instances.tf", r"associate_public_ip_address( +)= false", "associate_public_ip_address = true", "plan", "public address"),
    Fault("IMDSv1", f"{POSTGRES}/instances.tf", 'http_tokens                 = "required"', 'http_tokens = "optional"', "plan", "IMDSv1"),
    Fault("unencrypted volume", f"{POSTGRES}/volumes.tf", "encrypted         = true", "encrypted = false", "plan", "is not encrypted"),
    Fault("unencrypted cache", "infra-modules/cache/main.tf", "transit_encryption_enabled = true", "transit_encryption_enabled = false", "plan", "aws_elasticache_replication_group"),
    Fault("`*` action", f"{POSTGRES}/iam.tf", 'actions   = ["s3:GetObject", "s3:PutObject"]', 'actions   = ["*"]', "plan", "grants `.`"),
    Fault("action of a whole service", f"{POSTGRES}/iam.tf", 'actions   = ["s3:GetObject", "s3:PutObject"]', 'actions   = ["s3:*"]', "plan", "grants `s3:.`"),
    Fault("misspelt action", f"{POSTGRES}/iam.tf", 'actions   = ["s3:GetObject", "s3:PutObject"]', 'actions   = ["s3:GetObjekt", "s3:PutObject"]', "plan", "UNKNOWN_ACTION.*GetObjekt"),
    Fault("missing tag", "infra-primary/providers.tf", "environment = var.environment, ", "", "plan", "its tag `environment`"),
    Fault("wrong region", "infra-primary/providers.tf", "region = var.regions.lease", 'region = "us-east-1"', "plan", "is in us-east-1"),
    Fault("open bucket", "infra-modules/backup-storage/main.tf", "block_public_policy     = true", "block_public_policy = false", "plan", "aws_s3_bucket_public_access_block"),
    Fault("endpoint for every account", "infra-modules/network/endpoint_policy.tf", '    Condition = { StringEquals = { "aws:PrincipalAccount" = local.account } }\n', "", "plan", r"aws_vpc_endpoint\S+ grants `\*`"),
    Fault("node outside of the bucket policies", f"{POSTGRES}/iam.tf", '"${var.name}-postgres-${each.key}"', '"${var.name}-database-${each.key}"', "plan", r"DenyOtherWriters takes role/\S+ for no node"),
    Fault("secret in the state", "infra-modules/parameters/main.tf", 'type           = "String"', 'type = "SecureString"', "plan", "belongs in Secrets Manager"),
    Fault("container that writes", "infra-modules/api-ecs/task.tf", "readonlyRootFilesystem = true", "readonlyRootFilesystem = false", "test infra-modules/api-ecs", "."),
    Fault("volume that may be destroyed", f"{POSTGRES}/volumes.tf", "prevent_destroy = true", "prevent_destroy = false", "lifecycles", "aws_ebs_volume.this has prevent_destroy = false, expected"),
    Fault("tasks counted by two", "infra-modules/api-ecs/service.tf", "[desired_count, task_definition]", "[task_definition]", "lifecycles", "aws_ecs_service.this has ignore_changes"),
    Fault("lock files ignored", ".gitignore", ".terraform/\n", ".terraform/\n.terraform.lock.hcl\n", "backends", "excludes the lock files"),
    Fault("another account's buckets", "infra-bootstrap/organization/resource-control-policy.json", '"s3:*"', '"s3:GetObject"', "organization", "lacks .'s3:"),
    Fault("example's repository", "infra-bootstrap/variables.tf", '"^example(@[0-9]+)?/"', '"^exemple/"', "test infra-bootstrap", "repository_of_the_example"),
    Fault("records of another environment", "infra-bootstrap/policies.tf", "ForAllValues:StringLike", "ForAnyValue:StringLike", "test infra-bootstrap", "records of its environment only"),
    Fault("records of a zone below", "infra-bootstrap/policies.tf", "  source_policy_documents = local.no_record_of_another[each.key]\n\n", "", "test infra-bootstrap", "neither apply nor a workload"),
    Fault("an example applied", "infra-bootstrap/README.md", "-var-file=environments/account.tfvars", "-var-file=examples/account.tfvars", "commands", "applies an example"),
    Fault("unknown setting", "infra-modules/settings/failover-ctl.toml.tftpl", "[ec2]", "[ec3]", "settings", "ec3 is in no example"),
    Fault("bad argument", "infra-modules/kms/main.tf", "enable_key_rotation     = true", "enable_key_rotate = true", "validate infra-modules/kms", "Unsupported argument"),
    Fault("no rotation of a key", "infra-modules/kms/main.tf", "enable_key_rotation     = true", "enable_key_rotation = false", "checkov CKV_AWS_7", "CKV_AWS_7"),
    Fault("metrics on the public port", "infra-modules/api-ecs/task.tf", '      METRICS_LISTEN   = "0.0.0.0:${local.metrics_port}"\n', "", "test infra-modules/api-ecs", "metrics_are_for_monitoring_alone"),
    Fault("metrics forwarded by the load balancer", "infra-modules/api-ecs/load_balancer.tf", 'values = ["/metrics", "/metrics/*"]', 'values = ["/status"]', "plan", "forwards /metrics"),
    Fault("HTTPS to every address", "infra-modules/aws-egress/main.tf", "  referenced_security_group_id = var.aws_access.endpoint_security_group_id", '  cidr_ipv4 = "0.0.0.0/0"', "plan", "allows 443 to every address"),
    Fault("every name resolved", "infra-modules/network/dns_firewall.tf", 'action                  = "BLOCK"', 'action                  = "ALERT"', "test infra-modules/network", "carries data out"),
    Fault("image pushed from a host", "infra-modules/network/endpoint_policy.tf", '"ecr:BatchGetImage", ', '"ecr:BatchGetImage", "ecr:PutImage", ', "test infra-modules/network", "push an image"),
    Fault("revision deregistered", "infra-modules/api-ecs/task.tf", "  skip_destroy = true\n", "", "test infra-modules/api-ecs", "previous_revisions_stay_active"),
    Fault("public name without an alarm", "infra-modules/dns-region/alarm.tf", "[aws_sns_topic.health_check[0].arn]", "[]", "plan", "the alarm has no action"),
    Fault("input that no root sets", "infra-primary/main.tf", "  ttl_secs           = var.dns.ttl_secs\n", "", "reachable", "no root sets `ttl_secs`"),
    Fault("skip without a reason", "infra-modules/api-ecs/security.tf", ": port 80 only redirects to 443", "", "checkov CKV_AWS_7", "a skip without a reason"),
    Fault("unformatted file", "infra-modules/kms/main.tf", "enable_key_rotation     = true", "enable_key_rotation = true", "fmt", "enable_key_rotation"),
    Fault("root container, image", "Dockerfile", "USER 65532:65532", "USER root", "hadolint", "DL3002"),
    Fault("root container, chart", "charts/api/templates/_pod.tpl", "runAsNonRoot: true\nrunAsUser: 65532", "runAsNonRoot: false\nrunAsUser: 0", "chart", "."),
    Fault("privileged container, chart", "charts/api/templates/_pod.tpl", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: false\nprivileged: true", "chart", "securityContext is not"),
    Fault("migration after the release", "charts/api/templates/migration.yaml", "pre-install,pre-upgrade", "post-install,post-upgrade", "chart", "does not run before"),
    Fault("ineffective value, chart", "charts/api/templates/servicemonitor.yaml", "scrapeTimeout: {{ .scrapeTimeout }}", "scrapeTimeout: 10s", "chart", "no ServiceMonitor has"),
    Fault("chart values that do not install", "infra-modules/api-eks/chart.tf", 'pathType = "Prefix"', 'pathType = "prefix"', "values", "the chart rejects chart_values.*pathType"),
    Fault("controller of every cluster", "infra-modules/api-eks/controllers.tf", 'variable = "aws:RequestTag/${local.ownership}"', 'variable = "aws:RequestTag/Name"', "test infra-modules/api-eks", "only what has the tag of its cluster"),
    Fault("tag of another spelling", "infra-modules/postgres/volumes.tf", "    Purpose = each", "    purpose = each", "plan", "has the tag `purpose`"),
    Fault("every bucket of the account", "infra-modules/network/endpoint_policy.tf", 'for bucket in sort(var.bucket_names)', 'for bucket in ["*"]', "plan", "admits every bucket|does not admit the bucket"),
    Fault("drill host left running", "scripts/deploy/restore-drill", r"trap 'aws ec2 stop-instances[^\n]*", "", "executed", "starts and stops the host"),
    Fault("SSH on every address", "infra-modules/postgres/cloud-init.yaml", "      ListenAddress 127.0.0.1\n", "", "test infra-modules/postgres", "must listen on loopback"),
    Fault("key of another user", "infra-bootstrap/ssm_access.tf", "values   = [local.host_user]", 'values   = ["*"]', "test infra-bootstrap", "for the administrator"),
    Fault("port of a role that moved", "ansible/roles/pooler/defaults/main.yml", "pooler_port: 6432", "pooler_port: 6433", "ports", "has no ingress rule `pooler` for 6433"),
    Fault("role on a port that no rule admits", "ansible/roles/node_exporter/defaults/main.yml", "node_exporter_port: 9100", "node_exporter_port: 9100\nnode_exporter_debug_port: 9101", "ports", "node_exporter_debug_port.: a role listens on 9101"),
    Fault("pooler's port without a pooler", f"{POSTGRES}/security.tf", "for_each = var.pooler ? var.api_security_group_ids : {}", "for_each = var.api_security_group_ids", "ports", "without a pooler: module.postgres.. admits"),
    Fault("Alertmanagers that are not peers", "infra-primary/main.tf", "  peer_addresses       = local.dr.monitoring[*].address\n", "", "ports", "has no ingress rule `peer` for 9094"),
    Fault("renamed tag", "infra-modules/postgres/instances.tf", '    Role    = "postgres"', '    Role    = "database"', "inventory", "no hosts for the inventory|hosts of the inventory"),
    Fault("renamed address", "infra-modules/postgres/instances.tf", "    Address = ", "    Fqdn = ", "inventory", "the name in its certificate"),
    Fault("other device of the WAL", "infra-modules/postgres/volumes.tf", "/dev/sdg", "/dev/sdh", "inventory", "'wal_volume_id': ''"),
    Fault("hosts of every environment", "ansible/inventories/example/eu-west-1.aws_ec2.yml", "  tag:environment: production\n", "", "inventory", "hosts of the inventory"),
    Fault("role outside of the boundary", "infra-bootstrap/boundaries.tf", 'actions   = ["iam:CreateServiceLinkedRole"]', 'actions   = ["iam:GetRole"]', "plan infra-primary eks", "grants `iam:CreateServiceLinkedRole`, outside"),
    Fault("unpinned action", ".github/workflows/pull-request.yml", r"actions/checkout@[0-9a-f]{40}", "actions/checkout@v4", "zizmor", "unpinned-uses"),
    Fault("all permissions for a workflow", ".github/workflows/deploy.yml", "permissions: {}", "permissions: write-all", "zizmor", "excessive-permissions"),
    Fault("apply without an approval", ".github/workflows/infrastructure-apply.yml", r"    environment: \$\{\{ inputs.environment }}-infra\n    permissions", "    permissions", "pipelines", "outside an environment, without an approval"),
    Fault("production before staging", ".github/workflows/deploy.yml", "    needs: first\n", "", "pipelines", "does not wait for the first"),
    Fault("one environment for two roles", ".github/workflows/ansible.yml", "inputs.environment }}-hosts", "inputs.environment }}", "pipelines", "takes OPERATE_ROLE in"),
    Fault("an environment by name", ".github/workflows/drift.yml", r"environment: \$\{\{ fromJSON\(vars.ENVIRONMENTS\) }}", "environment: [staging, production]", "pipelines", "are in the variable ENVIRONMENTS"),
    Fault("plan into a directory that nothing makes", "scripts/deploy/infra", """        mkdir -p "$(dirname "$plan")"\n""", "", "executed", "Failed to write plan file"),
    Fault("primary region not applied again", ".github/workflows/infrastructure-environment.yml", r"  primary-again:(.|\n)*", "", "executed", "infrastructure.yml on push applies"),
    Fault("two artifacts of one name", ".github/workflows/infrastructure-environment.yml", ", round: second", "", "executed", "GitHub refuses a second"),
    Fault("call that its role may not make", "infra-bootstrap/policies.tf", '"ecs:DescribeServiceDeployments", ', "", "executed", "calls ecs:DescribeServiceDeployments, which"),
    Fault("release that outlives its credentials", ".github/workflows/deploy-environment.yml", "DEPLOY_TIMEOUT: 480", "DEPLOY_TIMEOUT: 1700", "pipelines", "bake_time_minutes, DEPLOY_TIMEOUT and the session must fit"),
    Fault("role without its environment", ".github/workflows/release.yml", "    environment: release\n", "    environment: restore-drill\n", "executed", "no role or no region"),
    Fault("shell in the image", "Dockerfile", "FROM scratch\nARG VERSION", "FROM debian:12\nARG VERSION", "image", "begins as scratch"),
    Fault("mistyped expression", ".github/workflows/pull-request.yml", r"matrix\.target }}", "matrix.targets }}", "actionlint", 'property "targets" is not defined'),
]

SAMPLE = {"open security group", "wrong port", "public database", "unencrypted volume", "`*` action", "missing tag"}


def caught(fault, tree, env):
    """The check's message about the fault, or an empty string."""
    name, _, argument = fault.by.partition(" ")
    try:
        match name:
            case "plan":
                root, _, example = (argument or "infra-primary production").partition(" ")
                planned(tree, root, example, env)
            case "test":
                terraform.test(tree, argument, env)
            case "validate":
                terraform.validate(tree, argument, env)
            case "values":
                chart_values.check(tree, env)
            case "inventory":
                inventory.check(tree, env)
            case "ports":
                ports.check(tree, env)
            case "settings":
                settings.check(tree, env)
            case "fmt":
                terraform.formatted(tree)
            case "pipelines":
                pipelines(tree)
            case "organization":
                policies.organization(tree)
            case "executed":
                executed(tree)
            case "checkov":
                static.checkov(tree, argument.split())
            case _:
                getattr(static, name)(tree)
    except Failed as failed:
        return str(failed)
    return ""


def plant(fault, tree):
    """Changes the first occurrence; returns the file and its original text."""
    path = tree / fault.file
    text = path.read_text()
    changed = text.replace(fault.was, fault.becomes, 1) if fault.was in text else re.sub(fault.was, fault.becomes, text, count=1)
    if changed == text:
        raise Failed(f"{fault.file} no longer contains its text: change the table in infra-tests/faults.py")
    path.write_text(changed)
    return path, text


def missed(chosen, env, tell):
    """Injects each fault into a copy, one after the other; returns the number of uncaught ones."""
    count = 0
    with tempfile.TemporaryDirectory() as scratch:
        tree = terraform.copy(ROOT, Path(scratch))
        for fault in chosen:
            try:
                path, text = plant(fault, tree)
                said = caught(fault, tree, env)
                path.write_text(text)
                found = re.search(fault.says, said, re.DOTALL)
                result = "caught" if found else f"NOT CAUGHT: {said[:600] or 'the check passed'}"
            except Failed as failed:
                found, result = None, f"NOT INJECTED: {failed}"
            count += not found
            tell(f"| {fault.kind} | {fault.by} | {result} |")
    return count


def sample(env):
    """A sample of the costliest faults, for `make test-infra`."""
    chosen = [fault for fault in FAULTS if fault.kind in SAMPLE]
    told = []
    if missed(chosen, env, told.append) or len(chosen) != len(SAMPLE):
        raise Failed("\n".join(told))
    return len(chosen)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names
    began = time.monotonic()
    try:
        env, which = terraform.environment()
    except Failed as failed:
        sys.exit(f"test-infra-faults: {failed}")
    print(f"with {which}\n\n| fault | caught by | |\n|---|---|---|", flush=True)
    chosen = [fault for fault in FAULTS if not names or any(name in fault.kind for name in names)]
    failed = missed(chosen, env, lambda line: print(line, flush=True))
    print(f"\n{len(chosen) - failed} of {len(chosen)} faults caught, in {time.monotonic() - began:.0f} s")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
