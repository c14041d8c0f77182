"""What each runbook must have: its alert, five sections in order, and commands that a test runs."""

from folder import kebab
from runbook_page import SECTIONS, commands, sections


def pairs(folder):
    """Alerts without a runbook, and runbooks without an alert."""
    needed = {}
    for rule in folder.alerts:
        page = kebab(rule.alert)
        needed[page] = rule.alert
        url = rule.annotations.get("runbook_url", "nothing")
        if url != f"docs/runbooks/{page}.md":
            yield f"`{rule.alert}` has the runbook_url `{url}`: write docs/runbooks/{page}.md"
    for page in sorted(set(needed) - set(folder.runbooks)):
        yield f"`{needed[page]}` has no runbook: write docs/runbooks/{page}.md"
    for page in sorted(set(folder.runbooks) - set(needed)):
        yield f"docs/runbooks/{page}.md belongs to no alert: rename or delete it"


def pages(folder):
    """Runbooks of another alert, without a section, with an empty one, or without a command."""
    alerts = {kebab(rule.alert): rule for rule in folder.alerts}
    for name, page in sorted(folder.runbooks.items()):
        place = f"docs/runbooks/{name}.md"
        found = sections(page)
        if list(found) != SECTIONS:
            yield f"{place} has the sections {', '.join(found) or 'none'}: write {', '.join(SECTIONS)}"
        for title, text in found.items():
            if not text.strip():
                yield f"{place} says nothing below `{title}`"
        if not commands(page):
            yield f"{place} has no command in a block ```sh below `Diagnosis`"
        if rule := alerts.get(name):
            if not page.startswith(f"# {rule.alert}\n"):
                yield f"{place} does not begin with `# {rule.alert}`"
            if f"monitoring/rules/{rule.subject}.yml" not in page:
                yield f"{place} does not link the rule's file, monitoring/rules/{rule.subject}.yml"


CHECKS = [pairs, pages]
