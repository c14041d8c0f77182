"""Releases to a cluster that moto plays, and breaks each step.

moto answers as ECS, ECR, Parameter Store and CloudWatch do, to the real command-line client. It runs no
container, and its services make no deployments. That part is played here: a task ends with the exit
code that a test asks for, and an update makes a deployment that ends as a test asks for. So this shows
what the scripts do with what ECS says. What ECS itself does, such as its circuit breaker, it does not.
"""

import json
import os
import subprocess
import threading
import unittest
import urllib.request
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
from client import client as command_line
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionResult
from moto.ecs.models import EC2ContainerServiceBackend, Task, ecs_backends
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.moto_api import state_manager
from moto.server import ThreadedMotoServer
from test_night import HANG_SECS

SCRIPTS = Path(__file__).resolve().parent.parent
REGION, SECOND, PARAMETERS = "eu-west-1", "eu-central-1", "eu-north-1"
NAME = "causeway-test"
OLD = f"{DEFAULT_ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/causeway/api@sha256:{'0' * 64}"
NEW = f"{DEFAULT_ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/causeway/api@sha256:{'1' * 64}"


class Played:
    """What containers would do, and whatever of the world a test wants otherwise."""

    def __init__(self):
        self.exit_code = 0
        self.never_ends = False
        # How the rollout of an image ends; of every other, well.
        self.rollouts = {}
        self.after_update = None
        # Answers of ECS during which both revisions of a blue/green deployment run after the traffic has shifted.
        self.baking = 0
        # Each service's deployments, as ECS keeps them apart from the service.
        self.deployments = []
        self.tasks = []
        self.updates = []


played = Played()


def play():
    """Lets moto's tasks and services do what a cluster would."""
    state_manager.set_transition("ecs::task", {"progression": "immediate"})
    started = Task.__init__

    def start(task, *arguments, **options):
        started(task, *arguments, **options)
        task.containers[0].exitCode = played.exit_code
        if played.never_ends:
            task._transitions = [("RUNNING", "RUNNING")]
        played.tasks.append(task)

    Task.__init__ = start
    update = EC2ContainerServiceBackend.update_service

    def roll(backend, properties):
        service = update(backend, dict(properties))
        definition = backend.describe_task_definition(service.task_definition)
        image = definition.container_definitions[0]["image"]
        before = [deployment for deployment in service.deployments if deployment.get("rolloutState", "COMPLETED") == "COMPLETED"]
        outcome = played.rollouts.get(image, "COMPLETED")
        now = datetime.now(timezone.utc)
        requested = service.deployments[0]["taskDefinition"]  # without a change, ECS starts no deployment
        own = dict(service.deployments[0], taskDefinition=definition.arn, createdAt=now, updatedAt=now,
                   id=f"ecs-svc/{len(played.updates)}", status="PRIMARY", rolloutState=outcome)
        service.task_definition = definition.arn
        # A deployment that has completed is alone; until then the one before runs beside it.
        service.deployments = [own] if outcome == "COMPLETED" else [own, *before]
        if outcome == "CIRCUIT_BREAKER":
            # ECS rolls back automatically: the failed deployment is being removed.
            own.update(rolloutState="FAILED", status="ACTIVE")
            service.task_definition = before[0]["taskDefinition"]
            service.deployments = [dict(before[0], status="PRIMARY"), own]
        played.updates.append(image)
        state = {"COMPLETED": "SUCCESSFUL", "FAILED": "ROLLBACK_FAILED", "CIRCUIT_BREAKER": "ROLLBACK_SUCCESSFUL"}.get(outcome, outcome)
        if requested != definition.arn:
            played.deployments.append({
                "serviceDeploymentArn": f"arn:aws:ecs:{backend.region_name}:{DEFAULT_ACCOUNT_ID}:service-deployment/{NAME}-api/{NAME}-api/{len(played.deployments)}",
                "serviceArn": f"{backend.region_name} {service.name}", "createdAt": now, "status": state, "statusReason": f"played as {outcome}", "baking": played.baking,
            })
        if played.baking:
            # Blue/green: ECS reports no rolloutState, and both deployments, until the bake time is over.
            own.pop("rolloutState")
            service.deployments = [own, *before]
        if played.after_update:
            played.after_update(service)
        return service

    EC2ContainerServiceBackend.update_service = roll
    EC2ContainerServiceResponse.list_service_deployments = listed
    EC2ContainerServiceResponse.describe_service_deployments = described


def listed(response):
    where = f"{response.region} {response._get_param('service').split('/')[-1]}"
    return ActionResult({"serviceDeployments": [deployment for deployment in played.deployments if deployment["serviceArn"] == where]})


def described(response):
    wanted = response._get_param("serviceDeploymentArns")
    found = []
    for deployment in played.deployments:
        if deployment["serviceDeploymentArn"] not in wanted:
            continue
        # The bake time is part of the deployment.
        baking = deployment["status"] == "SUCCESSFUL" and deployment["baking"] > 0
        deployment["baking"] -= 1
        found.append(deployment | {"status": "IN_PROGRESS", "lifecycleStage": "BAKE_TIME"} if baking else deployment)
    return ActionResult({"serviceDeployments": found})


class Answers(BaseHTTPRequestHandler):
    """The API, as a smoke test sees it."""

    statuses = {}

    def do_GET(self):
        status = self.statuses.get(self.path, 404 if self.path.startswith("/hello/") else 200)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Deployment(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        play()
        cls.aws = cls.enterClassContext(command_line())
        cls.server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        cls.server.start()
        host, port = cls.server.get_host_and_port()
        cls.endpoint = f"http://{host}:{port}"
        cls.api = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=cls.api.serve_forever, daemon=True).start()
        cls.url = f"http://127.0.0.1:{cls.api.server_address[1]}"

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.api.shutdown()

    def client(self, service, region=REGION):
        return boto3.client(service, region_name=region, endpoint_url=self.endpoint,
                            aws_access_key_id="test", aws_secret_access_key="test")

    def setUp(self):
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST"), timeout=10)
        state_manager.set_transition("ecs::task", {"progression": "immediate"})
        played.__init__()
        Answers.statuses = {}
        self.before = self.cluster(REGION)

    def cluster(self, region):
        """A cluster as Terraform makes it. Returns the task definition that runs."""
        ecs, ec2 = self.client("ecs", region), self.client("ec2", region)
        network = {"subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
                   "securityGroups": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]]}
        ecs.create_cluster(clusterName=f"{NAME}-api")
        definitions = {}
        for family in (f"{NAME}-api", f"{NAME}-api-migrate"):
            definitions[family] = ecs.register_task_definition(
                family=family, networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512",
                containerDefinitions=[{
                    "name": "api", "image": OLD, "cpu": 256, "memory": 512, "essential": True, "readonlyRootFilesystem": True,
                    "environment": [{"name": "MIGRATE", "value": "off"}],
                    "logConfiguration": {"logDriver": "awslogs", "options": {
                        "awslogs-group": f"/{NAME}/api", "awslogs-stream-prefix": "api", "awslogs-region": region}},
                }],
                tags=[{"key": "project", "value": "causeway"}],
            )["taskDefinition"]["taskDefinitionArn"]
        ecs.create_service(
            cluster=f"{NAME}-api", serviceName=f"{NAME}-api", taskDefinition=definitions[f"{NAME}-api"], desiredCount=2,
            launchType="FARGATE", networkConfiguration={"awsvpcConfiguration": network},
        )
        running = ecs_backends[DEFAULT_ACCOUNT_ID][region].services[f"{NAME}-api:{NAME}-api"]
        running.task_definition = definitions[f"{NAME}-api"]
        running.deployments[0].update(rolloutState="COMPLETED", runningCount=2, taskDefinition=definitions[f"{NAME}-api"])
        return definitions[f"{NAME}-api"]

    def run_script(self, script, *arguments, timeout="3"):
        environment = {
            "PATH": f"{self.aws}:{os.environ['PATH']}", "HOME": "/nonexistent",
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_MAX_ATTEMPTS": "1", "DEPLOY_POLL": "0.2", "DEPLOY_TIMEOUT": timeout,
        }
        return subprocess.run([SCRIPTS / script, *arguments], env=environment, capture_output=True, text=True, timeout=HANG_SECS)

    def release(self, *more, image=NEW, timeout="3"):
        return self.run_script("release", "--cluster", f"{NAME}-api", "--service", f"{NAME}-api", "--image", image,
                               "--migration", f"{NAME}-api-migrate", "--url", self.url, *more, timeout=timeout)

    def roll(self, *what, timeout="3"):
        return self.run_script("roll", "--cluster", f"{NAME}-api", "--service", f"{NAME}-api", *(what or ("--image", NEW)),
                               timeout=timeout)

    def runs(self, region=REGION):
        """The image of the service's task definition."""
        ecs = self.client("ecs", region)
        service, = ecs.describe_services(cluster=f"{NAME}-api", services=[f"{NAME}-api"])["services"]
        return self.definition(service["taskDefinition"], region)["containerDefinitions"][0]["image"]

    def definition(self, name, region=REGION):
        return self.client("ecs", region).describe_task_definition(taskDefinition=name)["taskDefinition"]

    def failed(self, outcome, *sentences):
        self.assertNotEqual(outcome.returncode, 0, outcome.stderr)
        for sentence in sentences:
            self.assertIn(sentence, outcome.stderr)

    def test_release(self):
        outcome = self.release()
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        self.assertEqual(self.runs(), NEW)
        self.assertEqual(played.updates, [NEW])
        # It migrated once, first, with the new image, in the service's network.
        task, = played.tasks
        self.assertIn(f"{NAME}-api-migrate:2", task.task_definition_arn)
        self.assertEqual(task.containers[0].image, NEW)
        self.assertLess(outcome.stderr.index("the schema is up to date"), outcome.stderr.index("roll: from"))

    def test_only_the_image_changes(self):
        self.roll()
        old, new = (self.definition(revision) for revision in (f"{NAME}-api:1", f"{NAME}-api:2"))
        for definition in (old, new):
            for key in ("taskDefinitionArn", "revision", "registeredAt"):
                definition.pop(key, None)
            definition["containerDefinitions"][0].pop("image")
        self.assertEqual(old, new)
        tags = self.client("ecs").describe_task_definition(taskDefinition=f"{NAME}-api:2", include=["TAGS"])["tags"]
        self.assertEqual(tags, [{"key": "project", "value": "causeway"}])

    def test_settings_that_terraform_changed_come_with_the_release(self):
        changed = self.definition(f"{NAME}-api:1")
        changed["containerDefinitions"][0]["environment"] = [{"name": "LOG_LEVEL", "value": "debug"}]
        self.client("ecs").register_task_definition(
            **{key: changed[key] for key in ("family", "networkMode", "cpu", "memory", "containerDefinitions")})
        self.roll()
        self.assertEqual(self.definition(f"{NAME}-api:3")["containerDefinitions"][0]["environment"],
                         [{"name": "LOG_LEVEL", "value": "debug"}])
        self.assertEqual(self.runs(), NEW)

    def test_the_same_release_again_makes_no_new_revision(self):
        self.roll()
        outcome = self.roll()
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        families = self.client("ecs").list_task_definitions(familyPrefix=f"{NAME}-api")["taskDefinitionArns"]
        self.assertEqual(len([family for family in families if f"{NAME}-api:" in family]), 2)

    def test_a_failed_migration_leaves_the_service_alone(self):
        played.exit_code = 1
        outcome = self.release()
        self.failed(outcome, "the migration failed with exit code 1", "the service was not changed")
        self.assertEqual(played.updates, [])
        self.assertEqual(self.runs(), OLD)

    def test_a_migration_that_does_not_end_is_stopped(self):
        played.never_ends = True
        outcome = self.release(timeout="1")
        self.failed(outcome, "did not end within 1 s and was stopped", "the service was not changed")
        self.assertEqual(played.tasks[0].desired_status, "STOPPED")
        self.assertEqual(played.updates, [])

    def test_what_does_not_become_stable_is_taken_back(self):
        played.rollouts[NEW] = "IN_PROGRESS"
        outcome = self.roll(timeout="1")
        self.failed(outcome, "not stable within 1 s", f"the service runs {self.before} again")
        self.assertEqual(played.updates, [NEW, OLD])
        self.assertEqual(self.runs(), OLD)

    def blue_green(self, bake_minutes):
        running = ecs_backends[DEFAULT_ACCOUNT_ID][REGION].services[f"{NAME}-api:{NAME}-api"]
        running.deployment_configuration = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": bake_minutes}

    def test_a_bake_time_is_waited_for(self):
        self.blue_green(1)
        played.baking = 2
        outcome = self.roll(timeout="0")
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        self.assertIn("IN_PROGRESS BAKE_TIME", outcome.stderr)
        self.assertEqual(played.updates, [NEW])

    def test_a_bake_time_is_part_of_the_timeout(self):
        played.baking = 2
        self.blue_green(0)
        self.failed(self.roll(timeout="0"), "not stable within 0 s")

    def test_running_tasks_of_an_unfinished_deployment_are_not_enough(self):
        played.rollouts[NEW] = "COMPLETED"
        played.after_update = lambda service: played.deployments[-1].update(status="IN_PROGRESS")
        self.failed(self.roll(timeout="1"), "not stable within 1 s")

    def test_what_ecs_gives_up_is_taken_back(self):
        played.rollouts[NEW] = "FAILED"
        outcome = self.roll()
        self.failed(outcome, "ECS aborted the deployment: played as FAILED", f"the service runs {self.before} again")
        self.assertEqual(self.runs(), OLD)

    def test_what_ecs_took_back_by_itself_is_a_failed_release(self):
        played.rollouts[NEW] = "CIRCUIT_BREAKER"
        outcome = self.roll()
        self.failed(outcome, "ECS aborted the deployment, and has rolled it back: played as CIRCUIT_BREAKER", f"the service runs {self.before} again")
        self.assertEqual(played.updates, [NEW], "ECS's rollback is not repeated")
        self.assertEqual(self.runs(), OLD)

    def test_a_way_back_that_fails_is_said(self):
        played.rollouts = {NEW: "FAILED", OLD: "IN_PROGRESS"}
        self.failed(self.roll(timeout="1"), f"{self.before} is not stable either", "look at the service")

    def test_another_hand_is_left_to_its_work(self):
        third = self.client("ecs").register_task_definition(
            family=f"{NAME}-other", containerDefinitions=[{"name": "api", "image": OLD, "memory": 512}],
        )["taskDefinition"]["taskDefinitionArn"]
        played.rollouts[NEW] = "IN_PROGRESS"
        played.after_update = lambda service: setattr(service, "task_definition", third)
        self.failed(self.roll(), "another process has changed the service")
        self.assertEqual(played.updates, [NEW])

    def test_what_does_not_work_from_outside_is_taken_back(self):
        Answers.statuses = {"/openapi.json": 404}
        outcome = self.release()
        self.failed(outcome, "/openapi.json answered 404, and not 200", f"the service runs {self.before} again")
        self.assertEqual(played.updates, [NEW, OLD])

    def test_a_standby_region_lives_and_is_not_ready(self):
        Answers.statuses = {"/readyz": 503, "/hello/Causeway": 503}
        smoke = ("smoke", "--url", self.url)
        self.failed(self.run_script(*smoke), "/readyz answered 503, and not 200")
        self.assertEqual(self.run_script(*smoke, "--standby").returncode, 0)
        Answers.statuses["/readyz"] = 404
        self.failed(self.run_script(*smoke, "--standby"), "/readyz answered 404, and not 200 or 503")
        self.failed(self.release("--standby"), "a standby takes no migration")

    def test_back_by_hand(self):
        self.roll()
        outcome = self.roll("--task-definition", f"{NAME}-api:1")
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        self.assertEqual(self.runs(), OLD)

    def test_what_cannot_be_right_is_refused(self):
        for image, sentence in (("r/api:latest", "is tagged latest"), ("r:5000/api", "neither digest nor tag")):
            self.failed(self.roll("--image", image), sentence)
        self.failed(self.run_script("release", "--cluster", "c"), "--service is missing")
        self.failed(self.run_script("roll", "--cluster", "c", "--service", "s"), "--image or --task-definition")
        self.failed(self.run_script("roll", "--cluster", f"{NAME}-api", "--service", "other", "--image", NEW),
                    "there is no active service `other`")
        self.failed(self.run_script("smoke", "--uri", "x"), "unknown argument `--uri`")
        self.assertEqual(played.updates, [])

    def parameters(self, *roots):
        ssm = self.client("ssm", PARAMETERS)
        for root, region in roots:
            repository = f"{DEFAULT_ACCOUNT_ID}.dkr.ecr.{region}.amazonaws.com/causeway/api"
            ssm.put_parameter(Name=f"/{NAME}/{root}/deploy", Type="String", Value=json.dumps({
                "region": region, "cluster": f"{NAME}-api", "service": f"{NAME}-api", "url": self.url,
                "migration": f"{NAME}-api-migrate" if root == "primary" else None, "image_repository": repository}))
            ecr = self.client("ecr", region)
            ecr.create_repository(repositoryName="causeway/api")
            ecr.put_image(repositoryName="causeway/api", imageTag="1.4.0", imageManifest=json.dumps(
                {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {}}))

    def environment(self, version="1.4.0"):
        return self.run_script("environment", "--name", NAME, "--version", version, "--parameters-region", PARAMETERS)

    def test_an_environment_of_two_regions(self):
        self.cluster(SECOND)
        self.parameters(("primary", REGION), ("dr", SECOND))
        outcome = self.environment()
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        for region in (REGION, SECOND):
            self.assertRegex(self.runs(region), rf"\.{region}\.amazonaws\.com/causeway/api@sha256:")
        self.assertEqual(len(played.tasks), 1, "only the primary region migrates")

    def test_an_environment_of_one_region(self):
        self.parameters(("primary", REGION))
        outcome = self.environment()
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        self.assertIn("no second region", outcome.stderr)

    def test_a_second_region_that_fails_is_said(self):
        self.parameters(("primary", REGION), ("dr", SECOND))
        self.failed(self.environment(), "the primary region runs 1.4.0 and the second does not")

    def test_an_environment_or_a_version_that_is_not_there(self):
        self.failed(self.environment(), f"no parameter `/{NAME}/primary/deploy`", "apply infra-primary first")
        self.client("ssm", PARAMETERS).put_parameter(
            Name=f"/{NAME}/primary/deploy", Type="String", Value=json.dumps({"region": REGION, "cluster": None}))
        self.failed(self.environment(), "does not run on ECS", "charts/api")
        self.client("ssm", PARAMETERS).delete_parameter(Name=f"/{NAME}/primary/deploy")
        self.parameters(("primary", REGION))
        self.failed(self.environment("9.9.9"), "the release `9.9.9` is not in")
        self.assertEqual(played.updates, [])
