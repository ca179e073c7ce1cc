"""What goes wrong with column files, said in one line."""

from __future__ import annotations


class ColumnError(ValueError):
    """A file, column or row is not what was asked for; the message names it and its value."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, which for Arrow's errors says what is wrong."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
