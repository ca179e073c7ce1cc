"""Reading FlatBuffers, the format in which Arrow IPC files describe what they hold."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np


class Table:
    """A table at byte `at` of `data`. Errors: struct.error or ValueError where it points outside.

    Fields go by number, in the order of the schema that declares them.
    """

    def __init__(self, data: Any, at: int) -> None:
        self.data, self.at = data, at

    @staticmethod
    def root(data: Any, at: int = 0) -> Table:
        return Table(data, at + number(data, "<I", at))

    def scalar(self, field: int, format: str, default: int = 0) -> int:
        """A number, or its default where it is left out."""
        at = self._place(field)
        return number(self.data, format, at) if at else default

    def table(self, field: int) -> Table | None:
        at = self._place(field)
        return Table(self.data, at + number(self.data, "<I", at)) if at else None

    def records(self, field: int, dtype: np.dtype) -> np.ndarray:
        """A vector of structs as a view; none where it is left out."""
        at = self._place(field)
        if not at:
            return np.zeros(0, dtype)
        at += number(self.data, "<I", at)
        count = number(self.data, "<I", at)
        return np.frombuffer(self.data, dtype, count, at + 4)

    def _place(self, field: int) -> int:
        """Where a field's value is, 0 if it is left out."""
        index = self.at - number(self.data, "<i", self.at)
        entry = 4 + 2 * field
        if entry >= number(self.data, "<H", index):
            return 0
        inside = number(self.data, "<H", index + entry)
        return self.at + inside if inside else 0


def number(data: Any, format: str, at: int) -> int:
    if at < 0:
        raise ValueError(f"a place before the beginning: {at}")
    return struct.unpack_from(format, data, at)[0]
