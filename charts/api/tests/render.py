"""Lints the chart, renders it as Helm does, and says what does not hold.

    python3 -m venv venv && venv/bin/pip install -r charts/api/tests/requirements.txt
    venv/bin/python charts/api/tests/render.py

No cluster is asked. Kubernetes's own kinds are held against its published schemas, strictly; of the
kinds that others define, what they cannot do without is checked here.
"""

import copy
import re
import sys
from pathlib import Path

import helm_python
import kubernetes_validate
import yaml

CHART = Path(__file__).resolve().parent.parent
SETTINGS = CHART.parent.parent / "docs/reference/settings-api.md"

# The oldest release that Chart.yaml admits, and the newest whose schemas are at hand.
KUBERNETES = ("1.27", kubernetes_validate.latest_version())

# Kinds of others, and the fields without which their controllers refuse or ignore an object.
FOREIGN = {
    "ExternalSecret": ["spec.secretStoreRef.name", "spec.secretStoreRef.kind", "spec.target.name",
                       "spec.refreshInterval", "spec.data.0.secretKey", "spec.data.0.remoteRef.key"],
    "HTTPRoute": ["spec.parentRefs.0.name", "spec.parentRefs.0.sectionName", "spec.hostnames.0",
                  "spec.rules.0.backendRefs.0.name", "spec.rules.0.backendRefs.0.port"],
    "ServiceMonitor": ["spec.selector.matchLabels", "spec.endpoints.0.port", "spec.endpoints.0.path"],
}

GATEWAY = {"expose": {"by": "gateway", "gateway": {"name": "public", "namespace": "gateways"}}}
FIXED = {"autoscaling": {"enabled": False}, "replicas": 4, "migration": {"enabled": False}}
WAITING = {"readiness": {"path": "/livez"}, "migration": {"enabled": False}}
IRSA = {"serviceAccount": {"roleArn": "arn:aws:iam::123456789012:role/causeway-api"},
        "networkPolicy": {"https": True}}

PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
PEER = [{"podSelector": {"matchLabels": {"app": "balancer"}}}]

# On top of examples/minimal.yaml: what is wrong, and what has to be said of it.
REFUSED = [
    # By the schema.
    ({"image": {"tag": "latest"}}, "'/image/tag': value must be 'a release, such as 1.4.0"),
    ({"image": {"digest": "sha256:abc"}}, "'/image/digest'"),
    ({"image": {"tga": "1.4.0"}}, "additional properties 'tga' not allowed"),
    ({"relpicas": 4}, "additional properties 'relpicas' not allowed"),
    ({"replicas": 1}, "'/replicas': minimum: got 1, want 2"),
    ({"database": {"port": "5432"}}, "'/database/port': got string, want integer"),
    ({"database": {"port": 70000}}, "'/database/port': maximum: got 70,000, want 65,535"),
    ({"database": {"sslmode": "require"}}, "value must be one of 'verify-full', 'verify-ca'"),
    ({"database": {"password": {"value": "hunter2"}}}, "additional properties 'value' not allowed"),
    ({"settings": {"PGPASSWORD": "hunter2"}}, "invalid propertyName 'PGPASSWORD'"),
    ({"settings": {"DATABASE_URL": "postgres://a:b@c/d"}}, "invalid propertyName 'DATABASE_URL'"),
    ({"settings": {"MIGRATE": "on"}}, "invalid propertyName 'MIGRATE'"),
    ({"settings": {"LIST_MAX": 100}}, "'/settings/LIST_MAX': got number, want string"),
    ({"readiness": {"path": "/healthz"}}, "'/readiness/path': value must be one of '/readyz', '/livez'"),
    ({"expose": {"by": "nodeport"}}, "value must be one of 'none', 'ingress', 'gateway'"),
    ({"networkPolicy": {"databaseCidrs": ["10.20.64.0"]}}, "'/networkPolicy/databaseCidrs/0'"),
    ({"networkPolicy": {"egress": [{}]}}, "missing properties 'to', 'ports'"),
    ({"serviceAccount": {"roleArn": "causeway-api"}}, "'/serviceAccount/roleArn'"),
    # By the rules; each has a case.
    ({"image": {"repository": ""}}, "name where the image lies"),
    ({"image": {"tag": ""}}, "name a release, such as image.tag=1.4.0"),
    ({"autoscaling": {"min": 12}}, "raise max or lower min"),
    ({"autoscaling": {"min": 2}, "disruption": {"maxUnavailable": 2}}, "have more pods or lower it"),
    ({"shutdown": {"delaySeconds": 15}}, "raise graceSeconds to 35"),
    ({"database": {"hosts": []}}, "name every server"),
    ({"database": {"ca": {"configMap": ""}}}, "exactly one of certificate and configMap"),
    ({"database": {"ca": {"certificate": PEM}}}, "exactly one of certificate and configMap"),
    ({"database": {"poolMax": 4}}, "open up to 112 connections"),
    ({"migration": {"user": "api_service"}}, "the service must not own the tables"),
    ({"database": {"password": {"secret": ""}}}, "database.password needs exactly one"),
    ({"migration": {"password": {"remote": "owner"}}}, "migration.password needs exactly one"),
    ({"redis": {"host": "cache", "password": {"secret": "a", "remote": "b"}}}, "give one of them"),
    ({"redis": {"password": {"secret": "cache"}}}, "name the server, or leave out the password"),
    ({"database": {"password": {"secret": "", "remote": "a"}}}, "name the store that holds it"),
    ({"expose": {"by": "gateway"}}, "name the host for which requests come"),
    ({"expose": {"by": "ingress", "host": "a.b"}}, "name a certificate in ACM"),
    ({"expose": {"by": "gateway", "host": "a.b"}}, "name the Gateway that takes the route"),
    ({"networkPolicy": {"databaseCidrs": []}}, "name the data subnets of both regions"),
    ({"redis": {"host": "cache"}}, "name the subnets of the cache"),
    ({"networkPolicy": {"databaseCidrs": ["0.0.0.0/0"]}}, "which is everything: name subnets"),
    ({"expose": {"by": "gateway", "host": "a.b", "gateway": {"name": "public"}}}, "nobody could reach"),
    ({"metrics": {"serviceMonitor": {"enabled": True}}}, "Prometheus could not reach the metrics"),
    ({"metrics": {"port": 8080}}, "take another, such as 9090"),
]


class Count:
    """What was looked at, and what did not hold."""

    def __init__(self):
        self.looked_at = 0
        self.wrong = []

    def that(self, holds, otherwise):
        self.looked_at += 1
        if not holds:
            self.wrong.append(otherwise)


def example(name):
    return yaml.safe_load((CHART / "examples" / name).read_text())


def over(values, changes):
    """Puts changes over values as Helm does: maps are merged, everything else is replaced."""
    merged = copy.deepcopy(values)
    for key, value in changes.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = over(below, value) if both else value
    return merged


def at(node, path):
    """Returns what lies at a path such as `spec.data.0.key`, or None."""
    for step in path.split("."):
        try:
            node = node[int(step)] if isinstance(node, list) else node.get(step)
        except (IndexError, AttributeError):
            return None
    return node


def render(chart, values):
    rendered = chart.render(values, name="shop", namespace="causeway")
    manifests = [text for path, text in rendered.items() if path.endswith(".yaml")]
    return [it for text in manifests for it in yaml.safe_load_all(text) if it]


def valid(check, where, manifest):
    kind = manifest["kind"]
    if kind in FOREIGN:
        for path in FOREIGN[kind]:
            check.that(at(manifest, path), f"{where}: {kind} has no {path}")
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
            refused = None
        except kubernetes_validate.ValidationError as error:
            refused = error.message
        check.that(refused is None, f"{where}: {kind} in Kubernetes {version}: {refused}")


def of_kind(manifests, kind):
    return [it for it in manifests if it["kind"] == kind]


def pods(manifests):
    return [it for it in manifests if it["kind"] in ("Deployment", "Job")]


def confined(check, where, owner):
    """No root, nothing writable, no rights, nothing secret in the environment."""
    spec = owner["spec"]["template"]["spec"]
    where = f"{where}: {owner['kind']}"
    for path, wanted in {
        "securityContext.runAsNonRoot": True,
        "securityContext.runAsUser": 65532,
        "securityContext.seccompProfile.type": "RuntimeDefault",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }.items():
        check.that(at(spec, path) == wanted, f"{where}: {path} is not {wanted}")
    for shared in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "initContainers"):
        check.that(shared not in spec, f"{where}: it has {shared}")
    kinds = {key for volume in spec["volumes"] for key in volume} - {"name"}
    check.that(kinds <= {"configMap", "secret"}, f"{where}: it has volumes of {kinds}")
    for container in spec["containers"]:
        confinement = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        check.that(container["securityContext"] == confinement, f"{where}: securityContext is not {confinement}")
        check.that(at(container, "resources.limits.memory"), f"{where}: memory has no limit")
        check.that(not container["image"].endswith(":latest"), f"{where}: the image is latest")
        pinned = re.search(r"(@sha256:[0-9a-f]{64}|:[^/:]+)$", container["image"])
        check.that(pinned, f"{where}: the image {container['image']} has neither digest nor tag")
        mounted = {it["name"] for it in container["volumeMounts"]}
        check.that(mounted == {it["name"] for it in spec["volumes"]}, f"{where}: volumes and mounts differ")
        for variable in container.get("env", []):
            check.that("valueFrom" not in variable, f"{where}: {variable['name']} is taken from elsewhere")
        check.that(all("secretRef" not in it for it in container.get("envFrom", [])),
                   f"{where}: a Secret is in the environment")


def settings_of(manifests):
    """Returns the environment of the service, and of the migration where there is one."""
    plain = [it for it in of_kind(manifests, "ConfigMap") if "LISTEN" in it["data"]]
    environments = [it["data"] for it in plain]
    for job in of_kind(manifests, "Job"):
        container = job["spec"]["template"]["spec"]["containers"][0]
        environments.append({it["name"]: it["value"] for it in container["env"]})
    return environments


def holds(check, where, manifests, readiness):
    """What has to hold of every rendering; `readiness` is the path that says whether requests may be sent."""
    deployment, = of_kind(manifests, "Deployment")
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    container, = pod["containers"]
    labels = spec["template"]["metadata"]["labels"]
    seconds = {key: int(value.rstrip("s")) for key, value in settings_of(manifests)[0].items()
               if key.startswith("SHUTDOWN_")}

    for owner in pods(manifests):
        confined(check, where, owner)
    for environment in settings_of(manifests):
        for name in environment:
            secret = re.search(r"PASS|SECRET|_URL$|HEADERS", name) and not name.endswith("_FILE")
            check.that(not secret, f"{where}: {name} is in plain environment")
        check.that(environment["PGSSLMODE"].startswith("verify-"), f"{where}: the server is not verified")
    check.that(settings_of(manifests)[0]["MIGRATE"] == "off", f"{where}: the service migrates")

    for probe, path in {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": readiness}.items():
        check.that(at(container, f"{probe}.httpGet.path") == path, f"{where}: {probe} does not ask {path}")
    for ingress in of_kind(manifests, "Ingress"):
        asked = ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/healthcheck-path"]
        check.that(asked == readiness, f"{where}: the load balancer asks {asked}, and the probe {readiness}")
        annotations = {key.rpartition("/")[2]: value for key, value in ingress["metadata"]["annotations"].items()}
        check.that('"HTTPS":443' in annotations["listen-ports"] and annotations["ssl-redirect"] == "443",
                   f"{where}: the load balancer answers without TLS")
        check.that(annotations["ssl-policy"].startswith("ELBSecurityPolicy-TLS13-1-2"), f"{where}: the load balancer takes old TLS")
    check.that(pod["terminationGracePeriodSeconds"] >= seconds["SHUTDOWN_DELAY"] + seconds["SHUTDOWN_TIMEOUT"],
               f"{where}: it is killed before it has drained")
    check.that(at(spec, "strategy.rollingUpdate.maxUnavailable") == 0, f"{where}: an upgrade takes pods away")
    zones = [it for it in pod["topologySpreadConstraints"] if it["topologyKey"] == "topology.kubernetes.io/zone"]
    check.that(len(zones) == 1, f"{where}: pods are not spread over zones")

    # Selectors.
    selected = spec["selector"]["matchLabels"]
    check.that(selected.items() <= labels.items(), f"{where}: the Deployment does not select its pods")
    migrations = [it["spec"]["template"]["metadata"]["labels"] for it in of_kind(manifests, "Job")]
    check.that(all(not selected.items() <= it.items() for it in migrations), f"{where}: migrations are selected as pods")
    service, = of_kind(manifests, "Service")
    check.that(service["spec"]["selector"] == selected, f"{where}: the Service selects other pods")
    check.that(service["spec"]["type"] == "ClusterIP", f"{where}: the Service is reached without the load balancer")
    ports = {it["name"] for it in container["ports"]}
    check.that({it["targetPort"] for it in service["spec"]["ports"]} <= ports, f"{where}: the Service names no port")
    for monitor in of_kind(manifests, "ServiceMonitor"):
        found = monitor["spec"]["selector"]["matchLabels"]
        check.that(found.items() <= service["metadata"]["labels"].items(), f"{where}: the ServiceMonitor finds nothing")
    for route in of_kind(manifests, "Ingress") + of_kind(manifests, "HTTPRoute"):
        check.that(f"'name': '{service['metadata']['name']}'" in str(route["spec"]), f"{where}: a route leads elsewhere")

    # Disruptions.
    scaler = of_kind(manifests, "HorizontalPodAutoscaler")
    least = scaler[0]["spec"]["minReplicas"] if scaler else spec["replicas"]
    check.that(bool(scaler) != ("replicas" in spec), f"{where}: the Deployment and the autoscaler both count pods")
    budget, = of_kind(manifests, "PodDisruptionBudget")
    check.that(budget["spec"]["maxUnavailable"] < least, f"{where}: a drain may take every pod")
    check.that(budget["spec"]["selector"]["matchLabels"] == selected, f"{where}: the budget is of other pods")

    # Networks: each pod has a policy in both directions, and no rule is open.
    policies = of_kind(manifests, "NetworkPolicy")
    for owned in [labels, *migrations]:
        own = [it for it in policies if it["spec"]["podSelector"]["matchLabels"].items() <= owned.items()]
        check.that(len(own) == 1 and set(own[0]["spec"]["policyTypes"]) == {"Ingress", "Egress"},
                   f"{where}: not every pod has one policy in both directions")
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            check.that(rule.get("from") and rule.get("ports"), f"{where}: {policy['metadata']['name']} lets everybody in")
        peers = [peer for rule in policy["spec"].get("ingress", []) + policy["spec"]["egress"]
                 for peer in rule.get("from", []) + rule.get("to", [])]
        check.that(all(peer and not at(peer, "ipBlock.cidr") in ("0.0.0.0/0", "::/0") for peer in peers),
                   f"{where}: {policy['metadata']['name']} names everybody")
        anywhere = [it for it in policy["spec"]["egress"] if not it.get("to")]
        check.that(all([p["port"] for p in it["ports"]] == [443] for it in anywhere),
                   f"{where}: {policy['metadata']['name']} lets out more than 443 to everywhere")

    # What runs before a release needs nothing of it.
    before = [it for it in manifests if "helm.sh/hook" in it["metadata"].get("annotations", {})]
    made_before = {(it["kind"], it["metadata"]["name"]) for it in before}
    made_later = {(it["kind"], it["metadata"]["name"]) for it in manifests if it not in before}
    fetched = {it["spec"]["target"]["name"] for it in of_kind(before, "ExternalSecret")}
    later = {it["spec"]["target"]["name"] for it in of_kind(manifests, "ExternalSecret")} - fetched
    for job in of_kind(manifests, "Job"):
        hook = at(job, "metadata.annotations").get("helm.sh/hook")
        check.that(hook == "pre-install,pre-upgrade", f"{where}: the migration does not run before the release")
        check.that(at(job, "spec.template.spec.serviceAccountName") is None, f"{where}: the migration needs a later account")
        for volume in job["spec"]["template"]["spec"]["volumes"]:
            secret = at(volume, "secret.secretName")
            check.that(secret not in later, f"{where}: the migration waits for the later Secret {secret}")
            needed = ("ConfigMap", at(volume, "configMap.name"))
            check.that(needed in made_before or needed not in made_later,
                       f"{where}: the migration waits for the later ConfigMap {needed[1]}")


def refuses(check, chart):
    """Each case is refused with its sentence, and each rule has a case."""
    minimal = example("minimal.yaml")
    lines = (CHART / "templates/rules.yaml").read_text().splitlines()
    rules = {number for number, line in enumerate(lines, 1) if "{{- fail " in line}
    tried = set()
    for changes, sentence in REFUSED:
        try:
            chart.render(over(minimal, changes), name="shop")
            said = "nothing"
        except (helm_python.HelmValuesError, helm_python.HelmRenderError) as error:
            said = str(error)
        check.that(sentence in said, f"{changes}: it should say «{sentence}», and says {said}")
        tried |= {int(it) for it in re.findall(r"rules\.yaml:(\d+)", said)}
    for rule in sorted(rules - tried):
        check.that(False, f"no case for the rule {lines[rule - 1]}")


def refuses_what_it_does_not_know(check, schema, path=""):
    """A name that is mistyped is refused wherever there is one."""
    if "properties" in schema:
        check.that(schema.get("additionalProperties") is False, f"the schema takes any name in {path or '/'}")
    for name, inner in schema.get("properties", {}).items():
        refuses_what_it_does_not_know(check, inner, f"{path}/{name}")


def knows_every_setting(check, chart):
    """Every variable of the reference can be set, is set by the chart, or is kept out on purpose."""
    documented = set()
    for row in re.findall(r"^\| (`[A-Z][A-Z_`, ]+`) \|", SETTINGS.read_text(), re.MULTILINE):
        documented.add(re.findall(r"`([A-Z_]+)`", row)[0])
    documented |= {"RUST_LOG"}
    allowed = set(chart.schema["properties"]["settings"]["propertyNames"]["enum"])
    secret = {"DATABASE_URL", "PGPASSWORD", "REDIS_URL", "REDIS_PASSWORD"}
    # The port is the chart's own, and the cache of AWS has a certificate that every system trusts.
    elsewhere = {"PORT", "REDIS_TLS_CA_FILE"}
    own = set().union(*settings_of(render(chart, example("eks.yaml") | {"settings": {}})))
    own = {it.removesuffix("_FILE") for it in own} - secret
    check.that(documented == allowed | own | secret | elsewhere,
               f"settings that the reference or the schema lacks: {documented ^ (allowed | own | secret | elsewhere)}")
    check.that(not allowed & (own | secret), f"settings that could be set twice: {allowed & (own | secret)}")


def main():
    check = Count()
    manifests = 0
    eks = example("eks.yaml")
    renderings = {path.name: example(path.name) for path in sorted((CHART / "examples").glob("*.yaml"))}
    renderings |= {
        "eks.yaml by a gateway": over(eks, GATEWAY),
        "eks.yaml without autoscaling and migration": over(eks, FIXED),
        "eks.yaml with a role": over(eks, IRSA),
        "eks.yaml in a region that waits": over(eks, WAITING),
    }
    with helm_python.Chart.load(CHART) as chart:
        for name, values in renderings.items():
            report = helm_python.lint(CHART, values, strict=True)
            told = [it for it in report["messages"] if it["severity"] > 1] + report["errors"]
            check.that(not told, f"{name}: lint says {told}")
            rendered = render(chart, values)
            manifests += len(rendered)
            names = [(it["kind"], it["metadata"]["name"]) for it in rendered]
            check.that(len(names) == len(set(names)), f"{name}: two objects have one name")
            for manifest in rendered:
                valid(check, name, manifest)
            holds(check, name, rendered, values.get("readiness", {}).get("path", "/readyz"))
        refuses(check, chart)
        refuses_what_it_does_not_know(check, chart.schema)
        knows_every_setting(check, chart)

    for it in check.wrong:
        print(f"chart: {it}", file=sys.stderr)
    print(f"chart: {len(renderings)} renderings, {manifests} manifests, {len(REFUSED)} refusals: "
          f"{check.looked_at - len(check.wrong)} of {check.looked_at} checks hold")
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
