"""The failure of a step."""


class Failed(AssertionError):
    """A step has failed."""
