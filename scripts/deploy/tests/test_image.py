"""`scripts/node/image` against moto's EC2, with stand-ins for Systems Manager's agent and for SSH to the builder."""

import hashlib
import re
import unittest

import boto3
from client import client as command_line
from moto.server import ThreadedMotoServer
from test_night import SCRIPTS, Commands

REGION, SECOND = "eu-west-1", "eu-central-1"
PROFILE = "causeway-image-builder"


def setUpModule():
    global server, endpoint, aws, cleanup
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    cleanup = command_line()
    aws = cleanup.__enter__()


def tearDownModule():
    cleanup.__exit__(None, None, None)
    server.stop()


def ec2(region=REGION):
    return boto3.client("ec2", endpoint_url=endpoint, region_name=region, aws_access_key_id="test", aws_secret_access_key="test")


class Image(Commands):
    def setUp(self):
        super().setUp()
        iam = boto3.client("iam", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
        if PROFILE not in [profile["InstanceProfileName"] for profile in iam.list_instance_profiles()["InstanceProfiles"]]:
            iam.create_instance_profile(InstanceProfileName=PROFILE)
        self.packages = self.directory / "packages"
        self.packages.mkdir()
        for name in ("failover-ctl", "backup-agent", "causeway-api"):
            for architecture in ("arm64", "amd64"):
                (self.packages / f"{name}_0.1.0-1_{architecture}.deb").write_text(f"{name} {architecture}")
        self.sums()
        self.base = ec2().describe_images()["Images"][0]["ImageId"]
        self.stand_ins()

    def sums(self):
        (self.packages / "SHA256SUMS").write_text("".join(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(self.packages.glob("*.deb"))))

    def stand_ins(self, ping="Online", ssh="tar --extract --to-stdout --file=- 2> /dev/null | wc --bytes > /dev/null", broken="-"):
        self.command("session-manager-plugin", "")
        self.command("ssh", ssh)
        self.command("aws", f"""case "$1 $2" in
            "{broken}") echo "An error occurred (InternalError)" >&2; exit 254 ;;
            "ssm get-parameter") echo {self.base} ;;
            "ssm describe-instance-information") echo {ping} ;;
            *) exec "{aws}/aws" "$@" ;; esac""")

    def image(self, *more, kind="t4g.small", regions=f"{REGION},{SECOND}"):
        return self.run_script(
            SCRIPTS.parent / "node/image", "--regions", regions, "--instance-type", kind, "--profile", PROFILE, "--packages", str(self.packages), *more,
            AWS_ENDPOINT_URL=endpoint, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", IMAGE_POLL="0.05", IMAGE_TIMEOUT="2", TMPDIR=str(self.directory))

    def builders(self):
        return [instance for reservation in ec2().describe_instances(Filters=[{"Name": "tag:Role", "Values": ["image-builder"]}])["Reservations"] for instance in reservation["Instances"]]

    def nothing_left(self):
        self.assertEqual({builder["State"]["Name"] for builder in self.builders()}, {"terminated"}, "the builder is terminated")
        self.assertEqual(list(self.directory.glob("tmp.*")), [], "no key is left")

    def test_two_images_and_no_builder(self):
        for kind, architecture in (("t4g.small", "arm64"), ("t3.small", "amd64")):
            result = self.image(kind=kind)
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = re.findall(r'ami_id = "(ami-\w+)" # (\S+), (\w+)\n', result.stdout)
            self.assertEqual([(region, made) for _, region, made in lines], [(REGION, architecture), (SECOND, architecture)], result.stdout)
            for image, region, _ in lines:
                self.assertTrue(ec2(region).describe_images(ImageIds=[image])["Images"], f"{image} is in {region}")
            called = self.called.read_text()
            self.assertIn(f"/aws/service/debian/release/12/latest/{architecture}", called)
            self.assertIn("HttpTokens=required,HttpPutResponseHopLimit=1", called)
            self.assertLess(called.index("ssh -F none"), called.index("ec2 create-image"))
            self.assertLess(called.index("ec2 stop-instances"), called.index("ec2 create-image"))
        self.nothing_left()

    def test_user_data_is_that_of_a_node(self):
        self.command("user-data", "")
        self.stand_ins(ssh=f"cp {self.directory}/tmp.*/user-data {self.directory}/seen; cat > /dev/null")
        self.assertEqual(self.image().returncode, 0)
        seen = (self.directory / "seen").read_text()
        self.assertIn("amazon-ssm-eu-west-1", seen)
        self.assertIn("      #!/usr/bin/python3\n", seen)
        self.assertNotIn("${", seen, "nothing of the template is left")

    def test_failure_at_each_step_then_the_builder_is_terminated(self):
        for step in ("ssm describe-instance-information", "ec2 stop-instances", "ec2 create-image", "ec2 describe-images", "ec2 copy-image"):
            self.stand_ins(broken=step)
            result = self.image()
            self.assertNotEqual(result.returncode, 0, step)
            self.assertEqual(result.stdout, "", "no image is reported")
            self.nothing_left()
        self.stand_ins(ssh="cat > /dev/null; exit 100")
        self.refused(self.image(), "installing")
        self.nothing_left()
        self.stand_ins(ping="ConnectionLost")
        self.refused(self.image(), "is ConnectionLost after 2 s, and should be Online")
        self.nothing_left()

    def test_refused_before_an_instance_is_started(self):
        before = len(self.builders())
        self.refused(self.image(regions="eu-west-1"), "write the two database regions")
        self.refused(self.image(regions="eu-west-1,eu-west-1"), "write the two database regions")
        self.refused(self.image("--packages", str(self.directory)), "run `make package`")
        (self.packages / "backup-agent_0.1.0-1_arm64.deb").write_text("changed")
        self.refused(self.image(), "is not the one in SHA256SUMS")
        (self.packages / "backup-agent_0.1.0-1_arm64.deb").unlink()
        self.refused(self.image(), "has 0 packages of backup-agent for arm64, and should have one")
        self.assertEqual(len(self.builders()), before)


class Provision(unittest.TestCase):
    def test_each_unit_is_of_an_installed_package(self):
        text = (SCRIPTS.parent / "node/provision").read_text()
        names = re.search(r"apt_get install (postgresql-15 .*)", text)[1].split()
        units = re.search(r"for unit in (.*); do", text)[1].split()
        self.assertLessEqual(set(units) - {"postgresql"}, set(names))
