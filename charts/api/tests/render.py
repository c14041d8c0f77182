"""Lints the chart, renders it as Helm does, and checks its invariants.

    python3 -m venv venv && venv/bin/pip install -r charts/api/tests/requirements.txt
    venv/bin/python charts/api/tests/render.py

Uses no cluster. Built-in kinds are validated strictly against the published Kubernetes schemas; of custom
kinds, the fields that their controllers require are checked here.
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
METRICS = CHART.parent.parent / "docs/reference/metrics.md"

# The oldest release that Chart.yaml admits, and the newest with published schemas.
KUBERNETES = ("1.27", kubernetes_validate.latest_version())

# Custom kinds, and the fields without which their controllers reject or ignore an object.
REQUIRED_FIELDS = {
    "ExternalSecret": ["spec.secretStoreRef.name", "spec.secretStoreRef.kind", "spec.target.name",
                       "spec.refreshInterval", "spec.data.0.secretKey", "spec.data.0.remoteRef.key"],
    "HTTPRoute": ["spec.parentRefs.0.name", "spec.parentRefs.0.sectionName", "spec.hostnames.0",
                  "spec.rules.0.backendRefs.0.name", "spec.rules.0.backendRefs.0.port"],
    "PrometheusRule": ["spec.groups.0.name", "spec.groups.0.rules.0.expr"],
    "ServiceMonitor": ["spec.selector.matchLabels", "spec.endpoints.0.port", "spec.endpoints.0.path"],
}

GATEWAY = {"ingress": {"enabled": False},
           "httpRoute": {"enabled": True, "hostnames": ["api.example.com"],
                         "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}]}}
FIXED = {"autoscaling": {"enabled": False}, "replicaCount": 4, "migration": {"enabled": False}}
STANDBY_REGION = {"readinessProbe": {"httpGet": {"path": "/livez"}}, "migration": {"enabled": False}}
IRSA = {"serviceAccount": {"roleArn": "arn:aws:iam::123456789012:role/causeway-api"},
        "networkPolicy": {"https": True}}
NGINX = {"ingress": {"className": "nginx", "certificateArn": "", "wafAclArn": "", "tls": [{"secretName": "api-tls", "hosts": ["api.example.com"]}]}}
ONE_POD = {"autoscaling": {"enabled": False}, "replicaCount": 1, "podDisruptionBudget": {"enabled": False}}

# Every value that adds to an object: the changes, and by kind the paths that must then have a value.
QUEUE = {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "10"}}}
RULE = {"alert": "Own", "expr": "vector(1) > 2"}
RELABELING = {"action": "labeldrop", "regex": "pod"}
NODE_AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
    {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]}]}}}
POD = "spec.template.spec"
ADDED = [
    ({"fullnameOverride": "hello"}, "Deployment", "metadata.name", "hello"),
    ({"fullnameOverride": "hello"}, "Service", "metadata.name", "hello"),
    ({"fullnameOverride": "hello"}, "Job", "metadata.name", "hello-migrate"),
    ({"affinity": NODE_AFFINITY}, "Deployment", f"{POD}.affinity", NODE_AFFINITY),
    ({"affinity": NODE_AFFINITY}, "Job", f"{POD}.affinity", NODE_AFFINITY),
    ({"serviceAccount": {"annotations": {"a": "b"}}}, "ServiceAccount", "metadata.annotations.a", "b"),
    ({"podLabels": {"team": "platform"}}, "Deployment", "spec.template.metadata.labels.team", "platform"),
    ({"podAnnotations": {"reload": "true"}}, "Deployment", "spec.template.metadata.annotations.reload", "true"),
    ({"extraEnv": {"LIST_MAX": "50"}}, "ConfigMap", "data.LIST_MAX", "50"),
    ({"startupProbe": {"failureThreshold": 90}}, "Deployment", f"{POD}.containers.0.startupProbe.failureThreshold", 90),
    ({"livenessProbe": {"timeoutSeconds": 9}}, "Deployment", f"{POD}.containers.0.livenessProbe.timeoutSeconds", 9),
    ({"readinessProbe": {"periodSeconds": 4}}, "Deployment", f"{POD}.containers.0.readinessProbe.periodSeconds", 4),
    ({"autoscaling": {"metrics": [QUEUE]}}, "HorizontalPodAutoscaler", "spec.metrics.1", QUEUE),
    ({"autoscaling": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}}, "HorizontalPodAutoscaler", "spec.behavior.scaleDown.stabilizationWindowSeconds", 60),
    ({"metrics": {"serviceMonitor": {"scrapeTimeout": "5s"}}}, "ServiceMonitor", "spec.endpoints.0.scrapeTimeout", "5s"),
    ({"metrics": {"serviceMonitor": {"interval": "1m", "scrapeTimeout": "45s"}}}, "ServiceMonitor", "spec.endpoints.0.scrapeTimeout", "45s"),
    ({"metrics": {"serviceMonitor": {"relabelings": [RELABELING]}}}, "ServiceMonitor", "spec.endpoints.0.relabelings", [RELABELING]),
    ({"metrics": {"serviceMonitor": {"metricRelabelings": [RELABELING]}}}, "ServiceMonitor", "spec.endpoints.0.metricRelabelings", [RELABELING]),
    ({"metrics": {"serviceMonitor": {"annotations": {"a": "b"}}}}, "ServiceMonitor", "metadata.annotations.a", "b"),
    ({"metrics": {"prometheusRule": {"defaultRules": False, "additionalRules": [RULE]}}}, "PrometheusRule", "spec.groups.0.rules", [RULE]),
    ({"metrics": {"prometheusRule": {"additionalRules": [RULE]}}}, "PrometheusRule", "spec.groups.0.rules.4", RULE),
    ({"metrics": {"prometheusRule": {"annotations": {"a": "b"}}}}, "PrometheusRule", "metadata.annotations.a", "b"),
]

PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
HOSTS = [{"host": "a.b", "paths": [{"path": "/", "pathType": "Prefix"}]}]
PEER = [{"podSelector": {"matchLabels": {"app": "balancer"}}}]

# Changes to examples/minimal.yaml, and the expected error.
REJECTED = [
    # By values.schema.json.
    ({"image": {"tag": "latest"}}, "'/image/tag': value must be 'a release, such as 1.4.0"),
    ({"image": {"digest": "sha256:abc"}}, "'/image/digest'"),
    ({"image": {"tga": "1.4.0"}}, "additional properties 'tga' not allowed"),
    ({"replicas": 4}, "additional properties 'replicas' not allowed"),
    ({"replicaCount": 0}, "'/replicaCount': minimum: got 0, want 1"),
    ({"readiness": {"path": "/readyz"}}, "additional properties 'readiness' not allowed"),
    ({"livenessProbe": {"httpGet": {"path": "/readyz"}}}, "additional properties 'httpGet' not allowed"),
    ({"livenessProbe": {"timeoutSeconds": 0}}, "'/livenessProbe/timeoutSeconds': minimum: got 0, want 1"),
    ({"podLabels": {"team": 1}}, "'/podLabels/team': got number, want string"),
    ({"metrics": {"prometheusRule": {"additionalRules": [{"alert": "A"}]}}}, "missing property 'expr'"),
    ({"database": {"port": "5432"}}, "'/database/port': got string, want integer"),
    ({"database": {"port": 70000}}, "'/database/port': maximum: got 70,000, want 65,535"),
    ({"database": {"sslmode": "require"}}, "value must be one of 'verify-full', 'verify-ca'"),
    ({"database": {"password": {"value": "hunter2"}}}, "additional properties 'value' not allowed"),
    ({"extraEnv": {"PGPASSWORD": "hunter2"}}, "invalid propertyName 'PGPASSWORD'"),
    ({"extraEnv": {"DATABASE_URL": "postgres://a:b@c/d"}}, "invalid propertyName 'DATABASE_URL'"),
    ({"extraEnv": {"MIGRATE": "on"}}, "invalid propertyName 'MIGRATE'"),
    ({"extraEnv": {"LIST_MAX": 100}}, "'/extraEnv/LIST_MAX': got number, want string"),
    ({"readinessProbe": {"httpGet": {"path": "/healthz"}}}, "'/readinessProbe/httpGet/path': value must be one of '/readyz', '/livez'"),
    ({"httpRoute": {"parentRefs": [{"name": "public"}]}}, "missing property 'sectionName'"),
    ({"ingress": {"hosts": ["api.example.com"]}}, "got string, want object"),
    ({"networkPolicy": {"databaseCidrs": ["10.20.64.0"]}}, "'/networkPolicy/databaseCidrs/0'"),
    ({"networkPolicy": {"egress": [{}]}}, "missing properties 'to', 'ports'"),
    ({"serviceAccount": {"roleArn": "causeway-api"}}, "'/serviceAccount/roleArn'"),
    # By templates/validation.yaml; each of its lines has a case.
    ({"image": {"repository": ""}}, "image without tag"),
    ({"image": {"tag": ""}}, "set a release, such as image.tag=1.4.0"),
    ({"autoscaling": {"minReplicas": 12}}, "raise maxReplicas or lower minReplicas"),
    ({"autoscaling": {"minReplicas": 2}, "podDisruptionBudget": {"maxUnavailable": 2}}, "add pods or lower it"),
    ({"autoscaling": {"enabled": False}, "replicaCount": 1}, "set podDisruptionBudget.enabled=false in a cluster of one node"),
    ({"autoscaling": {"minReplicas": 1}}, "set podDisruptionBudget.enabled=false in a cluster of one node"),
    ({"shutdown": {"delaySeconds": 15}}, "raise it to 35"),
    ({"database": {"hosts": []}}, "set it to every server"),
    ({"database": {"ca": {"configMap": ""}}}, "exactly one of certificate and configMap"),
    ({"database": {"ca": {"certificate": PEM}}}, "exactly one of certificate and configMap"),
    ({"database": {"poolMax": 4}}, "can open 112 connections"),
    ({"migration": {"user": "api_service"}}, "the API must not own its tables"),
    ({"database": {"password": {"existingSecret": ""}}}, "database.password needs exactly one"),
    ({"migration": {"password": {"remoteRef": "owner"}}}, "migration.password needs exactly one"),
    ({"redis": {"host": "cache", "password": {"existingSecret": "a", "remoteRef": "b"}}}, "set one of them"),
    ({"redis": {"password": {"existingSecret": "cache"}}}, "set the host, or remove the password"),
    ({"database": {"password": {"existingSecret": "", "remoteRef": "a"}}}, "set the name of its store"),
    ({"ingress": {"enabled": True}, "httpRoute": {"enabled": True}}, "are both true: enable one"),
    ({"ingress": {"enabled": True}}, "ingress.hosts is empty"),
    ({"ingress": {"enabled": True, "hosts": HOSTS}}, "a certificate in ACM"),
    ({"ingress": {"enabled": True, "hosts": HOSTS, "className": "nginx"}}, "name the Secret of a certificate"),
    ({"ingress": NGINX["ingress"] | {"enabled": True, "hosts": HOSTS, "certificateArn": "arn:aws:acm:a"}}, "which ignores ingress.certificateArn"),
    ({"ingress": {"enabled": True, "hosts": HOSTS, "tls": NGINX["ingress"]["tls"]}}, "which the AWS Load Balancer Controller ignores"),
    ({"httpRoute": {"enabled": True}}, "httpRoute.hostnames is empty"),
    ({"httpRoute": {"enabled": True, "hostnames": ["a.b"]}}, "name the Gateway that the route is attached to"),
    ({"networkPolicy": {"databaseCidrs": []}}, "the data subnets of both regions"),
    ({"redis": {"host": "cache"}}, "the subnets of the cache"),
    ({"networkPolicy": {"databaseCidrs": ["0.0.0.0/0"]}}, "which is every address: set subnets"),
    (GATEWAY, "no client reaches the API"),
    ({"metrics": {"serviceMonitor": {"enabled": True}}}, "Prometheus cannot scrape"),
    ({"metrics": {"serviceMonitor": {"scrapeTimeout": "20s"}}}, "scrapeTimeout is 20s, and interval 15s"),
    ({"metrics": {"serviceMonitor": {"scrapeTimeout": "1m"}}}, "lower scrapeTimeout or raise interval"),
    ({"metrics": {"prometheusRule": {"enabled": True, "defaultRules": False}}}, "set defaultRules=true, or name additionalRules"),
    ({"podLabels": {"app.kubernetes.io/name": "web"}}, "which is the chart's own"),
    ({"metrics": {"port": 8080}}, "set another, such as 9090"),
]


class Count:
    """Counts checks and collects failures."""

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
    """Merges changes into values as Helm does: maps are merged, everything else is replaced."""
    merged = copy.deepcopy(values)
    for key, value in changes.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = over(below, value) if both else value
    return merged


def at(node, path):
    """Returns the value at a path such as `spec.data.0.key`, or None."""
    for step in path.split("."):
        try:
            node = node[int(step)] if isinstance(node, list) else node.get(step)
        except (IndexError, AttributeError):
            return None
    return node


def render(chart, values):
    rendered = chart.render(values, name="shop", namespace="causeway")
    manifests = [text for path, text in rendered.items() if path.endswith(".yaml")]
    return [manifest for text in manifests for manifest in yaml.safe_load_all(text) if manifest]


def valid(check, where, manifest):
    kind = manifest["kind"]
    if kind in REQUIRED_FIELDS:
        for path in REQUIRED_FIELDS[kind]:
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
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pods(manifests):
    return [manifest for manifest in manifests if manifest["kind"] in ("Deployment", "Job")]


def confined(check, where, owner):
    """Runs without root, a writable file system, permissions, or secrets in the environment."""
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
        check.that(shared not in spec, f"{where}: sets {shared}")
    kinds = {key for volume in spec["volumes"] for key in volume} - {"name"}
    check.that(kinds <= {"configMap", "secret"}, f"{where}: has volumes of kind {kinds}")
    for container in spec["containers"]:
        confinement = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        check.that(container["securityContext"] == confinement, f"{where}: securityContext is not {confinement}")
        check.that(at(container, "resources.limits.memory"), f"{where}: memory has no limit")
        check.that(not container["image"].endswith(":latest"), f"{where}: the image is latest")
        pinned = re.search(r"(@sha256:[0-9a-f]{64}|:[^/:]+)$", container["image"])
        check.that(pinned, f"{where}: the image {container['image']} has neither digest nor tag")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        check.that(mounted == {volume["name"] for volume in spec["volumes"]}, f"{where}: volumes and mounts differ")
        for variable in container.get("env", []):
            check.that("valueFrom" not in variable, f"{where}: {variable['name']} has valueFrom")
        check.that(all("secretRef" not in source for source in container.get("envFrom", [])),
                   f"{where}: a Secret is in the environment")


def settings_of(manifests):
    """Returns the environment of the API, and of the migration if enabled."""
    plain = [config_map for config_map in of_kind(manifests, "ConfigMap") if "LISTEN" in config_map["data"]]
    environments = [config_map["data"] for config_map in plain]
    for job in of_kind(manifests, "Job"):
        container = job["spec"]["template"]["spec"]["containers"][0]
        environments.append({variable["name"]: variable["value"] for variable in container["env"]})
    return environments


def holds(check, where, manifests, readiness):
    """Checks the invariants of every rendering; `readiness` is the expected path of the readiness probe."""
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
        check.that(environment["PGSSLMODE"].startswith("verify-"), f"{where}: the server certificate is not verified")
    check.that(settings_of(manifests)[0]["MIGRATE"] == "off", f"{where}: the API runs migrations")

    for probe, path in {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": readiness}.items():
        check.that(at(container, f"{probe}.httpGet.path") == path, f"{where}: {probe} does not request {path}")
    for ingress in of_kind(manifests, "Ingress"):
        if ingress["spec"]["ingressClassName"] != "alb":
            served = {host for entry in ingress["spec"].get("tls", []) for host in entry["hosts"]}
            check.that({rule["host"] for rule in ingress["spec"]["rules"]} <= served, f"{where}: a host has no certificate")
            check.that("alb." not in str(ingress["metadata"].get("annotations")), f"{where}: annotations of another controller")
            continue
        asked = ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/healthcheck-path"]
        check.that(asked == readiness, f"{where}: the load balancer requests {asked}, the probe {readiness}")
        annotations = {key.rpartition("/")[2]: value for key, value in ingress["metadata"]["annotations"].items()}
        check.that('"HTTPS":443' in annotations["listen-ports"] and annotations["ssl-redirect"] == "443",
                   f"{where}: the load balancer serves HTTP")
        check.that(annotations["ssl-policy"].startswith("ELBSecurityPolicy-TLS13-1-2"), f"{where}: the load balancer accepts TLS below 1.2")
    check.that(pod["terminationGracePeriodSeconds"] >= seconds["SHUTDOWN_DELAY"] + seconds["SHUTDOWN_TIMEOUT"],
               f"{where}: SIGKILL comes before the shutdown ends")
    check.that(at(spec, "strategy.rollingUpdate.maxUnavailable") == 0, f"{where}: an upgrade reduces the number of pods")
    zones = [constraint for constraint in pod["topologySpreadConstraints"] if constraint["topologyKey"] == "topology.kubernetes.io/zone"]
    check.that(len(zones) == 1, f"{where}: pods are not spread over zones")

    # Selectors.
    selected = spec["selector"]["matchLabels"]
    check.that(selected.items() <= labels.items(), f"{where}: the Deployment does not select its pods")
    migrations = [job["spec"]["template"]["metadata"]["labels"] for job in of_kind(manifests, "Job")]
    check.that(all(not selected.items() <= labels.items() for labels in migrations), f"{where}: migrations are selected as pods")
    service, = of_kind(manifests, "Service")
    check.that(service["spec"]["selector"] == selected, f"{where}: the Service selects other pods")
    check.that(service["spec"]["type"] == "ClusterIP", f"{where}: the Service is not a ClusterIP")
    ports = {port["name"] for port in container["ports"]}
    check.that({port["targetPort"] for port in service["spec"]["ports"]} <= ports, f"{where}: a targetPort has no container port")
    for monitor in of_kind(manifests, "ServiceMonitor"):
        found = monitor["spec"]["selector"]["matchLabels"]
        check.that(found.items() <= service["metadata"]["labels"].items(), f"{where}: the ServiceMonitor selects no Service")
    for route in of_kind(manifests, "Ingress") + of_kind(manifests, "HTTPRoute"):
        check.that(f"'name': '{service['metadata']['name']}'" in str(route["spec"]), f"{where}: a route has another backend")

    # Alerts.
    for rule in (rule for group in of_kind(manifests, "PrometheusRule") for rule in group["spec"]["groups"][0]["rules"]):
        series = set(re.findall(r"\b([a-z]+(?:_[a-z]+)+)\{", rule["expr"]))
        series = {re.sub(r"_bucket$", "", name) for name in series}
        unknown = sorted(name for name in series if f"`{name}`" not in METRICS.read_text())
        check.that(series and not unknown, f"{where}: {rule['alert']} reads {unknown or 'no series'}")
        check.that(f'namespace="causeway", service="{service["metadata"]["name"]}"' in rule["expr"], f"{where}: {rule['alert']} is of another release")
        check.that(readiness == "/readyz" or "db_read_only" not in rule["expr"], f"{where}: {rule['alert']} fires in a standby region, which reaches no primary")
        for key in ("for", "labels.severity", "annotations.summary", "annotations.description"):
            check.that(at(rule, key), f"{where}: {rule['alert']} has no {key}")

    # Disruptions.
    scaler = of_kind(manifests, "HorizontalPodAutoscaler")
    least = scaler[0]["spec"]["minReplicas"] if scaler else spec["replicas"]
    check.that(bool(scaler) != ("replicas" in spec), f"{where}: the Deployment and the autoscaler both set the number of pods")
    budgets = of_kind(manifests, "PodDisruptionBudget")
    check.that(len(budgets) == (least > 1), f"{where}: {len(budgets)} budgets for {least} pods")
    for budget in budgets:
        check.that(budget["spec"]["maxUnavailable"] < least, f"{where}: a node drain may evict every pod")
        check.that(budget["spec"]["selector"]["matchLabels"] == selected, f"{where}: the budget selects other pods")

    # Network policies: one per pod in both directions, without an open rule.
    policies = of_kind(manifests, "NetworkPolicy")
    for owned in [labels, *migrations]:
        own = [policy for policy in policies if policy["spec"]["podSelector"]["matchLabels"].items() <= owned.items()]
        check.that(len(own) == 1 and set(own[0]["spec"]["policyTypes"]) == {"Ingress", "Egress"},
                   f"{where}: not every pod has one policy in both directions")
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            check.that(rule.get("from") and rule.get("ports"), f"{where}: {policy['metadata']['name']} admits every peer")
        peers = [peer for rule in policy["spec"].get("ingress", []) + policy["spec"]["egress"]
                 for peer in rule.get("from", []) + rule.get("to", [])]
        check.that(all(peer and not at(peer, "ipBlock.cidr") in ("0.0.0.0/0", "::/0") for peer in peers),
                   f"{where}: {policy['metadata']['name']} contains every address")
        anywhere = [rule for rule in policy["spec"]["egress"] if not rule.get("to")]
        check.that(all([p["port"] for p in rule["ports"]] == [443] for rule in anywhere),
                   f"{where}: {policy['metadata']['name']} allows ports other than 443 to every address")

    # Hooks that run before a release must not need its objects.
    before = [manifest for manifest in manifests if "helm.sh/hook" in manifest["metadata"].get("annotations", {})]
    made_before = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in before}
    made_later = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests if manifest not in before}
    fetched = {secret["spec"]["target"]["name"] for secret in of_kind(before, "ExternalSecret")}
    later = {secret["spec"]["target"]["name"] for secret in of_kind(manifests, "ExternalSecret")} - fetched
    for job in of_kind(manifests, "Job"):
        hook = at(job, "metadata.annotations").get("helm.sh/hook")
        check.that(hook == "pre-install,pre-upgrade", f"{where}: the migration does not run before the release")
        check.that(at(job, "spec.template.spec.serviceAccountName") is None, f"{where}: the migration needs an account that is created later")
        for volume in job["spec"]["template"]["spec"]["volumes"]:
            secret = at(volume, "secret.secretName")
            check.that(secret not in later, f"{where}: the migration needs a Secret that is created later: {secret}")
            needed = ("ConfigMap", at(volume, "configMap.name"))
            check.that(needed in made_before or needed not in made_later,
                       f"{where}: the migration needs a ConfigMap that is created later: {needed[1]}")


def values_added(check, chart):
    """Each value that adds to an object reaches it, and the object stays valid."""
    eks = over(example("eks.yaml"), {"networkPolicy": {"prometheus": PEER}})
    for changes, kind, path, wanted in ADDED:
        manifests = of_kind(render(chart, over(eks, changes)), kind)
        check.that(any(at(manifest, path) == wanted for manifest in manifests), f"{changes}: no {kind} has {path} = {wanted}")
        for manifest in manifests:
            valid(check, f"eks.yaml with {changes}", manifest)


def contradictions_rejected(check, chart):
    """Each case is rejected with its message, and each validation has a case."""
    minimal = example("minimal.yaml")
    lines = (CHART / "templates/validation.yaml").read_text().splitlines()
    rules = {number for number, line in enumerate(lines, 1) if "{{- fail " in line}
    tried = set()
    for changes, sentence in REJECTED:
        try:
            chart.render(over(minimal, changes), name="shop")
            said = "nothing"
        except (helm_python.HelmValuesError, helm_python.HelmRenderError) as error:
            said = str(error)
        check.that(sentence in said, f"{changes}: expected «{sentence}», got {said}")
        tried |= {int(line) for line in re.findall(r"validation\.yaml:(\d+)", said)}
    for rule in sorted(rules - tried):
        check.that(False, f"no case for {lines[rule - 1]}")


def unknown_names_rejected(check, schema, path=""):
    """The schema rejects unknown names at every level."""
    if "properties" in schema:
        check.that(schema.get("additionalProperties") is False, f"the schema admits any name in {path or '/'}")
    for name, inner in schema.get("properties", {}).items():
        unknown_names_rejected(check, inner, f"{path}/{name}")


def every_setting_covered(check, chart):
    """Every variable of the reference is in extraEnv's schema, set by the chart, or excluded on purpose."""
    documented = set()
    for row in re.findall(r"^\| (`[A-Z][A-Z_`, ]+`) \|", SETTINGS.read_text(), re.MULTILINE):
        documented.add(re.findall(r"`([A-Z_]+)`", row)[0])
    documented |= {"RUST_LOG"}
    allowed = set(chart.schema["properties"]["extraEnv"]["propertyNames"]["enum"])
    secret = {"DATABASE_URL", "PGPASSWORD", "REDIS_URL", "REDIS_PASSWORD"}
    # The chart sets LISTEN instead of PORT; ElastiCache has a certificate of a public CA.
    elsewhere = {"PORT", "REDIS_TLS_CA_FILE"}
    own = set().union(*settings_of(render(chart, example("eks.yaml") | {"extraEnv": {}})))
    own = {variable.removesuffix("_FILE") for variable in own} - secret
    check.that(documented == allowed | own | secret | elsewhere,
               f"settings missing from the reference or the schema: {documented ^ (allowed | own | secret | elsewhere)}")
    check.that(not allowed & (own | secret), f"settings that can be set twice: {allowed & (own | secret)}")


def main():
    check = Count()
    manifests = 0
    eks = example("eks.yaml")
    renderings = {path.name: example(path.name) for path in sorted((CHART / "examples").glob("*.yaml"))}
    renderings |= {
        "eks.yaml with a gateway": over(eks, GATEWAY),
        "eks.yaml without autoscaling and migration": over(eks, FIXED),
        "eks.yaml with an IRSA role": over(eks, IRSA),
        "eks.yaml in a standby region": over(eks, STANDBY_REGION),
        "eks.yaml with nginx": over(eks, NGINX),
        "eks.yaml with one pod": over(eks, ONE_POD),
        "eks.yaml with another name": over(eks, {"fullnameOverride": "hello"}),
    }
    with helm_python.Chart.load(CHART) as chart:
        for name, values in renderings.items():
            report = helm_python.lint(CHART, values, strict=True)
            told = [message for message in report["messages"] if message["severity"] > 1] + report["errors"]
            check.that(not told, f"{name}: lint: {told}")
            rendered = render(chart, values)
            manifests += len(rendered)
            names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered]
            check.that(len(names) == len(set(names)), f"{name}: two objects have one name")
            for manifest in rendered:
                valid(check, name, manifest)
            holds(check, name, rendered, at(values, "readinessProbe.httpGet.path") or "/readyz")
        values_added(check, chart)
        contradictions_rejected(check, chart)
        unknown_names_rejected(check, chart.schema)
        every_setting_covered(check, chart)

    for finding in check.wrong:
        print(f"chart: {finding}", file=sys.stderr)
    print(f"chart: {len(renderings)} renderings, {manifests} manifests, {len(REJECTED)} rejections: "
          f"{check.looked_at - len(check.wrong)} of {check.looked_at} checks passed")
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
