"""What a runbook names: command lines that the programs accept, run by the right user, and units, files, playbooks, variables and
problems that exist on a host."""

import re
import shlex

from runbook_page import account_and_words, every_command, sections, spans

SEVERITIES = {"critical": "critical: page", "warning": "warning: ticket", "info": "information"}
ON_CALL = "(../guides/on-call.md)"
# Over the socket, PostgreSQL admits its own user, who also owns what backup-agent writes.
OF_POSTGRES = ("psql", "backup-agent")


def places(folder):
    """Yields each runbook and guide, with its path."""
    for name, page in sorted(folder.runbooks.items()):
        yield f"docs/runbooks/{name}.md", page
    yield from sorted(folder.guides.items())


def parts(command):
    """Returns the words of a command, or none for a text that is no command."""
    try:
        return shlex.split(command, comments=True)
    except ValueError:
        return []


def command_lines(folder):
    """Commands of the platform's programs that they would reject. A text in prose may name a command without its options."""
    for place, page in places(folder):
        for command in every_command(page):
            yield from rejected(folder, place, command, named_only=False)
        for command in spans(page):
            yield from rejected(folder, place, command, named_only=True)


def rejected(folder, place, command, named_only):
    _, words = account_and_words(parts(command))
    if len(words) < 2 or words[0] not in folder.installed.programs or "…" in command:
        return
    if named_only and mentions(folder, words):
        return
    if answer := folder.installed.programs[words[0]].wrong(words[1:]):
        yield f"{place} has `{command}`, and {words[0]} {answer}: see docs/reference/cli-{words[0]}.md"


def mentions(folder, words):
    """Whether the words name a program, or a command of one without what it needs to run."""
    return len(words) < 2 or (words[0] in folder.installed.programs and folder.installed.programs[words[0]].names(words[1:]))


def accounts(folder):
    """Commands of a runbook that the socket or the command signing key refuses to the user who runs them."""
    for name, page in sorted(folder.runbooks.items()):
        place = f"docs/runbooks/{name}.md"
        if ON_CALL not in page:
            yield f"{place} does not link {ON_CALL}, which says where and as whom its commands run"
        mentioned = {span for span in spans(page) if mentions(folder, parts(span))}
        for command in every_command(page) + [span for span in spans(page) if span not in mentioned]:
            account, words = account_and_words(parts(command))
            if words and words[0] in OF_POSTGRES and account is None:
                yield f"{place} runs `{command}` as root: write `sudo -u postgres {command}`"
            if words and words[0] == "failover-ctl" and account is not None:
                yield f"{place} runs `{command}`: root alone reads the command signing key"


def units(folder):
    """Units of systemctl and journalctl that no package or role installs."""
    for place, page in places(folder):
        for command in every_command(page) + spans(page):
            _, words = account_and_words(parts(command))
            for unit in named_units(words):
                full = unit if "." in unit else f"{unit}.service"
                if full not in folder.installed.units:
                    yield f"{place} names the unit `{unit}`, which no package and no role installs"


def named_units(words):
    """Yields the units that a command of systemd names."""
    if words[:1] == ["systemctl"]:
        yield from (word for word in words[2:] if re.fullmatch(r"[a-z][\w.-]*", word))
    if words[:1] == ["journalctl"]:
        yield from (word for option, word in zip(words, words[1:]) if option == "--unit")


def paths(folder):
    """Files and directories of a host that no package, role or program brings."""
    for name, page in sorted(folder.runbooks.items()):
        for text in every_command(page) + spans(page):
            for path in re.findall(r"(?<![\w.:/])/(?:etc|usr|run|var/lib)/[\w./-]*\w", text):
                if not folder.installed.has_path(path):
                    yield f"docs/runbooks/{name}.md names `{path}`, which no package, role or program brings"


def names(folder):
    """Problems, settings, playbooks and variables of roles that do not exist."""
    for name, page in sorted(folder.runbooks.items()):
        place = f"docs/runbooks/{name}.md"
        for playbook in re.findall(r"[Pp]laybook \[?`([^`]+)`", page):
            if playbook not in folder.installed.playbooks:
                yield f"{place} names the playbook `{playbook}`: there is no ansible/{playbook}.yml"
        for span in spans(page):
            if re.fullmatch(r"[a-z]+(-[a-z]+)+", span) and span not in folder.installed.names:
                yield f"{place} names `{span}`, which is no problem, obstacle, setting, playbook or unit"
            if any(span.startswith(f"{role}_") for role in folder.installed.roles) and span not in folder.installed.variables:
                yield f"{place} names the variable `{span}`, which no role declares"


def severities(folder):
    """Runbooks that state another severity than the rules."""
    for name, page in sorted(folder.runbooks.items()):
        severity = [rule.severity for rule in folder.alerts if page.startswith(f"# {rule.alert}\n")]
        wanted = f"\nSeverity: {', '.join(SEVERITIES.get(each, each) for each in severity)}. "
        if severity and wanted not in page:
            yield f"docs/runbooks/{name}.md does not state{wanted.removesuffix('. ').replace(chr(10), ' ')}, as the rule does"


def first_commands(folder):
    """Alerts that begin with a program that the diagnosis of their runbook does not run."""
    for name, page in sorted(folder.runbooks.items()):
        run = {account_and_words(parts(command))[1][0] for command in every_command(sections(page).get("Diagnosis", ""))}
        for rule in folder.alerts:
            begin = re.search(r"Begin with\s+`(\S+)", rule.annotations.get("description", ""))
            if begin and page.startswith(f"# {rule.alert}\n"):
                program = "psql" if begin[1] == "SELECT" else begin[1]
                if program not in run:
                    yield f"docs/runbooks/{name}.md does not run `{program}` in its diagnosis, with which the alert begins"


CHECKS = [command_lines, accounts, units, paths, names, severities, first_commands]
