"""What a device was measured to do at most: a plain record that every layer may carry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

GB = 10**9


@dataclass(frozen=True)
class Roofs:
    """Measured limits of one device with a number of threads; rates are bytes (or flops) a second.

    `copy` counts bytes read and bytes written. `random` maps the bytes of a row to the rate at
    which random rows of a working set far above the last-level cache are read and written out in
    order, both counted; `random_sets` the same by bytes of a smaller working set; `scatter` of rows
    read in order and written at random. `caches`: level name -> bytes of one instance;
    `last_level` is the largest. `matmul`, `tf32`, `bf16`: flops of a matrix product. `atomics`:
    additions a second to "one" word and "spread" at random over the working set. `to_device`,
    `to_host`: the host link, pinned. None or empty: not there, or not measured. `quick`: fewer
    samples were taken.
    """

    device: str
    kind: str  # "cpu" or "cuda"
    cores: int  # multiprocessors on a GPU
    threads: int
    memory: int
    caches: Mapping[str, int]
    copy: float
    read: float
    write: float
    update: float
    cache: float
    random: Mapping[int, float]
    matmul: float
    working_set: int  # bytes the random rows were drawn from
    quick: bool = False
    random_sets: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    scatter: Mapping[int, float] = field(default_factory=dict)
    atomics: Mapping[str, float] = field(default_factory=dict)
    tf32: float | None = None
    bf16: float | None = None
    to_device: float | None = None
    to_host: float | None = None

    @property
    def last_level(self) -> int:
        return max(self.caches.values())

    def random_rows(self, row_bytes: int) -> float:
        """The random-row roof at `row_bytes`, between measured widths by powers of their ratio."""
        widths = sorted(self.random)
        if row_bytes <= widths[0]:
            # Narrower rows still move whole cache lines.
            return self.random[widths[0]] * row_bytes / widths[0]
        for low, high in pairwise(widths):
            if row_bytes <= high:
                share = math.log(row_bytes / low) / math.log(high / low)
                return self.random[low] ** (1 - share) * self.random[high] ** share
        return self.random[widths[-1]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Roofs:
        """The inverse of `as_dict`, also after JSON made the row widths strings."""
        given = dict(content)
        for name in ("random", "scatter"):
            given[name] = {int(width): rate for width, rate in content.get(name, {}).items()}
        given["random_sets"] = {
            int(size): {int(width): rate for width, rate in rates.items()}
            for size, rates in content.get("random_sets", {}).items()
        }
        return cls(**given)
