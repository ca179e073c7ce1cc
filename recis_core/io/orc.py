"""ORC files by stripe."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.types as kinds


class OrcSource:
    """An ORC file. pyarrow decodes a stripe on one thread, so its columns are dealt to as many
    threads as Arrow uses elsewhere, each with a handle of its own.

    The format has no checksums: damage shows only where it makes decoding fail.
    """

    unit = "stripe"
    weight = 4

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = [orc.ORCFile(path)]
        self.schema: pa.Schema = self._files[0].schema
        self.pieces = self._stripe_rows()

    def read(self, piece: int, columns: Sequence[str]) -> pa.Table:
        threads = min(pa.cpu_count(), len(columns))
        while len(self._files) < threads:
            self._files.append(orc.ORCFile(self.path))
        hands = [list(columns[i::threads]) for i in range(threads)]
        files = self._files[:threads]
        with ThreadPoolExecutor(threads, "recis-orc") as pool:
            parts = list(
                pool.map(lambda file, hand: file.read_stripe(piece, columns=hand), files, hands)
            )
        found = {name: part.column(name) for part in parts for name in part.schema.names}
        return pa.table({name: found[name] for name in columns})

    def _stripe_rows(self) -> tuple[int, ...]:
        """Rows of each stripe, which pyarrow tells only by decoding a column of it."""
        file = self._files[0]
        if file.nstripes <= 1:
            return (file.nrows,) * file.nstripes
        # A plain number is decoded many times faster than a list or a string.
        plain = [f.name for f in self.schema if kinds.is_primitive(f.type)]
        column = (plain or self.schema.names)[:1]
        return tuple(file.read_stripe(i, columns=column).num_rows for i in range(file.nstripes))
