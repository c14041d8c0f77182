"""Command lines of the platform's programs, compared with docs/reference/cli-*.md, which is their `--help`."""

import re
from dataclasses import dataclass, field

PROGRAMS = ("failover-ctl", "backup-agent", "lab")


@dataclass
class Command:
    """What a command takes. `options` says of each whether it takes a value."""

    options: dict
    required: list
    arguments: list
    commands: dict = field(default_factory=dict)

    @property
    def repeats(self):
        return any(argument.endswith("...") for argument in self.arguments)

    def names(self, words):
        """Whether the words are the name of a command below this one, and nothing else."""
        command = self
        for word in words:
            if word not in command.commands:
                return False
            command = command.commands[word]
        return True

    def wrong(self, words):
        """Returns what the program would answer to these words after its name, or nothing."""
        command, words, given, arguments = self, list(words), set(), []
        while words:
            word = words.pop(0)
            name, has_value, _ = word.partition("=")
            if word == "--":
                arguments += words
                words = []
            elif word.startswith("--"):
                if name == "--help":
                    return None
                if name not in command.options:
                    return f"has no option `{name}`"
                if command.options[name] and not has_value and (not words or words.pop(0).startswith("--")):
                    return f"needs a value for `{name}`"
                given.add(name)
            elif command.commands:
                if word not in command.commands:
                    return f"has no command `{word}`"
                command = command.commands[word]
            else:
                arguments.append(word)
                if command.repeats:
                    words = []
        if command.commands:
            return f"needs one of the commands {', '.join(command.commands)}"
        if missing := [name for name in command.required if name not in given]:
            return f"needs `{missing[0]}`"
        if len(arguments) < len(command.arguments):
            return f"needs the argument {command.arguments[len(arguments)]}"
        if len(arguments) > len(command.arguments) and not command.repeats:
            return f"takes no argument `{arguments[len(command.arguments)]}`"
        return None


def read(page):
    """Returns the first command of a page, with its commands below it."""
    root = None
    for title, text in re.findall(r"^## ([^\n]+)\n+```text\n(.*?)^```$", page, flags=re.M | re.S):
        usage = re.search(r"^Usage: (.+)$", text, flags=re.M)[1].removeprefix(title)
        options = re.findall(r"^ +(?:-\w, )?(--[\w-]+)( <[^>]+>)?", text, flags=re.M)
        command = Command(
            options={name: bool(value) for name, value in options},
            required=re.findall(r"(--[\w-]+) <", usage),
            arguments=re.findall(r"<[^>]+>(?:\.\.\.)?", re.sub(r"--[\w-]+ <[^>]+>", "", usage)),
        )
        _, *parents = title.split()
        above = root
        for parent in parents[:-1]:
            above = above.commands[parent]
        if parents:
            above.commands[parents[-1]] = command
        else:
            root = command
    return root
