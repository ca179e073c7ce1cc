"""Rows of many columns of a mapped file, gathered in any order straight into one buffer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from recis_core.io.error import ColumnError
from recis_core.io.extents import Opened


@dataclass(frozen=True)
class Gathers:
    """`rows` of columns of `file`. Over the columns: the byte of the file at which `values` begin,
    of `item` bytes each, `count` of these rows, the byte `to` of the buffer; `step` bytes of a
    bound, 0 where a row has one value, the byte of the first in the file and `own` in the buffer.
    """

    file: Opened
    rows: np.ndarray
    values: np.ndarray
    item: np.ndarray
    count: np.ndarray
    to: np.ndarray
    step: np.ndarray
    bounds: np.ndarray
    own: np.ndarray

    def jobs(self, into: np.ndarray, share: int) -> list[Callable[[], None]]:
        """What is to be done to gather them, in parts of about `share` bytes."""
        item, step = self.item, np.where(self.step, self.step, 4)
        first = np.where(self.step, self.bounds // step, -1)
        columns = self.values // item, self.count, self.to // item, first, self.own // step
        table = np.stack(columns, 1)
        found: list[Callable[[], None]] = []
        for width, bound in sorted(set(zip(item.tolist(), step.tolist(), strict=True))):
            own = table[(item == width) & (step == bound)]
            part = (own[:, 1] * width).cumsum() // share
            parts = np.split(own, np.flatnonzero(np.diff(part)) + 1)
            found += [partial(self.go, into, width, bound, one) for one in parts]
        return found

    def go(self, into: np.ndarray, item: int, step: int, table: np.ndarray) -> None:
        """Gather the columns of `table` into `into`; ColumnError if they changed since."""
        from recis_core.io.loops import gather  # slow to import, and only some shuffle

        values, own = (into[: len(into) // n * n].view(f"i{n}") for n in (item, step))
        words = self.file.words
        if not gather(words[item], words[step], self.rows, table, values, own):
            raise ColumnError(f"{self.file.path}: has changed since it was opened")
