"""Networks of the regions, the routes between them, and their cuts, by iptables."""

import subprocess

from topology import REGIONS, S3_PORT

DNS_PORT, NTP_PORT = 53, 123


class Network:
    def __init__(self, topology, engine):
        self.topology = topology
        self.engine = engine
        self.chain = f"CAUSEWAY-ANSIBLE-{topology.number}"

    def up(self):
        existing = self.engine.run("network", "ls", "--format={{.Name}}").split()
        for region in REGIONS:
            name = self.topology.network(region)
            if name not in existing:
                self.engine.run(
                    "network",
                    "create",
                    f"--subnet={self.topology.subnet(region)}",
                    f"--gateway={self.topology.gateway(region)}",
                    f"--opt=com.docker.network.bridge.name={self.topology.bridge(region)}",
                    name,
                )
        for chain in (self.chain, f"{self.chain}-SELF"):
            _iptables("-N", chain, check=False)
        # Docker drops what goes from one of its networks to another, unless this chain accepts.
        self._jump("-I", "DOCKER-USER", self.chain)
        for direction in ("INPUT", "OUTPUT"):
            self._jump("-I", direction, f"{self.chain}-SELF")
        # And it gives them this machine's address.
        self._keep_addresses("-I")
        self.heal()

    def heal(self):
        self.cut()

    def cut(self, *regions):
        """Separates regions from all others, and from this machine apart from the region's own S3, DNS and NTP."""
        rules = []
        for region in regions:
            inside, gateway = self.topology.subnet(region), self.topology.gateway(region)
            rules += [
                (self.chain, "-s", inside, "!", "-d", inside, "-j", "DROP"),
                (self.chain, "-d", inside, "!", "-s", inside, "-j", "DROP"),
                *self._own_services(inside, gateway),
                # Loopback of this machine, such as its own requests to the S3 of the region.
                (f"{self.chain}-SELF", "-s", gateway, "-d", gateway, "-j", "RETURN"),
                (f"{self.chain}-SELF", "-s", inside, "-j", "DROP"),
                (f"{self.chain}-SELF", "-d", inside, "-j", "DROP"),
            ]
        everything = self.topology.everything
        rules.append((self.chain, "-s", everything, "-d", everything, "-j", "ACCEPT"))
        for chain in (self.chain, f"{self.chain}-SELF"):
            _iptables("-F", chain)
        for rule in rules:
            _iptables("-A", *rule)

    def _own_services(self, inside, gateway):
        for protocol, port in (("tcp", S3_PORT), ("udp", DNS_PORT), ("udp", NTP_PORT)):
            yield (f"{self.chain}-SELF", "-s", inside, "-d", gateway, "-p", protocol, "--dport", str(port), "-j", "RETURN")
            yield (f"{self.chain}-SELF", "-s", gateway, "-d", inside, "-p", protocol, "--sport", str(port), "-j", "RETURN")

    def down(self):
        self._jump("-D", "DOCKER-USER", self.chain)
        for direction in ("INPUT", "OUTPUT"):
            self._jump("-D", direction, f"{self.chain}-SELF")
        self._keep_addresses("-D")
        for chain in (self.chain, f"{self.chain}-SELF"):
            _iptables("-F", chain, check=False)
            _iptables("-X", chain, check=False)
        for region in REGIONS:
            self.engine.run("network", "rm", self.topology.network(region), check=False)

    def _keep_addresses(self, action):
        everything = self.topology.everything
        rule = ("POSTROUTING", "-t", "nat", "-s", everything, "-d", everything, "-j", "ACCEPT")
        there = _iptables("-C", *rule, check=False).returncode == 0
        if there != (action == "-I"):
            _iptables(action, *rule)

    def _jump(self, action, source, target):
        there = _iptables("-C", source, "-j", target, check=False).returncode == 0
        if there != (action == "-I"):
            _iptables(action, source, "-j", target)


def _iptables(*arguments, check=True):
    done = subprocess.run(["iptables", "--wait", *arguments], text=True, capture_output=True)
    if check and done.returncode != 0:
        raise SystemExit(f"error: `iptables {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done
