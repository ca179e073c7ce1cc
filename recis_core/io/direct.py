"""A batch's columns that are staged straight from files: where each goes, by arrays over all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from recis_core.data import Placed
from recis_core.io.extents import Chosen, Cut, Extents
from recis_core.io.gathers import Gathers
from recis_core.io.reads import Reads
from recis_core.ops.columns_unpack import ALIGN, COUNT, SOURCE, SOURCES, START, TARGETS

IDS, VALUES, BOUNDS = (TARGETS.index(name) for name in ("ids", "values", "bounds"))
BYTES = np.array([np.dtype(name).itemsize for name in SOURCES])


@dataclass(frozen=True)
class Direct:
    """Columns laid end to end: `pieces` [P, 6] for columns_unpack, `sizes` of its outputs,
    `nbytes` of the buffer, and what is to be read into it."""

    placed: tuple[Placed, ...]
    pieces: np.ndarray
    sizes: dict[str, int]
    nbytes: int
    reads: tuple[Reads | Gathers, ...]


NOTHING = Direct((), np.zeros((0, 6), np.int64), {name: 0 for name in TARGETS}, 0, ())


def chosen(extents: Sequence[Extents | None]) -> Chosen | None:
    """The columns that every run of a batch has where they can be read; None if there are none."""
    found = [one.able for one in extents if one is not None]
    if not extents or len(found) < len(extents) or extents[0] is None:
        return None
    able = np.logical_and.reduce(found)
    return extents[0].plan.choose(able) if able.any() else None


def direct(own: Chosen, cuts: Sequence[Cut]) -> Direct:
    """Lay out the columns `own`, which `cuts` are of, run after run."""
    target, lists = np.where(own.is_ids, IDS, VALUES), own.lists
    counts = np.stack([cut.count for cut in cuts])
    before, total = counts.cumsum(0) - counts, counts.sum(0)
    begin = np.zeros_like(total)
    sizes: dict[str, int] = dict.fromkeys(TARGETS, 0)
    for kind in (IDS, VALUES):
        mine = target == kind
        begin[mine] = total[mine].cumsum() - total[mine]
        sizes[TARGETS[kind]] = int(total[mine].sum())
    rows = sum(cut.rows for cut in cuts)
    starts = np.arange(len(lists)) * (rows + 1)
    sizes["bounds"] = len(lists) * (rows + 1)
    tables, row = [], 0
    for cut, earlier in zip(cuts, before, strict=True):
        tables.append(table(cut.count, cut.source, target, begin + earlier, 0))
        tables.append(table(cut.rows + 1, cut.bound_source, BOUNDS, starts + row, earlier[lists]))
        row += cut.rows
    pieces, reads, nbytes = staged(np.concatenate(tables), cuts, lists)
    placed = places(own, begin, total, starts, rows)
    return Direct(placed, pieces, sizes, nbytes, reads)


def table(
    count: ArrayLike, source: np.ndarray, target: ArrayLike, to: np.ndarray, base: ArrayLike
) -> np.ndarray:
    """Rows of a table of pieces whose first bytes are yet to be known."""
    columns = np.broadcast_arrays(0, count, source, target, to, base)
    return np.stack(columns, 1).astype(np.int64, copy=False)


def staged(
    pieces: np.ndarray, cuts: Sequence[Cut], lists: np.ndarray
) -> tuple[np.ndarray, tuple[Reads | Gathers, ...], int]:
    """The pieces with a first byte each, those that are empty left out; what is to be read of each
    run, and the bytes of all. `lists`: which columns have bounds."""
    nbytes = pieces[:, COUNT] * BYTES[pieces[:, SOURCE]]
    ends = (-(-nbytes // ALIGN) * ALIGN).cumsum()
    pieces[1:, START] = ends[:-1]
    reads, first = [], 0
    for cut in cuts:
        at = np.concatenate([cut.values, cut.bounds])
        own = slice(first, first + len(at))
        if cut.order is None:
            reads.append(Reads(cut.file, at, nbytes[own], pieces[own, START]))
        else:
            reads.append(gathers(cut, cut.order, lists, pieces[own, START]))
        first += len(at)
    return pieces[nbytes > 0], tuple(reads), int(ends[-1])


def gathers(cut: Cut, order: np.ndarray, lists: np.ndarray, start: np.ndarray) -> Gathers:
    """Rows `order` of a run, to the bytes `start` of the buffer: columns first, then bounds."""
    step, bounds, own = np.zeros((3, len(cut.count)), np.int64)
    step[lists], bounds[lists] = BYTES[cut.bound_source], cut.bounds
    own[lists] = start[len(cut.count) :]
    item = BYTES[cut.source]
    to = start[: len(cut.count)]
    return Gathers(cut.file, order, cut.values, item, cut.count, to, step, bounds, own)


def places(
    own: Chosen, begin: np.ndarray, total: np.ndarray, starts: np.ndarray, rows: int
) -> tuple[Placed, ...]:
    """Where the columns are in the outputs, whose bounds begin at `starts`."""
    bounds: list[tuple[int, ...]] = [()] * len(own.names)
    levels = bounds.copy()
    for at, start in zip(own.lists.tolist(), starts.tolist(), strict=True):
        bounds[at], levels[at] = (start,), (rows,)
    fields = own.names, own.targets, own.widths, begin.tolist(), total.tolist(), levels, bounds
    return tuple(map(Placed._make, zip(*fields, strict=True)))
