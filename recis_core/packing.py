"""A group's features laid end to end: one launch for all that are pooled alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recis_core.readback import to_device
from recis_core.schema import Feature, Pooling
from recis_core.types import index_dtype


def end_to_end(parts: Sequence[Tensor]) -> Tensor:
    """`parts` as one tensor; no copy where they already lie side by side in memory."""
    first = parts[0]
    at = first.data_ptr()
    for part in parts:
        if (part.data_ptr() != at and part.numel()) or not part.is_contiguous():
            return torch.cat(list(parts))
        at += part.nbytes
    storage = first.untyped_storage().data_ptr()
    if any(part.untyped_storage().data_ptr() != storage for part in parts):
        return torch.cat(list(parts))
    size = (sum(part.shape[0] for part in parts), *first.shape[1:])
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
    sizes = [[b.ids.numel() for b in own] for own in each]
    splits = starts_of([size for own in sizes for size in own])
    stretches, at = [], 0
    for own, counts in zip(each, sizes, strict=True):
        starts = starts_of(counts)
        offsets = ends_from([b.offsets for b in own], starts.to(splits.dtype))
        weights = None
        if own[0].weights is not None:
            weights = end_to_end([b.weights for b in own if b.weights is not None])
        end = at + sum(counts)
        stretches.append(Stretch(at, end, offsets, weights, tuple(counts)))
        at = end
    return Packed(ids, to_device(splits, ids.device), tuple(stretches), rows)


def ends_from(offsets: Sequence[Tensor], starts: Tensor) -> Tensor:
    """Offsets of parts laid end to end, part i moved by starts[i], in the dtype of `starts`.

    starts[0] is 0. Not to be written to: of a single part they are its own.
    """
    if len(offsets) == 1 and offsets[0].dtype == starts.dtype:
        return offsets[0]
    # Columns of one id a row share their offsets, so their tails are cut off once.
    different = {id(own): own for own in offsets}
    tails = {key: own[1:] for key, own in different.items()}
    ends = torch.stack([tails[id(own)] for own in offsets])
    starts = to_device(starts, ends.device)
    moved = starts.new_empty(1 + ends.numel())
    moved[:1] = 0
    torch.add(ends, starts[:-1, None], out=moved[1:].view(ends.shape))
    return moved


def leaf_offsets(runs: Sequence[Run], packed: Packed) -> Tensor:
    """Offsets [leaf rows + 1] of a group: which values each row of its leaves is made of.

    Every position of a tile is a row of its own, made of one value or none; so is every value of
    a ragged leaf.
    """
    sizes = [
        run.segments(packed.rows, own.end - own.begin)
        for run, own in zip(runs, packed.stretches, strict=True)
    ]
    offsets = packed.splits.new_empty(sum(sizes) + 1)
    parts = offsets.split([*sizes, 1])
    for run, stretch, out in zip(runs, packed.stretches, parts[:-1], strict=True):
        begin = stretch.offsets[:-1]
        if run.pooling == "ragged":
            torch.arange(stretch.begin, stretch.end, out=out)
            continue
        if run.length is None:
            torch.add(begin, stretch.begin, out=out)
            continue
        place = torch.arange(run.length, dtype=begin.dtype, device=begin.device)
        inside = torch.minimum(place, stretch.offsets.diff()[:, None])
        torch.add(inside, begin[:, None] + stretch.begin, out=out.view(inside.shape))
    parts[-1].fill_(packed.ids.numel())
    return offsets


def leaf_weights(runs: Sequence[Run], packed: Packed) -> Tensor | None:
    """Weights [n] of all values of a group, 1 where a feature has none; None where none has."""
    if not any(run.weighted for run in runs):
        return None
    weights = torch.ones(packed.ids.numel(), device=packed.ids.device)
    for stretch in packed.stretches:
        if stretch.weights is not None:
            weights[stretch.begin : stretch.end] = stretch.weights
    return weights
