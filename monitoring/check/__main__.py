"""Checks the rules, tests, routes, metrics and dashboards of monitoring/: `make lint-monitoring`.

python monitoring/check
"""

import sys

sys.dont_write_bytecode = True

import alerts
import expressions
import folder
import panels
import routes
import runbook_commands
import runbooks
import tools


def findings(declared):
    """Returns the findings of every check of the declarations."""
    return [finding for module in (expressions, alerts, routes, runbooks, runbook_commands, panels) for check in module.CHECKS for finding in check(declared)]


def main():
    declared = folder.load()
    found = findings(declared) + tools.check()
    for finding in found:
        print(f"monitoring: {finding}", file=sys.stderr)
    tests = sum(len(content["tests"]) for content in declared.tests.values())
    names = {rule.alert for rule in declared.alerts}
    print(f"monitoring: {len(names)} alerts, {len(declared.rules) - len(declared.alerts)} recording rules, {tests} tests, {len(found)} findings")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
