"""Names that exist on a host and in the programs: units, paths, variables, problems, settings, playbooks, faults."""

import re

import command_line
import yaml

# Paths that no package and no role writes as a whole: each with a file of the repository, and the text there that makes it.
CREATED = {
    "/var/lib/causeway/failover-ctl/diverged": ("failover-ctl/src/agent/standby_setup/diverged_wal.rs", 'join("diverged")'),
    "/var/lib/postgresql/recovery-reserve": ("ansible/roles/volumes/tasks/main.yml", '"$mount/recovery-reserve"'),
    "/var/lib/postgresql-wal/recovery-reserve": ("ansible/roles/volumes/tasks/main.yml", '"$mount/recovery-reserve"'),
}
# Programs in the directory of PostgreSQL's package that Debian links to no directory of the path.
POSTGRESQL = ("pg_amcheck", "pg_ctl", "pg_waldump")


class Installed:
    """What packages, roles and programs of a repository bring."""

    def __init__(self, root):
        self.programs = {name: command_line.read((root / f"docs/reference/cli-{name}.md").read_text()) for name in command_line.PROGRAMS}
        self.roles = sorted(path.name for path in (root / "ansible/roles").iterdir())
        self.variables = set().union(*(_options(path) for path in (root / "ansible/roles").glob("*/meta/argument_specs.yml")))
        self.playbooks = {path.stem for path in (root / "ansible").glob("*.yml")}
        self.text = _on_hosts(root)
        self.units = set(re.findall(r"(?:unit: |/etc/systemd/system/)([\w@-]+\.(?:service|timer))\b", self.text))
        self.units |= {path.name for kind in ("service", "timer") for path in (root / "packages").glob(f"*/*.{kind}")}
        self.names = _problems(root) | _obstacles(root) | _settings(root) | self.playbooks | {unit.rpartition(".")[0] for unit in self.units}
        self.names |= {path.stem for path in (root / ".github/workflows").glob("*.yml")}
        self.created = {path for path, (file, text) in CREATED.items() if text in (root / file).read_text()}

    def has_path(self, path):
        """Whether a package, role or program brings a file, or the directory."""
        directory, _, name = path.rpartition("/")
        known = directory if name in POSTGRESQL else path
        return path in self.created or re.search(re.escape(known) + r"(?![\w-])", self.text) is not None


def _options(path):
    return {name for entry in yaml.safe_load(path.read_text())["argument_specs"].values() for name in entry.get("options", {})}


def _on_hosts(root):
    """Returns every text of packages and roles, with the release and the mounts of the roles' defaults."""
    files = [path for folder in ("ansible/roles", "packages") for path in sorted((root / folder).rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    text = "\n".join(path.read_text() for path in files if "tests" not in path.parts)
    defaults = yaml.safe_load((root / "ansible/roles/causeway/defaults/main.yml").read_text())
    for name in ("causeway_data_directory", "causeway_wal_directory", "causeway_bin_directory", "causeway_data_mount", "causeway_wal_mount", "causeway_postgres_release"):
        text = re.sub(r"\{\{ " + name + r" \}\}", defaults[name], text)
    return text


def _problems(root):
    return set(re.findall(r'Self::\w+ => "([a-z-]+)"', (root / "causeway-core/src/problem.rs").read_text()))


def _obstacles(root):
    """Returns the names that strum gives to the reasons for not taking the lease."""
    enums = re.findall(r"^pub enum (?:NoAction|Escalation) \{\n(.*?)^\}", (root / "causeway-core/src/failover/decision.rs").read_text(), flags=re.M | re.S)
    variants = [variant for body in enums for variant in re.findall(r"^    ([A-Z]\w+)", body, flags=re.M)]
    return {re.sub(r"(?<!^)(?=[A-Z])", "-", variant).lower() for variant in variants}


def _settings(root):
    """Returns the keys of settings files, and the values of labels, that the references have."""
    pages = (root / f"docs/reference/{name}.md" for name in ("settings-failover-ctl", "settings-backup-agent", "metrics"))
    return {name for page in pages for name in re.findall(r"`([a-z]+(?:-[a-z]+)*)`", page.read_text())}
