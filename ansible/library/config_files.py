#!/usr/bin/python
"""Writes directories, links and text files of a role in one call."""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: config_files
short_description: Writes directories, links and text files
description:
  - Writes all files of a role in one call, where C(ansible.builtin.template) takes two calls per file. A second run on
    three hosts thereby takes seconds.
  - Each file is replaced atomically, with its owner and mode, and only if its content differs.
  - Every C(validate) is run before the first file is replaced.
options:
  directories:
    description: Directories to create, parents first. An existing directory gets the owner and mode.
    type: list
    elements: dict
  links:
    description: Symbolic links. An existing file or directory in its place is an error.
    type: list
    elements: dict
  files:
    description: Files, with their whole content. C(validate) is a command with C(%s) for a temporary copy.
    type: list
    elements: dict
  absent:
    description: Files and links to remove.
    type: list
    elements: path
author: Causeway
"""

EXAMPLES = r"""
- name: Settings of PostgreSQL
  config_files:
    directories:
      - { path: /etc/causeway/postgresql, mode: "0755" }
    files:
      - path: /etc/causeway/postgresql/pg_hba.conf
        content: "{{ lookup('ansible.builtin.template', 'pg_hba.conf.j2') }}"
        group: postgres
        mode: "0640"
"""

RETURN = r"""
paths:
  description: What was changed.
  returned: always
  type: list
  elements: str
"""

OWNERSHIP = {
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}


PREFIX = ".causeway-"


class Writer:
    """Writes what differs, and remembers it."""

    def __init__(self, module):
        self.module = module
        self.paths = []
        self.written = set()
        self.before = {}
        self.after = {}

    def attributes(self, entry, changed):
        wanted = {
            "path": entry["path"],
            "owner": entry["owner"],
            "group": entry["group"],
            "mode": entry["mode"],
            "secontext": [None, None, None],
            "attributes": None,
        }
        if self.module.check_mode and not os.path.lexists(entry["path"]):
            return changed
        return self.module.set_fs_attributes_if_different(wanted, changed)

    def note(self, path, changed):
        if changed:
            self.paths.append(path)

    def directory(self, entry):
        path = entry["path"]
        missing = not os.path.isdir(path)
        if missing and os.path.lexists(path):
            self.module.fail_json(msg=f"`{path}` is not a directory: move it away")
        if missing and not self.module.check_mode:
            os.makedirs(path, 0o700)
        self.note(path, self.attributes(entry, missing))

    def link(self, entry):
        path, target = entry["path"], entry["target"]
        if os.path.islink(path):
            changed = os.readlink(path) != target
        elif os.path.lexists(path):
            self.module.fail_json(msg=f"`{path}` is not a link to `{target}`: move it away")
        else:
            changed = True
        if changed and not self.module.check_mode:
            temporary = f"{path}.{os.getpid()}"
            os.symlink(target, temporary)
            os.replace(temporary, path)
        self.note(path, changed)

    def temporary(self, entry):
        """Writes the content to a hidden file, beside the destination if its directory exists, and returns the path."""
        directory = os.path.dirname(entry["path"])
        if self.module.check_mode or not os.path.isdir(directory):
            directory = self.module.tmpdir
        for name in os.listdir(directory):
            # Of a run that was killed.
            stale = os.path.join(directory, name)
            if name.startswith(PREFIX) and stale not in self.written:
                os.remove(stale)
        descriptor, path = tempfile.mkstemp(prefix=PREFIX, dir=directory)
        self.written.add(path)
        with os.fdopen(descriptor, "wb") as out:
            out.write(entry["content"].encode())
            out.flush()
            os.fsync(out.fileno())
        return path

    def different(self, entry):
        try:
            with open(entry["path"], "rb") as current:
                old = current.read()
        except FileNotFoundError:
            old = None
        except IsADirectoryError:
            self.module.fail_json(msg=f"`{entry['path']}` is a directory: move it away")
        if not entry["content"].endswith("\n"):
            entry["content"] += "\n"
        return old, old != entry["content"].encode()

    def files(self, entries):
        prepared = []
        for entry in entries:
            old, differs = self.different(entry)
            if not differs:
                prepared.append((entry, None))
                continue
            temporary = self.temporary(entry)
            self.module.add_cleanup_file(temporary)
            prepared.append((entry, temporary))
            self.validate(entry, temporary)
            if not self.module.no_log and not entry["secret"]:
                self.before[entry["path"]] = (old or b"").decode(errors="replace")
                self.after[entry["path"]] = entry["content"]
        for entry, temporary in prepared:
            if temporary and not self.module.check_mode:
                self.replace(entry, temporary)
            self.note(entry["path"], self.attributes(entry, temporary is not None))

    def validate(self, entry, temporary):
        command = entry.get("validate")
        if not command:
            return
        if "%s" not in command:
            self.module.fail_json(msg=f"`validate` of `{entry['path']}` has no %s for the file")
        os.chmod(temporary, 0o644 if not entry["secret"] else 0o600)
        program = command.split()[0]
        if self.module.check_mode and not os.path.exists(program):
            return
        code, out, err = self.module.run_command(command.replace("%s", temporary))
        if code != 0:
            said = " ".join((err + out).split()).replace(temporary, entry["path"])
            self.module.fail_json(msg=f"`{entry['path']}` would be invalid, so no file is changed: {said}")

    def replace(self, entry, temporary):
        """Gives the file its owner before its name, so that no reader finds a file that it may not read."""
        self.module.set_owner_if_different(temporary, entry["owner"], False)
        self.module.set_group_if_different(temporary, entry["group"], False)
        self.module.set_mode_if_different(temporary, entry["mode"], False)
        self.module.atomic_move(temporary, entry["path"], keep_dest_attrs=False)

    def absent(self, path):
        there = os.path.lexists(path)
        if os.path.isdir(path) and not os.path.islink(path):
            self.module.fail_json(msg=f"`{path}` is a directory, and only files and links are removed: move it away")
        if there and not self.module.check_mode:
            os.remove(path)
        self.note(path, there)


def main():
    module = AnsibleModule(
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "path", "required": True}, "mode": {"type": "str", "default": "0755"}, **OWNERSHIP},
            },
            "links": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "path", "required": True}, "target": {"type": "path", "required": True}},
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                    "validate": {"type": "str"},
                    "secret": {"type": "bool", "default": False},
                    **OWNERSHIP,
                },
            },
            "absent": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    writer = Writer(module)
    for entry in module.params["directories"]:
        writer.directory(entry)
    writer.files(module.params["files"])
    for entry in module.params["links"]:
        writer.link(entry)
    for path in module.params["absent"]:
        writer.absent(path)
    diff = [
        {"before_header": path, "after_header": path, "before": before, "after": writer.after[path]}
        for path, before in writer.before.items()
    ]
    module.exit_json(changed=bool(writer.paths), paths=writer.paths, diff=diff)


if __name__ == "__main__":
    main()
