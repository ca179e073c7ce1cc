"""In which order rows are read, and which worker reads them: a function of (seed, epoch) alone.

Unshuffled, an epoch is every file's pieces in order. Shuffled, the pieces are permuted and the
rows within each piece are permuted; rows of different pieces are not mixed, so pieces should hold
many batches' worth of well-mixed rows or be many. Either way worker w of W gets the contiguous part
[R·w/W, R·(w+1)/W) of the epoch's R rows: all rows exactly once, shares that differ by at most one
row. A piece that a boundary cuts is decoded by both neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recis_core.mixing import GOLDEN, mix64

WORD = (1 << 64) - 1


@dataclass(frozen=True)
class Piece:
    """A row group, stripe or record batch: `rows` rows of file number `file` from row `first`."""

    file: int
    index: int
    first: int
    rows: int


@dataclass(frozen=True)
class Span:
    """Rows `start` to `stop` of piece number `piece`, counted in the order they are read in."""

    piece: int
    start: int
    stop: int


def share(rows: int, worker: int, workers: int) -> tuple[int, int]:
    """First and last-plus-one row of the epoch that `worker` reads."""
    return rows * worker // workers, rows * (worker + 1) // workers


def epoch_spans(
    pieces: Sequence[Piece],
    *,
    shuffle: bool,
    seed: int,
    epoch: int,
    worker: int = 0,
    workers: int = 1,
    skip: int = 0,
) -> list[Span]:
    """What `worker` reads in `epoch` after its first `skip` rows, in order."""
    order = range(len(pieces))
    if shuffle:
        order = permutation(len(pieces), seed, epoch).tolist()
    first, last = share(sum(p.rows for p in pieces), worker, workers)
    spans, at = [], 0
    for number in order:
        rows = pieces[number].rows
        start, stop = max(first + skip - at, 0), min(last - at, rows)
        if start < stop:
            spans.append(Span(number, start, stop))
        at += rows
    return spans


def permutation(count: int, *keys: int) -> np.ndarray:
    """Positions 0 to count-1 sorted by a SplitMix64 stream begun from `keys`; int64 [count].

    The stream's words are distinct, so the order is the same with any NumPy and any sort.
    """
    state = 0
    for key in keys:
        state = int(mix64(np.array([(state + GOLDEN + key) & WORD], np.uint64))[0])
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    return np.argsort(mix64(steps + np.uint64(state)))
