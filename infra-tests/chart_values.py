"""The outputs of the roots and of `api-eks` install charts/api as they are, plus only what an operator has to give: a version."""

import importlib.util
import re

import terraform
from terraform import Failed

# Directories whose tests' plans know the outputs.
DIRECTORIES = ("infra-modules/api-eks", "infra-primary", "infra-dr")
OPERATOR = {"image": {"tag": "1.4.0"}}


def outputs(tree, env):
    """The known outputs of each run."""
    for directory in DIRECTORIES:
        for run, plan in terraform.tested(tree, directory, env)[0].items():
            changes = plan.get("output_changes", {})
            yield f"{directory}: {run}", {name: change["after"] for name, change in changes.items() if not change.get("after_unknown")}


def check(tree, env):
    """Renders the chart with each run's values, and checks the chart's invariants; the number of renderings."""
    import helm_python

    # Of this tree, whose chart may have an injected fault.
    spec = importlib.util.spec_from_file_location("render", tree / "charts/api/tests/render.py")
    render = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render)
    count = render.Count()
    found = dict(outputs(tree, env))
    with helm_python.Chart.load(render.CHART) as chart:
        for run, values in found.items():
            if "chart_values" not in values:
                raise Failed(f"{run}: chart_values is not known in the plan")
            given = render.over(values["chart_values"], OPERATOR)
            try:
                manifests = render.render(chart, given)
            except (helm_python.HelmValuesError, helm_python.HelmRenderError) as error:
                raise Failed(f"{run}: the chart rejects chart_values: {error}") from None
            for manifest in manifests:
                render.valid(count, run, manifest)
            render.holds(count, run, manifests, given["readinessProbe"]["httpGet"]["path"])
            of_chart(count, run, manifests, values)
    compare(count, render.example("eks.yaml"), found)
    if count.wrong:
        raise Failed("\n".join(count.wrong))
    for directory in DIRECTORIES:
        if not any(run.startswith(directory) for run in found):
            raise Failed(f"{directory} has no run in {terraform.READ[directory]}")
    return len(found)


def of_chart(count, run, manifests, values):
    """The chart publishes every name, and its passwords come from the store of the outputs."""
    store = values["cluster_secret_store"]
    secrets = [manifest["spec"] for manifest in manifests if manifest["kind"] == "ExternalSecret"]
    stores = {(spec["secretStoreRef"]["kind"], spec["secretStoreRef"]["name"]) for spec in secrets}
    count.that(stores == {(store["kind"], store["metadata"]["name"])}, f"{run}: the passwords come from {stores}, and the store is {store['metadata']['name']}")
    count.that(any(manifest["kind"] == "Ingress" for manifest in manifests), f"{run}: the API has no Ingress")
    count.that(any(manifest["kind"] == "HorizontalPodAutoscaler" for manifest in manifests), f"{run}: the API has no autoscaler")
    for name in ("chart_values", "controller_values"):
        count.that(all(value is not None for value in leaves(values[name])), f"{run}: {name} contains null, which Helm takes as a removed default")


def leaves(value):
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def compare(count, eks, found):
    """charts/api/examples/eks.yaml has the names that Terraform makes."""
    made = next(values["chart_values"] for values in found.values() if values["chart_values"]["redis"]["host"])
    for where, ours, theirs in (
        ("image.repository", eks["image"]["repository"], made["image"]["repository"]),
        ("externalSecrets.store.name", eks["externalSecrets"]["store"]["name"], made["externalSecrets"]["store"]["name"]),
        ("redis.user", eks["redis"].get("user"), made["redis"].get("user")),
        ("shutdown", eks["shutdown"], made["shutdown"]),
        *(
            (f"{role}.password.remoteRef", secret(eks, role), secret(made, role))
            for role in ("database", "migration", "redis")
        ),
    ):
        count.that(ours == theirs, f"charts/api/examples/eks.yaml: {where} is {ours}, and Terraform's {theirs}")


def secret(values, role):
    """The kind of a secret: its name without environment and random parts."""
    arn = values[role]["password"]["remoteRef"]
    return re.sub(r".*:secret:[a-z-]+/|(-[0-9a-f]{6})?-\w{6}$", "", arn) if arn.startswith("arn:") else arn
