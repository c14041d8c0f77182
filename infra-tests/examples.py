"""The examples of the roots, planned: every resource and policy of their plans, the costs that the documentation gives, and what
production needs."""

import csv
import re

import policies
import terraform
from plans import MONITORING, Plan, judge
from terraform import Failed

# Of a drill host in a month: scripts/deploy/restore-drill stops the host, and a drill is to end within an hour.
DRILL_HOURS = 31


def quantities(plan):
    """The hours and GiB of a plan that docs/reference/cost prices: of instances by type, NAT gateways, endpoints, volumes."""
    found = {"NAT gateway": 730 * len(plan.of("aws_nat_gateway")), "gp3 storage": 0}
    for _, after in plan.of("aws_instance"):
        hours = DRILL_HOURS if after["tags"]["Role"] == "restore-drill" else 730
        found[after["instance_type"]] = found.get(after["instance_type"], 0) + hours
        found["gp3 storage"] += after["root_block_device"][0]["volume_size"]
    found["gp3 storage"] += sum(after["size"] for _, after in plan.of("aws_ebs_volume"))
    # The subnets, and so the zones, of most endpoints are unknown before the apply.
    found["interface endpoint"] = 730 * sum(after.get("vpc_endpoint_type") == "Interface" for _, after in plan.of("aws_vpc_endpoint"))
    return found


def costs(plan, tree, root, example):
    """The quantities of docs/reference/cost are those of the plan."""
    region = {"infra-primary": "eu-west-1", "infra-dr": "eu-central-1"}.get(root)
    priced = {}
    with open(tree / "docs/reference/cost/quantities.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["region"] == region and row.get(example):
                # scripts/cost admits arithmetic only.
                priced[row["price"]] = priced.get(row["price"], 0) + eval(row[example], {"__builtins__": {}})
    for name, found in quantities(plan).items() if region and priced else ():
        said = priced.get(name, 0)
        if name == "interface endpoint" and found and said in (found, 2 * found, 3 * found):
            continue  # in one, two or three zones
        if said != found:
            yield f"docs/reference/cost/quantities.csv: `{name}` is {said:g} for {example} in {region}, and the plan has {found}"


def production(plan):
    """The example of production is protected: operators copy it."""
    for address, after in plan.of("aws_lb"):
        if not after.get("enable_deletion_protection"):
            yield f"{address}: the example of production has no deletion protection"
        if not plan.of("aws_wafv2_web_acl_association"):
            yield f"{address}: the example of production has no WAF"
    for address, after in plan.of("aws_instance"):
        if address.startswith("module.postgres.") and not after.get("disable_api_termination"):
            yield f"{address}: the example of production has nodes that one call terminates"
    if not plan.of("aws_instance") or not plan.of("aws_lb") or not any(address.startswith(MONITORING) for address, _ in plan.of("aws_instance")):
        yield "the example of production has no nodes, no load balancer, or no monitoring host"


def expectations(root, example):
    """The tags and regions that an example's variables imply."""
    text = example.read_text()
    said = dict(re.findall(r'^(project|environment|owner) += "([^"]+)"', text, re.M))
    third = "state" if root == "infra-bootstrap" else "lease"
    roles = {"eu-west-1": "primary", "eu-central-1": "dr", "eu-north-1": third}
    if root == "infra-bootstrap":
        said["environment"] = "shared"
        roles = {region: "state" for region in roles}
    return {"project": "causeway", **said, "roles": roles}


def planned(tree, root, example, env):
    """Plans an example, and checks every resource and policy in the plan."""
    made = terraform.plan(tree, root, example, env)
    wrong, found = policies.judge(made)
    if root != "infra-bootstrap":
        wrong += policies.outside(policies.boundary(tree), made)
    more, resources = judge(made, expectations(root, tree / root / "examples" / f"{example}.tfvars"))
    wrong += [*more, *costs(Plan(made), tree, root, example), *(production(Plan(made)) if example == "production" else ())]
    if wrong:
        raise Failed("\n".join(wrong))
    if not found or not resources:
        raise Failed("the plan is empty")
    return 1, f"run passed; {resources} resources and {found} policies checked"
