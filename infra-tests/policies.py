"""Checks every IAM policy in Terraform's plans, with parliament and with rules beyond parliament.

A policy is complete if the plan has its text. If a part is known only after the apply, it is
assembled from its `aws_iam_policy_document`, with a placeholder for each unknown resource.
"""

import json
import re
import warnings
from fnmatch import fnmatchcase

from terraform import Failed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import parliament

# Ignored findings of parliament.
IGNORED = {
    "RESOURCE_STAR",  # checkov finds it too, with a reason for each skip
    "RESOURCE_POLICY_PRIVILEGE_ESCALATION",  # the apply role writes bucket policies; its boundary limits it
}
# Actions whose resource types parliament's table lacks, or requires all in one statement.
WITH_RESOURCE = {"ec2:CreateSecurityGroup", "logs:DescribeLogGroups", "ssm:SendCommand", "ssmmessages:OpenDataChannel"}
# Actions that bypass object lock or create long-lived keys. Never granted.
NEVER = {"iam:CreateAccessKey", "iam:CreateUser", "s3:BypassGovernanceRetention", "s3:DeleteObjectVersion", "s3:PutObjectLegalHold", "s3:PutObjectRetention"}
# Actions that read secrets or data, or stop hosts. They name their resources, or a condition does.
NAMED = {"ec2:StopInstances", "kms:Decrypt", "s3:GetObject", "s3:PutObject", "secretsmanager:GetSecretValue", "sts:AssumeRole"}
UNKNOWN = "(known after apply)"
LONGEST = 6144  # characters in a managed policy, without whitespace


def listed(value):
    return value if isinstance(value, list) else [value]


def documents(plan):
    """Each policy of a plan: its address and document."""
    for change in plan["resource_changes"]:
        after = change["change"]["after"] or {}
        if change["type"] == "aws_iam_policy_document":
            yield change["address"], assembled(after)
            continue
        for name, value in strings(after):
            if isinstance(value, str) and value.startswith("{") and '"Statement"' in value:
                yield f"{change['address']}.{name}", json.loads(value)


ALWAYS = {
    "aws_cloudwatch_log_resource_policy": "policy_document", "aws_iam_policy": "policy", "aws_iam_role": "assume_role_policy", "aws_iam_role_policy": "policy",
    "aws_kms_key": "policy", "aws_s3_bucket_policy": "policy", "aws_sns_topic_policy": "policy",
}


def unseen(plan):
    """Policies that are known only after the apply, in a module without a document to assemble them from."""
    modules = {change.get("module_address") for change in plan["resource_changes"] if change["type"] == "aws_iam_policy_document"}
    for change in plan["resource_changes"]:
        name = ALWAYS.get(change["type"])
        if name and change["change"]["after"] and (change["change"].get("after_unknown") or {}).get(name) and change.get("module_address") not in modules:
            yield f"{change['address']}.{name}: unknown before the apply: override its dependencies in tests/examples, or write it as an aws_iam_policy_document"


def strings(value, path=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, path)
    else:
        yield path, value


def assembled(document):
    statements = []
    for statement in document.get("statement") or []:
        made = {"Sid": statement.get("sid") or "", "Effect": statement.get("effect") or "Allow"}
        for key, name in (("Action", "actions"), ("NotAction", "not_actions"), ("Resource", "resources"), ("NotResource", "not_resources")):
            values = [value or UNKNOWN for value in statement.get(name) or []]
            if values:
                made[key] = values
        if not statement.get("principals") and not {"Resource", "NotResource"} & made.keys():
            made["Resource"] = [UNKNOWN]  # the list is
        if statement.get("principals"):
            made["Principal"] = {p["type"]: p.get("identifiers") or [UNKNOWN] for p in statement["principals"]}
        conditions = {}
        for c in statement.get("condition") or []:
            conditions.setdefault(c["test"], {})[c["variable"]] = [value or UNKNOWN for value in c.get("values") or [UNKNOWN]]
        if conditions:
            made["Condition"] = conditions
        statements.append(made)
    return {"Version": "2012-10-17", "Statement": statements}


def granted(where, policy):
    """Grants that are too wide, beyond parliament's rules."""
    for statement in listed(policy["Statement"]):
        if statement["Effect"] != "Allow" or statement.get("Sid") == "MaximumPermissions" and "boundary" in where:
            continue
        # An endpoint policy grants nothing: it admits grants of other policies, for this account's principals.
        passage = ".aws_vpc_endpoint." in where
        own_callers = passage and "aws:PrincipalAccount" in statement.get("Condition", {}).get("StringEquals", {})
        if "NotAction" in statement:
            yield f"{where}: grants everything but {statement['NotAction']}: name the actions"
        for action in listed(statement.get("Action", [])):
            # In a key policy, the account administers the key.
            own = "Principal" in statement and action == "kms:*" and listed(statement.get("Resource")) == ["*"]
            if not own and not own_callers and (action == "*" or action.endswith(":*")):
                yield f"{where}: grants `{action}`: name the actions"
            if action in NEVER:
                yield f"{where}: grants `{action}`, which is never granted"
            if action in NAMED and not {"Principal", "Condition"} & statement.keys() and not passage and "*" in listed(statement.get("Resource", [])):
                yield f"{where}: grants `{action}` on every resource: name the resources, or add a condition"
            if action == "iam:PassRole" and ("*" in listed(statement.get("Resource", "*")) or "iam:PassedToService" not in variables(statement)):
                yield f"{where}: passes any role, or to any service: name the roles, and iam:PassedToService"
        if isinstance(statement.get("Principal"), dict) and "Federated" in statement["Principal"]:
            equal = statement.get("Condition", {}).get("StringEquals", {})
            for claim in (":aud", ":sub"):
                values = [value for key, value in equal.items() if key.endswith(claim) for value in listed(value)]
                if not values or any("*" in value for value in values):
                    yield f"{where}: accepts a token without comparing all of its `{claim[1:]}`"
        # An endpoint may admit every principal to read public objects, and to assume a role with a web identity.
        without_account = passage and listed(statement.get("Action")) in (["s3:GetObject"], ["sts:AssumeRoleWithWebIdentity"])
        principal = statement.get("Principal")
        if (principal == "*" or isinstance(principal, dict) and "*" in listed(principal.get("AWS", []))) and "Condition" not in statement and not without_account:
            yield f"{where}: grants {statement.get('Action')} to every principal"


def boundary(tree):
    """The actions that infra-bootstrap's boundary of the workloads admits, as patterns."""
    text = (tree / "infra-bootstrap/boundaries.tf").read_text()
    document = re.search(r'^data "aws_iam_policy_document" "workload_boundary" \{\n(.*?)^\}', text, re.M | re.S)[1]
    blocks = re.findall(r"^  statement \{\n(.*?)^  \}", document, re.M | re.S)
    allowed = [re.search(r"actions += \[(.*?)\]", block, re.S)[1] for block in blocks if "Deny" not in block]
    return {action.lower() for actions in allowed for action in re.findall(r'"([^"]+)"', actions)}


def outside(admitted, plan):
    """Granted actions that the workloads' boundary does not admit: a role with them could do nothing of it."""
    found = set()
    for where, policy in documents(plan):
        for statement in listed(policy["Statement"]):
            # A policy with principals is of a resource, and limited by the roles of its callers.
            if statement["Effect"] == "Allow" and "Principal" not in statement:
                actions = [action for action in listed(statement.get("Action", [])) if not any(fnmatchcase(action.lower(), pattern) for pattern in admitted)]
                found |= {f"{where}: grants `{action}`, outside of the workloads' boundary: add it to infra-bootstrap/boundaries.tf" for action in actions}
    return sorted(found)


def variables(statement):
    return {key for keys in statement.get("Condition", {}).values() for key in keys}


def over_tls(where, policy):
    """A bucket policy denies every request without TLS."""
    whole = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    if ".aws_s3_bucket_policy." in f".{where}" and not any(whole.items() <= statement.items() and len(listed(statement["Resource"])) == 2 for statement in listed(policy["Statement"])):
        yield f"{where}: admits requests without TLS"


def judged(where, policy):
    """Parliament's findings, after converting the policy to the form that it supports."""
    copy = json.loads(json.dumps(policy))
    for statement in listed(copy["Statement"]):
        if "Principal" in statement:
            statement.pop("Principal")
            if "NotResource" not in statement:
                statement.setdefault("Resource", "*")
        if "Resource" in statement and all(value in ("*", UNKNOWN) for value in listed(statement["Resource"])):
            statement["Resource"] = "*"
        elif "Resource" in statement:
            # Public SSM documents have no account in their ARN, which parliament requires.
            statement["Resource"] = ["*" if value == UNKNOWN else re.sub(r"^(arn:\w+:ssm:[^:]+)::", r"\1:*:", value) for value in listed(statement["Resource"])]
        # parliament reads one value as a scalar, and lacks the condition keys of identity providers and
        # encryption contexts.
        statement["Condition"] = {
            operator: {key: listed(value)[0] if len(listed(value)) == 1 else value for key, value in keys.items()
                       if UNKNOWN not in listed(value) and "." not in key.split(":")[0] and "EncryptionContext" not in key}
            for operator, keys in statement.get("Condition", {}).items()
        }
    for finding in parliament.analyze_policy_string(json.dumps(copy)).findings:
        if finding.issue == "RESOURCE_MISMATCH" and all(detail["action"] in WITH_RESOURCE for detail in finding.detail):
            continue
        if finding.issue not in IGNORED:
            yield f"{where}: {finding.issue} {finding.detail}"


def organization(tree):
    """The policy for the organisation is a valid one: it only denies, and covers what `apply` writes policies of."""
    path = tree / "infra-bootstrap/organization/resource-control-policy.json"
    text = path.read_text()
    statements = json.loads(text)["Statement"]
    denied = {action for statement in statements for action in listed(statement["Action"])}
    for statement in statements:
        if statement["Effect"] != "Deny" or statement["Principal"] != "*" or "aws:PrincipalOrgID" not in statement["Condition"].get("StringNotEqualsIfExists", {}):
            raise Failed(f"{path.name}: a resource control policy denies to everybody outside of the organisation: {statement}")
        if statement["Condition"].get("BoolIfExists") != {"aws:PrincipalIsAWSService": "false"}:
            raise Failed(f"{path.name}: AWS's own services are outside of the organisation, and must be admitted")
    missing = {"kms:*", "s3:*", "secretsmanager:*", "sts:AssumeRole"} - denied
    if missing or "sts:AssumeRoleWithWebIdentity" in denied or len(text) > 5120:
        raise Failed(f"{path.name}: lacks {sorted(missing)}, denies GitHub's jobs, or is longer than 5,120 characters")
    return len(statements)


def judge(plan):
    """The violations in the policies of a plan, and the number of distinct policies."""
    seen, wrong = set(), set(unseen(plan))
    for where, policy in documents(plan):
        text = json.dumps(policy, sort_keys=True)
        if text in seen or not policy["Statement"]:
            continue
        seen.add(text)
        wrong.update(granted(where, policy))
        wrong.update(over_tls(where, policy))
        wrong.update(judged(where, policy))
        compact = len(json.dumps(policy, separators=(",", ":")))
        if compact > LONGEST and not any("Principal" in statement for statement in listed(policy["Statement"])):
            wrong.add(f"{where}: {compact} characters, and a managed policy has at most {LONGEST}: divide it")
    return sorted(wrong), len(seen)
