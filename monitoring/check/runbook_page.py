"""Sections of a runbook, and its commands and names."""

import re

SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "How to test"]
BLOCK = r"^```(sh|console)\n(.*?)^```$"


def sections(page):
    """Returns the text of each section of a page, by its title."""
    titles = re.split(r"^## (.+)$", page, flags=re.M)[1:]
    return dict(zip(titles[::2], titles[1::2]))


def commands(page):
    """Returns the commands that run in the lab too. Those of a real host are in blocks of the kind `console`."""
    blocks = re.findall(BLOCK, sections(page).get("Diagnosis", ""), flags=re.M | re.S)
    return [line for kind, block in blocks if kind == "sh" for line in block.splitlines() if line]


def every_command(page):
    """Returns the commands of every block, without the prompt."""
    blocks = re.findall(BLOCK, page, flags=re.M | re.S)
    return [line.removeprefix("$ ") for _, block in blocks for line in block.splitlines() if line]


def spans(page):
    """Returns the texts between backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(BLOCK, "", page, flags=re.M | re.S))


def account_and_words(words):
    """Splits a command into the account that `sudo -u` names, if it does, and the command itself."""
    if words[:2] == ["sudo", "-u"]:
        return words[2], words[3:]
    return None, words
