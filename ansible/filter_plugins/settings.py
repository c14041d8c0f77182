"""Reads the programs' settings on the controller."""

import tomllib

from ansible.errors import AnsibleFilterError


def from_toml(text):
    """Returns the contents of a TOML text."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise AnsibleFilterError(f"this is no TOML: {error}") from error


def duplicates(values):
    """Returns the values that occur more than once."""
    values = list(values)
    return sorted({value for value in values if values.count(value) > 1})


class FilterModule:
    """Filters of the platform."""

    def filters(self):
        return {"from_toml": from_toml, "duplicates": duplicates}
