"""One column file as pieces that can be decoded alone: row groups, stripes or record batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa


class Source(Protocol):
    """An open file of one format. Constructing it reads no more than the file's own index."""

    unit: str  # what the format calls a piece
    weight: int  # what an open one takes, against others
    path: Path
    schema: pa.Schema
    pieces: tuple[int, ...]  # rows of each piece

    def read(self, piece: int, columns: Sequence[str]) -> pa.Table:
        """A piece with the named columns at least; Arrow's own errors pass through."""
        ...
