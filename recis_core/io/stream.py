"""The sequence of staged batches that a worker reads, from any position in it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, TypeVar

import numpy as np

from recis_core.io.dataset import Dataset
from recis_core.io.order import Span, epoch_spans, permutation, share
from recis_core.io.prefetch import Prefetch
from recis_core.io.run import Decoded, Run, runs_stage, whole_raws
from recis_core.io.stage import Staged
from recis_core.schema import Column

T = TypeVar("T")


@dataclass(frozen=True)
class Position:
    """How far a worker has read: whole epochs, and rows of its share of the next one."""

    epoch: int = 0
    row: int = 0


@dataclass(frozen=True)
class Stream:
    """All that the sequence of batches is a function of. `epochs` None: it has no end.

    `ahead`: a thread of its own decodes the next piece. `pin`: batches are staged page-locked.
    """

    data: Dataset
    columns: tuple[Column, ...]
    batch_size: int
    shuffle: bool
    seed: int
    worker: int
    workers: int
    epochs: int | None
    drop_remainder: bool
    ahead: bool
    pin: bool

    @property
    def rows(self) -> int:
        """Rows of one epoch that this worker reads."""
        first, last = share(self.data.rows, self.worker, self.workers)
        return last - first

    @property
    def batches(self) -> int:
        """Batches of one epoch that this worker reads."""
        full, rest = divmod(self.rows, self.batch_size)
        return full + (rest > 0 and not self.drop_remainder)

    def staged(self, position: Position) -> Generator[tuple[Staged, Position], None, None]:
        """Every batch from `position` on, and the position after it."""
        end = min(self.batches * self.batch_size, self.rows)
        epochs = count() if self.epochs is None else range(self.epochs)
        for epoch in islice(epochs, position.epoch, None):
            row = position.row if epoch == position.epoch else 0
            with closing(self.runs(epoch, row)) as batches:
                for runs in batches:
                    row += sum(map(len, runs))
                    one = runs_stage(runs, self.columns, self.pin)
                    runs.clear()  # or they would live until the next batch is complete
                    yield one, Position(epoch, row) if row < end else Position(epoch + 1)

    def runs(self, epoch: int, skip: int) -> Generator[list[Run], None, None]:
        """The rows of each batch of an epoch after the first `skip` rows."""
        runs: list[Run] = []
        need = self.batch_size
        with worked(self.decoded(epoch, skip), int(self.ahead), "recis-decode") as pieces:
            for span, decoded in pieces:
                at = span.start
                while at < span.stop:
                    runs.append(decoded.part(at, min(at + need, span.stop)))
                    at += len(runs[-1])
                    need -= len(runs[-1])
                    if not need:
                        yield runs
                        runs, need = [], self.batch_size
                long = decoded.table.num_rows > self.batch_size
                if runs and long and not decoded.mapped:
                    # A view of the last rows would keep all of the piece in memory.
                    runs[-1] = runs[-1].copy()
                del decoded  # the thread begins another piece as soon as it is asked for the next
        if runs and not self.drop_remainder:
            yield runs

    def decoded(self, epoch: int, skip: int) -> Generator[tuple[Span, Decoded], None, None]:
        """The pieces of an epoch that hold rows of this worker after its first `skip`."""
        for span in epoch_spans(
            self.data.pieces,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=epoch,
            worker=self.worker,
            workers=self.workers,
            skip=skip,
        ):
            yield span, self.piece(epoch, span.piece)

    def piece(self, epoch: int, number: int) -> Decoded:
        """Piece `number` of the data set, in the order in which `epoch` reads it."""
        piece = self.data.pieces[number]
        file, table = self.data.files[piece.file], self.data.read(piece)
        order = permutation(piece.rows, self.seed, epoch, 1 + number) if self.shuffle else None
        extents = self.data.extents(piece, table)
        rest = list(self.columns)
        if extents:
            rest = [self.columns[at] for at in np.flatnonzero(~extents.able).tolist()]
        raws = whole_raws(table, rest)
        return Decoded(file, table, piece.first, order, raws, extents, extents is not None)


def worked(items: Generator[T, None, None], depth: int, name: str) -> Any:
    """A context that gives `items`, worked ahead by a thread unless `depth` is 0."""
    return Prefetch(items, depth, name) if depth else closing(items)
