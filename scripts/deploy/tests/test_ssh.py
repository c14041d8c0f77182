"""The way from Ansible to a host: `ansible/ssh-through-ssm`, and what cloud-init puts on a host.

With an sshd (of the system, or `CAUSEWAY_SSHD`) and as root, a real client reaches a real server with the host's own settings,
past stand-ins for AWS's two calls and for the metadata service.
"""

import http.server
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from test_night import HANG_SECS, SCRIPTS, Commands

ROOT = SCRIPTS.parent.parent
PROXY = ROOT / "ansible/ssh-through-ssm"
HOST = ROOT / "infra-modules/postgres"
INSTANCE = "i-0a1b2c3d4e5f60001"
SSHD = os.environ.get("CAUSEWAY_SSHD") or shutil.which("sshd", path="/usr/sbin")


class Metadata(http.server.ThreadingHTTPServer):
    """The metadata service of an instance, which answers with a token only."""

    def __init__(self):
        self.keys = {}
        super().__init__(("127.0.0.1", 0), MetadataHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def push(self, user, key, instance=INSTANCE, seconds=60):
        self.keys[user] = (f"#Timestamp={int(time.time()) + seconds}\n#Instance={instance}\n#Caller=arn:aws:sts::1:assumed-role/r/s\n"
                           f"#Request=11111111-2222\n{key}\nc2lnbmF0dXJl\n")


class MetadataHandler(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        self.answer("token" if self.path == "/api/token" else None)

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != "token":
            self.answer(None, 401)
        elif self.path == "/meta-data/instance-id":
            self.answer(INSTANCE)
        else:
            self.answer(self.server.keys.get(self.path.removeprefix("/meta-data/managed-ssh-keys/active-keys/").rstrip("/")))

    def answer(self, text, missing=404):
        self.send_response(missing if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_):
        pass


class Through(Commands):
    """A directory with a key in an agent, and AWS's commands."""

    def setUp(self):
        super().setUp()
        self.agent = {"SSH_AUTH_SOCK": str(self.directory / "agent")}
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", self.agent["SSH_AUTH_SOCK"]], stdout=subprocess.DEVNULL)
        self.addCleanup(agent.wait)
        self.addCleanup(agent.terminate)
        while not os.path.exists(self.agent["SSH_AUTH_SOCK"]):
            time.sleep(0.02)
        self.command("session-manager-plugin", "")
        self.command("aws", "echo '{}'")

    def add_key(self, *kind):
        file = self.directory / "key"
        subprocess.run(["ssh-keygen", "-q", *kind, "-N", "", "-f", file], check=True)
        subprocess.run(["ssh-add", "-q", file], check=True, env=os.environ | self.agent)
        file.unlink()
        return file.with_suffix(".pub").read_text().split()[1]

    def proxy(self, instance=INSTANCE, region="eu-west-1", user="admin"):
        return self.run_script(PROXY, "--instance", instance, "--region", region, "--user", user, **self.agent)


class Proxy(Through):
    def test_key_is_pushed_before_the_session_starts(self):
        key = self.add_key("-t", "ed25519")
        result = self.proxy()
        self.assertEqual(result.returncode, 0, result.stderr)
        pushed, session = self.called.read_text().splitlines()
        self.assertIn(f"send-ssh-public-key --region eu-west-1 --instance-id {INSTANCE} --instance-os-user admin --ssh-public-key ssh-ed25519 {key}", pushed)
        self.assertIn(f"ssm start-session --region eu-west-1 --target {INSTANCE} --document-name AWS-StartSSHSession --parameters portNumber=22", session)
        self.assertEqual(result.stdout, "{}\n", "standard output has the session alone")

    def test_refused_push_then_no_session(self):
        self.add_key("-t", "ed25519")
        self.command("aws", "echo AccessDeniedException >&2; exit 254")
        self.refused(self.proxy(), "AccessDeniedException")
        self.assertNotIn("start-session", self.called.read_text())

    def test_agent_without_a_usable_key_is_refused(self):
        self.refused(self.proxy(), "the ssh-agent has no Ed25519 or RSA key: run playbooks with scripts/deploy/ansible")
        self.add_key("-t", "ecdsa")
        self.refused(self.proxy(), "the ssh-agent has no Ed25519 or RSA key")

    def test_bad_arguments_are_refused(self):
        self.refused(self.proxy(instance="eu-west-1a-1"), "is no instance id: the inventory's ansible_host")
        self.refused(self.proxy(region="eu-west-1a"), "is no region: the inventory's `region`")
        self.refused(self.proxy(user="root; id"), "is no user of a host")
        self.assertEqual(self.called.read_text(), "")


class AuthorizedKeys(unittest.TestCase):
    def setUp(self):
        self.metadata = Metadata()
        self.addCleanup(self.metadata.server_close)
        self.addCleanup(self.metadata.shutdown)

    def keys(self, user="admin"):
        text = (HOST / "authorized-keys").read_text().replace("http://169.254.169.254/latest", f"http://127.0.0.1:{self.metadata.server_port}")
        result = subprocess.run([sys.executable, "-c", text, user], capture_output=True, text=True, timeout=HANG_SECS)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_pushed_key_is_accepted_without_forwarding(self):
        self.metadata.push("admin", "ssh-ed25519 QUJD someone")
        self.assertEqual(self.keys(), "restrict,pty ssh-ed25519 QUJD\n")
        self.assertEqual(self.keys("root"), "", "a key is of one user")

    def test_key_that_must_not_open_then_none(self):
        self.metadata.push("admin", "ssh-ed25519 QUJD", seconds=-1)
        self.assertEqual(self.keys(), "", "expired")
        self.metadata.push("admin", "ssh-ed25519 QUJD", instance="i-0a1b2c3d4e5f60002")
        self.assertEqual(self.keys(), "", "of another instance")
        self.metadata.push("admin", 'command="id" ssh-ed25519 QUJD')
        self.assertEqual(self.keys(), "", "with options of its own")
        self.assertEqual(self.keys("../../iam"), "", "no user's name")


@unittest.skipUnless(SSHD and os.geteuid() == 0 and "\nsshd:" in Path("/etc/passwd").read_text(), "needs an sshd with its user, and root for AuthorizedKeysCommandUser")
class Connection(Through):
    def setUp(self):
        super().setUp()
        self.metadata = Metadata()
        self.addCleanup(self.metadata.server_close)
        self.addCleanup(self.metadata.shutdown)
        # sshd takes no command from a directory that others may write, as /tmp is.
        place = Path(self.enterContext(tempfile.TemporaryDirectory(dir=ROOT / "target")))
        place.chmod(0o755)
        command = place / "authorized-keys"
        command.write_text((HOST / "authorized-keys").read_text().replace("http://169.254.169.254/latest", f"http://127.0.0.1:{self.metadata.server_port}"))
        command.chmod(0o755)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = re.search(r"sshd_config.d/causeway.conf\n    content: \|\n((?:      .*\n)+)", (HOST / "cloud-init.yaml").read_text())[1]
        settings = settings.replace("AllowUsers admin", "AllowUsers root").replace("/usr/lib/causeway/authorized-keys", str(command))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "host"], check=True)
        self.log = place / "log"
        self.log.touch()
        (place / "config").write_text(f"Port {port}\nHostKey {place}/host\nPidFile none\n{settings}")
        Path("/run/sshd").mkdir(exist_ok=True)
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", place / "config"], stderr=(place / "log").open("w"))
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        deadline = time.monotonic() + 20
        while "listening" not in self.log.read_text():
            self.assertLess(time.monotonic(), deadline, self.log.read_text())
            time.sleep(0.05)
        self.command("aws", f"""case "$2" in send-ssh-public-key) echo "${{10}}" > {self.directory}/pushed; echo '{{}}' ;;
            *) exec {sys.executable} -c 'import os, socket, sys, threading
s = socket.create_connection(("127.0.0.1", {port}))
def out():
    while data := s.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=out).start()
while data := os.read(0, 65536):
    s.sendall(data)
os._exit(0)' ;; esac""")

    def ssh(self, *command):
        environment = {"PATH": f"{self.directory}:{os.environ['PATH']}", "HOME": str(self.directory)} | self.agent
        return subprocess.run(
            ["ssh", "-F", "none", "-o", f"ProxyCommand={PROXY} --instance %h --region eu-west-1 --user %r", "-o", "StrictHostKeyChecking=accept-new",
             "-o", f"UserKnownHostsFile={self.directory}/known", "-o", "PasswordAuthentication=no", f"root@{INSTANCE}", *command],
            env=environment, cwd=self.directory, capture_output=True, text=True, timeout=HANG_SECS)

    def test_connects_with_the_pushed_key_alone(self):
        key = self.add_key("-t", "ed25519")
        self.metadata.push("root", f"ssh-ed25519 {key}")
        result = self.ssh("echo reached")
        self.assertEqual(result.stdout, "reached\n", result.stderr + self.log.read_text())
        self.assertEqual((self.directory / "pushed").read_text(), f"ssh-ed25519 {key}\n", "with the key that was pushed")
        self.assertIn(INSTANCE, (self.directory / "known").read_text(), "the host's key is known by the instance's id")
        self.metadata.keys.clear()
        self.assertEqual(self.ssh("echo reached").returncode, 255, "a minute later the key opens nothing")


class Playbook(Commands):
    """`scripts/deploy/ansible`, in a repository of its own, with an Ansible that notes its call."""

    def setUp(self):
        super().setUp()
        self.repository = self.directory / "repository"
        shutil.copytree(SCRIPTS, self.repository / "scripts/deploy", ignore=shutil.ignore_patterns("tests"))
        shutil.copytree(ROOT / "ansible/inventories/example", self.repository / "ansible/inventories/test")
        shutil.copy(ROOT / "ansible/requirements.txt", self.repository / "ansible/requirements.txt")
        (self.repository / "ansible/site.yml").touch()
        tools = self.repository / "target/ansible"
        (tools / "bin").mkdir(parents=True)
        shutil.copy(ROOT / "ansible/requirements.txt", tools / "stamp")
        playbook = tools / "bin/ansible-playbook"
        playbook.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {self.called}\nssh-add -L | cut -d" " -f1,3 >> {self.called}\necho "$ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED" >> {self.called}\nexit 4\n')
        playbook.chmod(0o755)
        self.command("session-manager-plugin", "")

    def playbook(self, *arguments, status=1):
        result = self.run_script(self.repository / "scripts/deploy/ansible", *arguments, TMPDIR=str(self.directory))
        self.assertEqual(result.returncode, status, result.stderr)
        return result

    def test_arguments_and_a_key_in_an_agent_alone(self):
        self.playbook("site", "--environment", "test", "--check", "--limit", "eu-west-1a-1,eu_central_1", "--set", "to=eu-central-1", "--set", "accept_loss=4MiB", status=4)
        self.assertEqual(self.called.read_text().splitlines(), [
            "--check", "--diff", "--limit=eu-west-1a-1,eu_central_1", "--inventory", "inventories/test", "--extra-vars", '{"to":"eu-central-1","accept_loss":"4MiB"}',
            "site.yml", "ssh-ed25519 test", "true"])
        self.assertEqual(list(self.directory.glob("tmp.*")), [], "nothing is left of the key")

    def test_lost_region_is_left_out(self):
        self.playbook("site", "--environment", "test", "--without", "eu-west-1", status=4)
        called = self.called.read_text().splitlines()
        self.assertEqual(called[:3], ["--inventory", "inventories/test/eu-central-1.aws_ec2.yml", "site.yml"])
        self.assertIn("there is no ansible/inventories/test/eu-west-3.aws_ec2.yml", self.playbook("site", "--environment", "test", "--without", "eu-west-3").stderr)

    def test_refused(self):
        asked = ("site", "--environment", "test")
        for arguments, sentence in (
            (("sites", *asked[1:]), "there is no ansible/sites.yml"),
            (("../site", *asked[1:]), "is no playbook"),
            (("site", "--environment", "prod"), "there is no ansible/inventories/prod: copy ansible/inventories/example"),
            (("site", "--environment", "../x"), "is no environment"),
            (("site",), "--environment is missing"),
            ((*asked, "--limit", "@hosts"), "--limit is `@hosts`: name hosts or groups"),
            ((*asked, "--set", "to={{ lookup('pipe', 'id') }}"), "write NAME=VALUE"),
            ((*asked, "--set", "ansible_user=root"), "variables of the connection are in the inventory"),
        ):
            self.assertIn(sentence, self.playbook(*arguments).stderr)
