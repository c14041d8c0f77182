"""Ports on which Ansible's roles listen, against the security groups of Terraform's plans: each host admits the ports of its own
roles, from the hosts that connect to them, and no other port. Production is planned in both regions, as it is, and with a pooler and
the API's canary, which has a way to the API.
"""

import ipaddress
import re
import tempfile
from pathlib import Path

import yaml

import terraform
from plans import ANYWHERE, CANARY, MONITORING, Plan, exposure, places
from terraform import Failed

ROOTS = ("infra-primary", "infra-dr")
# Terraform's module of the hosts in a group of the inventory.
MODULES = {"postgres": "module.postgres.", "pooler": "module.postgres.", "monitoring": MONITORING, "restore_drill": "module.drill_host[0]."}
# A port to which a role only connects, and the module that listens there.
ELSEWHERE = {"prometheus_ecs_port": "module.api_ecs[0]."}
# Who connects, by the rules' names. Prometheus connects to the ports of its jobs.
CLIENTS = {"causeway_postgres_port": {"api", "node", "peer"}, "causeway_agent_port": {"node", "peer"}, "pooler_port": {"pooler", "pooler_client"}, "alertmanager_cluster_port": {"peer"}}
PROTOCOLS = {"alertmanager_cluster_port": {"tcp", "udp"}}


def imported_roles(tasks):
    """The roles that a role imports whole, by its file of tasks."""
    if not tasks.exists():
        return []
    imports = [task["ansible.builtin.import_role"] for task in yaml.safe_load(tasks.read_text()) if "ansible.builtin.import_role" in task]
    return [role["name"] for role in imports if "tasks_from" not in role]


class Roles:
    """What the roles' defaults say of ports."""

    def __init__(self, tree):
        runs_on = {}
        for play in yaml.safe_load((tree / "ansible/site.yml").read_text()):
            for role in play.get("roles", ()):
                runs_on.setdefault(role, set()).add(play["hosts"].partition(":")[0])
        for role in list(runs_on):
            for imported in imported_roles(tree / "ansible/roles" / role / "tasks/main.yml"):
                runs_on.setdefault(imported, set()).update(runs_on[role])
        self.ports, self.groups = {}, {}
        for file in sorted((tree / "ansible/roles").glob("*/defaults/main.yml")):
            values = yaml.safe_load(file.read_text())
            for name, port in values.items():
                if name.endswith("_port") and isinstance(port, int):
                    loopback = str(values.get(name.removesuffix("port") + "address", "")).startswith("127.")
                    self.ports[name] = port
                    self.groups[name] = set() if loopback or name in ELSEWHERE else runs_on[file.parent.parent.name]
        jobs = yaml.safe_load((tree / "ansible/roles/prometheus/defaults/main.yml").read_text())["prometheus_jobs"]
        # Groups of the inventory, by the variable of the port.
        self.scraped = {}
        for job in jobs:
            self.scraped.setdefault(re.search(r"\w+_port", job["port"])[0], set()).update(re.findall(r"groups\['(\w+)'\]", job["hosts"]))

    def unknown(self):
        for name, groups in self.groups.items():
            if groups and name not in self.scraped and name not in CLIENTS:
                yield f"`{name}`: a role listens on {self.ports[name]}: name who connects in CLIENTS of ports.py, or bind the port to loopback"
        for name, groups in self.scraped.items():
            for group in sorted(groups - self.groups[name]):
                yield f"`{name}`: Prometheus scrapes {self.ports[name]} of the group {group}, where no role of site.yml listens"

    def listening(self, group):
        return {name for name, groups in self.groups.items() if group in groups}


class Rules:
    """Rules of a plan's security groups: `ingress` or `egress`."""

    def __init__(self, plan, kind):
        self.found = plan.of(f"aws_vpc_security_group_{kind}_rule")

    def of(self, module, port):
        return [(address, after) for address, after in self.found if address.startswith(module) and after["from_port"] == port]

    def ports(self, module):
        return {(after["from_port"], after["ip_protocol"]) for address, after in self.found if address.startswith(module)}

    def names(self, module, port):
        return {re.search(r"_rule\.(\w+)", address)[1] for address, _ in self.of(module, port)}

    def reaches(self, module, port, network):
        """Whether a rule's networks include this one."""
        return any(network.subnet_of(ipaddress.ip_network(after["cidr_ipv4"])) for _, after in self.of(module, port) if after.get("cidr_ipv4"))


def tier(plan):
    """The tier of the monitoring host's subnet, whose overridden id is `subnet-<tier>`."""
    return next(after["subnet_id"] for address, after in plan.of("aws_instance") if address.startswith(MONITORING)).partition("-")[2]


def monitor(plan):
    """The subnet of the monitoring host, in the first zone."""
    return min(ipaddress.ip_network(after["cidr_block"]) for address, after in plan.of("aws_subnet") if f".aws_subnet.{tier(plan)}[" in address)


def differences(roles, plan, monitors, has_pooler):
    """Between the roles' ports and the rules of a plan."""
    ingress, egress = Rules(plan, "ingress"), Rules(plan, "egress")
    groups = {group: module for group, module in MODULES.items() if (has_pooler or group != "pooler") and any(address.startswith(module) for address, _, _ in plan.all)}
    wanted = {module: set() for module in groups.values()}
    for group, module in groups.items():
        for name in roles.listening(group):
            port = roles.ports[name]
            wanted[module] |= {(port, protocol) for protocol in PROTOCOLS.get(name, {"tcp"})}
            for client in sorted(CLIENTS.get(name, set()) - ingress.names(module, port)):
                yield f"`{name}`: {module}* has no ingress rule `{client}` for {port}"
    for module, ports in wanted.items():
        if ingress.ports(module) != ports:
            yield f"{module}* admits {sorted(ingress.ports(module))}, and its roles listen on {sorted(ports)}"
    targets = [(name, groups[group]) for name, scraped in roles.scraped.items() for group in sorted(scraped) if group in groups]
    for name, module in [*targets, *ELSEWHERE.items()]:
        port = roles.ports[name]
        if module == MONITORING and "peer" not in ingress.names(module, port):
            yield f"`{name}`: {module}* has no ingress rule `peer` for {port}"
        for network in monitors:
            if module != MONITORING and not ingress.reaches(module, port, network):
                yield f"`{name}`: {module}* does not admit {port} from {network}, where a Prometheus is"
            if not egress.reaches(MONITORING, port, network):
                yield f"`{name}`: {MONITORING}* does not reach {port} in {network}"


def canary(plan, has_canary):
    """A host with a canary has a rule to the API's public addresses, and the resolver answers the API's name; other hosts have neither."""
    reaches = [after["cidr_ipv4"] in ANYWHERE and after["from_port"] == after["to_port"] == 443 for address, after in plan.of("aws_vpc_security_group_egress_rule") if address == CANARY]
    if reaches != [True] * has_canary:
        yield f"{CANARY}: a canary reaches port 443 of the API, and nothing else does"
    answered = {name for address, after in plan.of("aws_route53_resolver_firewall_domain_list") if address.endswith(".allowed") for name in after["domains"]}
    if ("api.example.com." in answered) != has_canary:
        yield f"the resolver answers {sorted(answered)}: the name of the API for a canary alone"
    if has_canary and (not plan.of("aws_nat_gateway") or tier(plan) != "private"):
        yield f"{MONITORING}* has a canary, and is in no subnet with a route to the internet"


def changed(path, *pairs):
    """Replaces texts of a file, each of which is there."""
    text = path.read_text()
    for was, becomes in pairs:
        if was not in text:
            raise Failed(f"{path.name} no longer contains `{was}`: change infra-tests/ports.py")
        text = text.replace(was, becomes)
    path.write_text(text)


def with_more(tree, scratch):
    """A copy whose production examples have a pooler, its clients and a canary, in the values that the other root reads too."""
    copy = terraform.copy(tree, scratch)
    clients = 'pooler_clients = { reports = { security_group_id = "sg-0123456789abcdef0" }, office = { cidr = "10.9.16.0/24" } }'
    for root, more in (("infra-primary", "pooler = true\n"), ("infra-dr", "")):
        changed(copy / root / "examples/production.tfvars", ('monitoring = { instance_type = "t4g.small" }', f'monitoring = {{ instance_type = "t4g.small", canary = true }}\n{more}{clients}'), ('nat = "none"', 'nat = "one"'))
    changed(copy / "infra-primary/tests/examples/example.tftest.hcl", (r'\"cidr\":\"10.2.128.0/20\"', r'\"cidr\":\"10.2.64.0/20\"'))
    changed(copy / "infra-dr/tests/examples/example.tftest.hcl", (r'\"pooler\":false', r'\"pooler\":true'), (r'\"cidr\":\"10.1.128.0/20\"', r'\"cidr\":\"10.1.64.0/20\"'))
    return copy


PLAIN, MORE = "production", "production with a pooler and a canary"


def of_variant(roles, tree, variant, env):
    """Differences of both roots."""
    plans = {root: Plan(terraform.plan(tree, root, "production", env)) for root in ROOTS}
    monitors = [monitor(plan) for plan in plans.values()]
    for root, plan in plans.items():
        for difference in (*differences(roles, plan, monitors, variant == MORE), *canary(plan, variant == MORE), *exposure(plan, None), *places(plan, None)):
            yield f"{root}, {variant}: {difference}"


def check(tree, env, variants=(PLAIN, MORE)):
    """Returns the number of ports."""
    roles = Roles(tree)
    wrong = list(roles.unknown())
    with tempfile.TemporaryDirectory() as scratch:
        for variant in variants:
            wrong += of_variant(roles, tree if variant == PLAIN else with_more(tree, Path(scratch)), variant, env)
    if wrong:
        raise Failed("\n".join(wrong))
    return len(roles.ports)
