"""How a command ends badly, and what its exit code then is."""

from __future__ import annotations


class Misuse(Exception):  # noqa: N818 - said by the user, not gone wrong
    """The command was asked for something that does not exist; exit code 2."""


class Failure(Exception):  # noqa: N818
    """The command was right and did not succeed; the message is one line; exit code 1."""
