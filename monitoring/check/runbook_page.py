"""Sections of a runbook, and the commands of its diagnosis."""

import re

SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "How to test"]


def sections(page):
    """Returns the text of each section of a page, by its title."""
    titles = re.split(r"^## (.+)$", page, flags=re.M)[1:]
    return dict(zip(titles[::2], titles[1::2]))


def commands(page):
    """Returns the commands that run in the lab too. Those of a real host are in blocks of the kind `console`."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", sections(page).get("Diagnosis", ""), flags=re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line]
