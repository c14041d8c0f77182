"""Compares the files that Terraform renders with docs/examples: each parses, and has no key that the
programs do not have."""

import tomllib

import yaml

import terraform
from terraform import Failed


def rendered(tree, env):
    """The files rendered by the module's own test."""
    plan = terraform.tested(tree, "infra-modules/settings", env)[0]["every_node_is_named"]
    return {name: file["value"] for name, file in plan["output_changes"]["files"]["after"].items()}


def paths(value, path=""):
    """Every key in a TOML document; array elements share one path."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            for key, inner in item.items():
                yield f"{path}.{key}".lstrip(".")
                yield from paths(inner, f"{path}.{key}".lstrip("."))


def known(example):
    """The keys of an example, including those in comments."""
    text = "\n".join(line[1:] if line.startswith("#") and "=" in line and line[1:2].isalpha() else line for line in example.splitlines())
    return set(paths(tomllib.loads(text)))


def check(tree, env):
    files = rendered(tree, env)
    for name in ("failover-ctl", "backup-agent"):
        document = tomllib.loads(files[name])
        example = known((tree / f"docs/examples/{name}.toml").read_text())
        if unknown := set(paths(document)) - example:
            raise Failed(f"{name}: {', '.join(sorted(unknown))} is in no example: see the keys in docs/examples/{name}.toml")
    inventory = yaml.safe_load(files["inventory"])
    hosts = [host for group in inventory["all"]["children"]["postgres"]["children"].values() for host in group["hosts"]]
    nodes = [node["name"] for node in tomllib.loads(files["failover-ctl"])["nodes"]]
    if sorted(hosts) != sorted(nodes):
        raise Failed(f"the inventory has {hosts}, and failover-ctl.toml {nodes}")
    return len(files)
