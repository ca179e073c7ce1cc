"""Columns to ids: the transforms of all features, one launch per kind of transform and level.

Level k of every feature's chain runs together, packed end to end; chains that begin alike on one
column share what they have in common. Inputs are never written to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core.chains import Chain, chains_of, hint, holds, needs
from recis_core.data import Batch, Ragged, even_offsets
from recis_core.kernels import Kernels
from recis_core.packing import Bags, end_to_end, starts_of
from recis_core.readback import Readback, to_device
from recis_core.schema import Bucketize, Feature, Hash, Mod, Truncate

KIND = {torch.int64: "ids", torch.float32: "values", torch.uint8: "strings"}
DTYPE = {kind: dtype for dtype, kind in KIND.items()}


class Features:
    """The transforms of a model's features, planned once and run on every batch."""

    def __init__(self, features: Sequence[Feature], kernels: Kernels) -> None:
        self.kernels = kernels
        self.features = tuple(features)
        self.chains = {feature.name: chains_of(feature) for feature in features}
        self.needs: dict[str, tuple[str, str]] = {}
        for feature in features:
            self._need(feature, feature.column, needs(feature))
            if feature.weights is not None:
                self._need(feature, feature.weights, "values")
        kinds = {column: kind for column, (kind, _) in self.needs.items()}
        self.levels = plan([c for own in self.chains.values() for c in own if c is not None], kinds)
        self.constants = [[self._constants(nodes) for nodes in level] for level in self.levels]

    def _need(self, feature: Feature, column: str, kind: str) -> None:
        before, by = self.needs.setdefault(column, (kind, feature.name))
        if before != kind:
            raise TypeError(
                f"feature {feature.name!r} needs column {column!r} to hold {kind}, "
                f"feature {by!r} needs {before}"
            )

    def _constants(self, nodes: Sequence[Chain]) -> tuple[Tensor, ...]:
        """What the transforms of a launch have in common, on the device."""
        last: list[Any] = [chain[1][-1] for chain in nodes]
        device = self.kernels.device
        if isinstance(last[0], Mod):
            return (torch.tensor([t.modulus for t in last], device=device),)
        if isinstance(last[0], Bucketize):
            bounds = [b for t in last for b in t.boundaries]
            splits = starts_of([len(t.boundaries) for t in last])
            return torch.tensor(bounds, dtype=torch.float32, device=device), splits.to(device)
        if isinstance(last[0], Truncate):
            limits = torch.tensor([[min(t.length, 2**31 - 1)] for t in last], device=device)
            keep_last = torch.tensor([[t.keep == "last"] for t in last], device=device)
            return limits, keep_last
        return ()

    def __call__(self, batch: Batch) -> dict[str, Bags]:
        """The bags of every feature, by its name."""
        made: dict[Chain, Ragged] = {}
        for column, (kind, feature) in self.needs.items():
            made[column, ()] = column_of(batch, column, kind, feature)
        for level, constants in zip(self.levels, self.constants, strict=True):
            for nodes, own in zip(level, constants, strict=True):
                parents = [made[column, done[:-1]] for column, done in nodes]
                outcome = RUN[type(nodes[0][1][-1])](self.kernels, parents, nodes[0][1][-1], own)
                made.update(zip(nodes, outcome, strict=True))
        return {f.name: bags_of(f, made, *self.chains[f.name]) for f in self.features}


def plan(chains: Sequence[Chain], kinds: Mapping[str, str]) -> list[list[list[Chain]]]:
    """For each level, the launches; for each launch, the chains whose last transform it runs.

    `kinds`: what each column holds, as ids and weights are not cut in one launch.
    """
    levels = []
    for k in range(1, 1 + max((len(done) for _, done in chains), default=0)):
        launches: dict[Any, list[Chain]] = {}
        for node in dict.fromkeys((c, done[:k]) for c, done in chains if len(done) >= k):
            last = node[1][-1]
            alike: Any = last if isinstance(last, Hash) else type(last)
            if isinstance(last, Truncate):
                alike = (Truncate, holds(kinds[node[0]], node[1]))
            launches.setdefault(alike, []).append(node)
        levels.append(list(launches.values()))
    return levels


def column_of(batch: Batch, name: str, kind: str, feature: str) -> Ragged:
    """Column `name` with one level of nesting (strings: one above the strings' own)."""
    if (usual := even_column(batch, name, kind)) is not None:
        return usual

    def said() -> str:
        return f"feature {feature!r}: column {name!r}"

    if name not in batch.columns:
        raise KeyError(f"{said()} is not in the batch, which has {', '.join(batch.columns)}")
    column = batch.ragged(name)
    flat = column.flat
    held = KIND.get(flat.dtype, str(flat.dtype))
    if held != kind:
        raise TypeError(f"{said()} holds {held}, not the {kind} it needs{hint(held, kind)}")
    if len(column) != batch.rows:
        raise ValueError(f"{said()} has {len(column)} rows, the batch {batch.rows}")
    if flat.requires_grad:
        raise ValueError(f"{said()} requires grad; weights are not differentiable")
    if kind == "strings" and isinstance(column.values, Tensor):
        one_each = torch.arange(batch.rows + 1, dtype=torch.int32, device=column.offsets.device)
        return Ragged(column, one_each)
    while isinstance(column.values, Ragged) and (
        kind != "strings" or isinstance(column.values.values, Ragged)
    ):
        inner = column.values
        column = Ragged(inner.values, inner.offsets[column.offsets.long()])
    return column


def even_column(batch: Batch, name: str, kind: str) -> Ragged | None:
    """A dense column of numbers that is as it should be, which most are; None for any other."""
    column = batch.columns.get(name)
    if (
        not isinstance(column, Tensor)
        or column.dtype is not DTYPE[kind]
        or column.dtype is torch.uint8
        or column.requires_grad
    ):
        return None
    rows, width = column.shape
    if rows != batch.rows:
        return None
    return Ragged(column.flatten(), even_offsets(rows, width, column.device))


def bags_of(feature: Feature, made: dict[Chain, Ragged], chain: Chain, own: Chain | None) -> Bags:
    ids = made[chain]
    if own is None:
        return Bags(ids.flat, ids.offsets, None)
    weights = made[own]
    on_host = ids.offsets.device.type == "cpu"
    # Reading offsets would make a GPU wait, so there only the lengths are compared.
    alike = weights.flat.numel() == ids.flat.numel() and (
        not on_host or same(weights.offsets, ids.offsets)
    )
    if not alike:
        raise ValueError(
            f"feature {feature.name!r}: weights {feature.weights!r} do not lie beside "
            f"the ids of column {feature.column!r}: {len(weights.flat)} and {len(ids.flat)} values"
        )
    return Bags(ids.flat, ids.offsets, weights.flat)


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two offsets are equal, whatever their widths."""
    if first.dtype != second.dtype:
        first, second = first.long(), second.long()
    return torch.equal(first, second)


def _apart(values: Tensor, parents: Sequence[Ragged], sizes: Sequence[int]) -> list[Ragged]:
    parts = values.split(list(sizes))
    return [Ragged(part, p.offsets) for part, p in zip(parts, parents, strict=True)]


def _flat(parents: Sequence[Ragged]) -> tuple[Tensor, list[int], Tensor]:
    flat = [p.flat for p in parents]
    values = end_to_end(flat)
    sizes = [part.numel() for part in flat]
    return values, sizes, to_device(starts_of(sizes), values.device)


def _hash(kernels: Kernels, parents: Sequence[Ragged], transform: Hash, _: Any) -> list[Ragged]:
    data, _, bases = _flat(parents)
    bounds = [p.values.offsets for p in parents]  # pyright: ignore[reportAttributeAccessIssue]
    sizes = [len(b) - 1 for b in bounds]
    moved = [b[:-1].to(bases.dtype) + base for b, base in zip(bounds, bases, strict=False)]
    offsets = torch.cat([*moved, bases[-1:]])
    return _apart(kernels.ids_hash(data, offsets, transform.kind), parents, sizes)


def _mod(kernels: Kernels, parents: Sequence[Ragged], _: Mod, own: Any) -> list[Ragged]:
    ids, sizes, splits = _flat(parents)
    return _apart(kernels.ids_mod(ids, splits, *own), parents, sizes)


def _bucketize(kernels: Kernels, parents: Sequence[Ragged], _: Bucketize, own: Any) -> list[Ragged]:
    values, sizes, splits = _flat(parents)
    return _apart(kernels.values_bucketize(values, splits, *own), parents, sizes)


def _truncate(kernels: Kernels, parents: Sequence[Ragged], _: Truncate, own: Any) -> list[Ragged]:
    limits, keep_last = own
    values, sizes, splits = _flat(parents)
    offsets = torch.stack([p.offsets for p in parents])
    lengths = offsets.diff(dim=1)
    kept = torch.minimum(lengths, limits.to(lengths.dtype))
    begin = torch.where(keep_last, offsets[:, 1:] - kept, offsets[:, :-1])
    ends = torch.zeros_like(offsets)
    torch.cumsum(kept, 1, dtype=ends.dtype, out=ends[:, 1:])
    totals = Readback([ends[:, -1]]).counts()
    if totals == sizes:
        return list(parents)
    # Where each kept value lies: what its segment was moved by, and its place among the kept ones.
    bases = to_device(starts_of(totals), values.device)
    moved = begin + splits[:-1, None] - ends[:, :-1] - bases[:-1, None]
    at = torch.repeat_interleave(moved.view(-1), kept.view(-1), output_size=sum(totals))
    at += torch.arange(sum(totals), dtype=at.dtype, device=at.device)
    parts = values.index_select(0, at).split(totals)
    return [Ragged(part, end) for part, end in zip(parts, ends, strict=True)]


RUN: dict[type, Callable[..., list[Ragged]]] = {
    Hash: _hash,
    Mod: _mod,
    Bucketize: _bucketize,
    Truncate: _truncate,
}
