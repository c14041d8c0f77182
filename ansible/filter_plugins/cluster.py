"""Reads what `failover-ctl status --json` says."""

import json

from ansible.errors import AnsibleFilterError


def cluster_status(text):
    """Returns the status as a dictionary."""
    try:
        return json.loads(text)
    except (ValueError, TypeError) as error:
        raise AnsibleFilterError(f"`failover-ctl status --json` printed no JSON: {error}") from error


def unready_nodes(status, names=None):
    """Returns a sentence for each node that is neither a writable primary nor a streaming standby."""
    found = []
    for row in status["nodes"]:
        if names is not None and row["node"] not in names:
            continue
        node = row["status"]
        if node is None:
            found.append(f"{row['node']}: {row['mismatch'] or 'its agent does not answer'}")
        elif node["role"] == "standby" and not node["streaming"]:
            found.append(f"{row['node']}: {node['standby_setup'] or 'does not stream'}")
        elif node["role"] not in ("primary", "standby"):
            found.append(f"{row['node']}: {node['role']}")
    if not any(row["status"] and row["status"]["role"] == "primary" for row in status["nodes"]):
        found.append("no node is primary")
    return found


def primary_node(status):
    """Returns the name of the node that accepts writes, or an empty text."""
    for row in status["nodes"]:
        if row["status"] and row["status"]["role"] == "primary":
            return row["node"]
    return ""


def node_problems(status):
    """Returns the problems of all nodes, one sentence each."""
    found = []
    for row in status["nodes"]:
        for problem in (row["status"] or {}).get("problems", []):
            found.append(f"{row['node']}: {problem['problem']}: {problem['detail']}")
    return found


def postponed_restarts(results):
    """Returns a sentence for each agent whose restart waits for the next run, by results of `services_current`."""
    return [
        f"{result['failover_ctl_host']}: its agent runs with its former program or settings, until the playbook is run again: {why}"
        for result in results
        for why in result.get("postponed", {}).values()
    ]


class FilterModule:
    """Filters for the status of a cluster."""

    def filters(self):
        return {
            "cluster_status": cluster_status,
            "unready_nodes": unready_nodes,
            "primary_node": primary_node,
            "node_problems": node_problems,
            "postponed_restarts": postponed_restarts,
        }
