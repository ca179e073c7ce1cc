"""A group's features laid end to end: one launch for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from recis_core.readback import to_device
from recis_core.schema import Column, Feature, Pooling
from recis_core.spans import Span, begins_of, joined, rows_offsets
from recis_core.table import grouped
from recis_core.types import index_dtype

ORDER: tuple[Pooling, ...] = ("mean", "sum", "tile", "ragged")


class Bags(NamedTuple):
    """The ids of a feature, a bag per sample, and the weights beside them, if any."""

    span: Span
    weight_span: Span | None = None

    @property
    def ids(self) -> Tensor:
        """[n] int64."""
        return self.span.values

    @property
    def offsets(self) -> Tensor:
        """[rows + 1] of the bags."""
        return self.span.offsets

    @property
    def weights(self) -> Tensor | None:
        """[n] float32."""
        return None if self.weight_span is None else self.weight_span.values


@dataclass(frozen=True)
class Run:
    """Features of a group pooled alike: equal pooling and length, all weighted or none."""

    pooling: Pooling
    length: int | None
    weighted: bool
    features: tuple[Feature, ...]

    def segments(self, rows: int, values: int) -> int:
        """Leaf rows: one per sample and feature, of tiles one per position, of ragged ones one for
        each of the `values`."""
        if self.pooling == "ragged":
            return values
        return len(self.features) * rows * (self.length or 1)


def runs_of(features: Sequence[Feature]) -> tuple[Run, ...]:
    """The features of a group in runs: means first, ragged ones last, as `pooling` takes them;
    tiles, which are cut and so lie elsewhere, after what lies as it was read."""
    alike: dict[tuple[bool, Pooling, int | None], list[Feature]] = {}
    for f in features:
        alike.setdefault((f.weights is not None, f.pooling, f.length), []).append(f)
    order = sorted(alike, key=lambda kind: (ORDER.index(kind[1]), kind[0]))
    return tuple(
        Run(pooling, length, weighted, tuple(alike[weighted, pooling, length]))
        for weighted, pooling, length in order
    )


def laid_out(columns: Iterable[Column], features: Sequence[Feature]) -> tuple[Column, ...]:
    """`columns` in the order in which a reader should lay them, so that nothing is copied to bring
    the ids of a group, its weights and their boundaries side by side."""
    order = [f for _, own in grouped(features) for run in runs_of(own) for f in run.features]
    names = [f.column for f in order] + [f.weights for f in order if f.weights is not None]
    place = {name: at for at, name in reversed(list(enumerate(names)))}
    return tuple(sorted(columns, key=lambda column: place.get(column.name, len(names))))


@dataclass(frozen=True)
class Packed:
    """The ids of a group's features end to end, in order of its runs, and the rows of its leaves.

    ids [n]; splits [features + 1] where each feature's begin, on the device and as `begins` on the
    host; offsets [leaf rows + 1]: which values each row of the leaves is made of; weights [n] of
    all values, 1 where a feature has none, None where none has; `spans` of the features.
    """

    ids: Tensor
    splits: Tensor
    begins: Sequence[int]
    offsets: Tensor
    weights: Tensor | None
    spans: Sequence[Span]
    rows: int

    def sizes(self, runs: Sequence[Run]) -> list[int]:
        """Leaf rows of every feature."""
        found: list[int] = []
        for run in runs:
            at, end = len(found), len(found) + len(run.features)
            if run.pooling == "ragged":
                found += [b - a for a, b in pairwise(self.begins[at : end + 1])]
            else:
                found += [self.rows * (run.length or 1)] * (end - at)
        return found


def pack(
    groups: Sequence[Sequence[Run]],
    bags: Mapping[str, Bags],
    rows: int,
    device: torch.device | str,
) -> list[Packed]:
    """Lay the bags of every group's features end to end; one transfer for all groups."""
    each = [[bags[f.name] for run in runs for f in run.features] for runs in groups]
    begins = [begins_of([b.span for b in own]) for own in each]
    most = max((own[-1] for own in begins), default=0)
    numbers = torch.tensor(
        [n for own in begins for n in own], dtype=getattr(torch, index_dtype(most))
    )
    splits = to_device(numbers, device).split([len(own) for own in begins])
    return [
        Packed(
            joined([b.span for b in own]),
            at,
            starts,
            leaf_offsets(runs, [b.span for b in own], at, starts, rows),
            leaf_weights(runs, own, starts),
            [b.span for b in own],
            rows,
        )
        for runs, own, starts, at in zip(groups, each, begins, splits, strict=True)
    ]


def leaf_offsets(
    runs: Sequence[Run], spans: Sequence[Span], splits: Tensor, begins: Sequence[int], rows: int
) -> Tensor:
    """Offsets [leaf rows + 1] of a group: which of its values each row of its leaves is made of.

    Every position of a tile is a row of its own, made of one value or none; so is every value of
    a ragged leaf. `splits` and `begins` as in `Packed`.
    """
    pieces = pieces_of(runs, spans)
    sizes = [
        begins[end] - begins[first]
        if run.pooling == "ragged"
        else (end - first) * rows * (run.length or 1)
        for run, first, end in pieces
    ]
    offsets = splits.new_empty(sum(sizes) + 1)
    leaf = 0
    for (run, first, end), size in zip(pieces, sizes, strict=True):
        width = spans[first].width if spans[first].bounds is None and run.length is None else 0
        if run.pooling == "ragged" or width:
            # One value a row, or evenly many.
            out = offsets[leaf : leaf + size]
            torch.arange(begins[first], begins[end], width or 1, out=out)
        else:
            moved = splits.as_strided((end - first, 1), (1, 1), splits.storage_offset() + first)
            lay(offsets, leaf, rows_offsets(spans[first:end]), moved, run.length)
        leaf += size
    offsets[-1:].fill_(begins[-1])
    return offsets


def pieces_of(runs: Sequence[Run], spans: Sequence[Span]) -> list[tuple[Run, int, int]]:
    """Features from one place to another whose leaf offsets are made together, as the run says:
    those of a run that are even alike or bounded, and of the next where its bounds lie on."""
    pieces: list[tuple[Run, int, int]] = []
    at = 0
    for run in runs:
        own = spans[at : at + len(run.features)]
        for _, alike in groupby(own, key=lambda s: s.width if s.bounds is None else None):
            end = at + len(list(alike))
            before = pieces[-1][0] if pieces else run
            bags = before.length is run.length is None and "ragged" not in (
                before.pooling,
                run.pooling,
            )
            if pieces and bags and spans[at].lies_on(spans[at - 1]):
                pieces[-1] = (before, pieces[-1][1], end)
            else:
                pieces.append((run, at, end))
            at = end
    return pieces


def lay(out: Tensor, at: int, own: Tensor, begins: Tensor, length: int | None) -> None:
    """Into `out`, from `at` on: offsets of features whose own [features, rows + 1] are `own`, moved
    by `begins` [features, 1]; of tiles those of every position."""
    features, rows = own.shape[0], own.shape[1] - 1
    first = own.as_strided((features, rows), own.stride(), own.storage_offset())
    if length is None:
        torch.add(first, begins, out=out.as_strided((features, rows), (rows, 1), at))
        return
    cells = out.as_strided((features, rows, length), (rows * length, length, 1), at)
    inside = torch.minimum(places(length, own.dtype, own.device), own.diff(dim=1)[..., None])
    torch.add(inside, (first + begins)[..., None], out=cells)


@lru_cache(maxsize=64)
def places(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 to `length` - 1; shared, so not to be written to."""
    return torch.arange(length, dtype=dtype, device=device)


def leaf_weights(runs: Sequence[Run], bags: Sequence[Bags], begins: Sequence[int]) -> Tensor | None:
    """Weights [n] of all values of a group, 1 where a feature has none; None where none has."""
    if not any(run.weighted for run in runs):
        return None
    weights = torch.ones(begins[-1], device=bags[0].span.flat.device)
    at = 0
    for run in runs:
        end = at + len(run.features)
        if run.weighted:
            own = [b.weight_span for b in bags[at:end] if b.weight_span is not None]
            weights[begins[at] : begins[end]] = joined(own)
        at = end
    return weights
