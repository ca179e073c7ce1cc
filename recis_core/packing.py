"""A group's features laid end to end: one launch for all that are pooled alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from recis_core.schema import Feature, Pooling
from recis_core.types import index_dtype


def end_to_end(parts: Sequence[Tensor]) -> Tensor:
    """`parts` as one tensor; no copy where they already lie side by side in memory."""
    first, at = parts[0], parts[0].data_ptr()
    storage = first.untyped_storage().data_ptr()
    for part in parts:
        together = part.is_contiguous() and part.untyped_storage().data_ptr() == storage
        if not together or (part.data_ptr() != at and part.numel()):
            return torch.cat(list(parts))
        at += part.nbytes
    size = (sum(map(len, parts)), *first.shape[1:])
    return first.as_strided(size, first.stride(), first.storage_offset())


def starts_of(sizes: Sequence[int]) -> Tensor:
    """[len(sizes) + 1] where each of the parts begins, and the end."""
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return torch.tensor(starts, dtype=getattr(torch, index_dtype(starts[-1])))


@dataclass(frozen=True)
class Bags:
    """The ids of a feature, a bag per sample: ids [n] int64, offsets [rows + 1], weights [n]."""

    ids: Tensor
    offsets: Tensor
    weights: Tensor | None


@dataclass(frozen=True)
class Run:
    """Features of a group pooled by one call: equal pooling and length, all weighted or none."""

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
    """The features of a group in runs, unweighted ones first."""
    alike: dict[tuple[bool, Pooling, int | None], list[Feature]] = {}
    for f in features:
        alike.setdefault((f.weights is not None, f.pooling, f.length), []).append(f)
    return tuple(
        Run(pooling, length, weighted, tuple(alike[weighted, pooling, length]))
        for weighted, pooling, length in sorted(alike, key=lambda kind: kind[0])
    )


@dataclass(frozen=True)
class Stretch:
    """The part of a run in a packed batch: `begin`:`end` of the values.

    offsets [features · rows + 1] of the bags, from 0; weights [end - begin] or None; sizes: how
    many values each feature has.
    """

    begin: int
    end: int
    offsets: Tensor
    weights: Tensor | None
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Packed:
    """The ids of a group's features end to end, in order of its runs.

    ids [n]; splits [features + 1] on the device; a `Stretch` per run; rows of the batch.
    """

    ids: Tensor
    splits: Tensor
    stretches: tuple[Stretch, ...]
    rows: int


def pack(runs: Sequence[Run], bags: Mapping[str, Bags], rows: int) -> Packed:
    """Lay the bags of all features of `runs` end to end."""
    each = [[bags[f.name] for f in run.features] for run in runs]
    ids = end_to_end([b.ids for own in each for b in own])
    splits = starts_of([len(b.ids) for own in each for b in own])
    stretches, at = [], 0
    for own in each:
        sizes = tuple(len(b.ids) for b in own)
        starts, size = starts_of(sizes), sum(sizes)
        moved = torch.stack([b.offsets[1:] for b in own]).to(splits.dtype)
        moved += starts[:-1, None].to(moved.dtype).to(ids.device)
        weights = None
        if own[0].weights is not None:
            weights = end_to_end([b.weights for b in own if b.weights is not None])
        stretches.append(Stretch(at, at + size, pad(moved.reshape(-1), (1, 0)), weights, sizes))
        at += size
    return Packed(ids, splits.to(ids.device), tuple(stretches), rows)


def leaf_offsets(runs: Sequence[Run], packed: Packed) -> Tensor:
    """Offsets [leaf rows + 1] of a group: which values each row of its leaves is made of.

    Every position of a tile is a row of its own, made of one value or none; so is every value of
    a ragged leaf.
    """
    parts = []
    for run, stretch in zip(runs, packed.stretches, strict=True):
        begin = stretch.offsets[:-1]
        if run.pooling == "ragged":
            values = stretch.end - stretch.begin
            begin = torch.arange(values, dtype=begin.dtype, device=begin.device)
        if run.length is not None:
            place = torch.arange(run.length, dtype=begin.dtype, device=begin.device)
            lengths = stretch.offsets.diff()
            begin = (begin[:, None] + torch.minimum(place, lengths[:, None])).reshape(-1)
        parts.append(begin + stretch.begin if stretch.begin else begin)
    return pad(torch.cat(parts), (0, 1), value=len(packed.ids))


def leaf_weights(runs: Sequence[Run], packed: Packed) -> Tensor | None:
    """Weights [n] of all values of a group, 1 where a feature has none; None where none has."""
    if not any(run.weighted for run in runs):
        return None
    parts = [
        stretch.weights
        if stretch.weights is not None
        else torch.ones(stretch.end - stretch.begin, device=packed.ids.device)
        for stretch in packed.stretches
    ]
    return end_to_end(parts)
