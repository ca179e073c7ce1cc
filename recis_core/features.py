"""Columns to ids: the transforms of all features, one launch per kind of transform and level.

Level k of every feature's chain runs together, packed end to end; chains that begin alike on one
column share what they have in common. Inputs are never written to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from recis_core.chains import Chain, chains_of, hint, holds, needs
from recis_core.data import Batch, Ragged, Unpacked
from recis_core.kernels import Kernels
from recis_core.packing import Bags
from recis_core.readback import Readback, to_device
from recis_core.schema import Bucketize, Feature, Hash, Mod, Truncate
from recis_core.spans import Span, begins_of, joined, rows_offsets
from recis_core.types import index_dtype

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
        self.dtypes = [(column, DTYPE[kind]) for column, kind in kinds.items()]
        each = [(f, *self.chains[f.name]) for f in self.features]
        self.ids = [(f.name, chain) for f, chain, _ in each]
        self.weighted = [(f, chain, own) for f, chain, own in each if own is not None]
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
            splits = list(accumulate([len(t.boundaries) for t in last], initial=0))
            return (
                torch.tensor(bounds, dtype=torch.float32, device=device),
                torch.tensor(splits, dtype=torch.int32, device=device),
            )
        if isinstance(last[0], Truncate):
            limits = torch.tensor([[min(t.length, 2**31 - 1)] for t in last], device=device)
            keep_last = torch.tensor([[t.keep == "last"] for t in last], device=device)
            return limits, keep_last
        return ()

    def __call__(self, batch: Batch) -> dict[str, Bags]:
        """The bags of every feature, by its name."""
        made = self._columns(batch)
        for level, constants in zip(self.levels, self.constants, strict=True):
            for nodes, own in zip(level, constants, strict=True):
                parents = [made[column, done[:-1]] for column, done in nodes]
                outcome = RUN[type(nodes[0][1][-1])](self.kernels, parents, nodes[0][1][-1], own)
                made.update(zip(nodes, outcome, strict=True))
        found = {name: Bags(made[chain]) for name, chain in self.ids}
        for feature, chain, own in self.weighted:
            found[feature.name] = beside(feature, made[chain], made[own])
        return found

    def _columns(self, batch: Batch) -> dict[Chain, Span]:
        """Where the columns that are needed lie."""
        columns = batch.columns
        if isinstance(columns, Unpacked):
            usual = columns.spans(self.dtypes)
        else:
            usual = [None] * len(self.dtypes)
        return {
            (name, ()): span or column_of(batch, name, *self.needs[name])
            for (name, _), span in zip(self.dtypes, usual, strict=True)
        }


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


def column_of(batch: Batch, name: str, kind: str, feature: str) -> Span:
    """Column `name` with one level of nesting (strings: one above the strings' own)."""

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
        return span_of(Ragged(column, one_each), batch.rows)
    while isinstance(column.values, Ragged) and (
        kind != "strings" or isinstance(column.values.values, Ragged)
    ):
        inner = column.values
        column = Ragged(inner.values, inner.offsets[column.offsets.long()])
    given = batch.columns[name]
    if isinstance(given, Tensor):
        return Span(flat, 0, flat.shape[0], batch.rows, given.shape[1], None, 0)
    return span_of(column, batch.rows)


def span_of(column: Ragged, rows: int) -> Span:
    """The span of a column of numbers, or of strings."""
    flat = column.flat
    if isinstance(column.values, Tensor):
        return Span(flat, 0, flat.shape[0], rows, 0, column.offsets, 0)
    words = column.values.offsets
    return Span(flat, 0, words.shape[0] - 1, rows, 0, column.offsets, 0, words)


def beside(feature: Feature, ids: Span, weights: Span) -> Bags:
    """The bags of a weighted feature; ValueError unless its weights lie beside its ids."""
    on_host = ids.flat.device.type == "cpu"
    # Reading offsets would make a GPU wait, so there only the lengths are compared.
    alike = weights.count == ids.count and (not on_host or same(weights.offsets, ids.offsets))
    if not alike:
        raise ValueError(
            f"feature {feature.name!r}: weights {feature.weights!r} do not lie beside "
            f"the ids of column {feature.column!r}: {weights.count} and {ids.count} values"
        )
    return Bags(ids, weights)


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two offsets are equal, whatever their widths."""
    if first.dtype != second.dtype:
        first, second = first.long(), second.long()
    return torch.equal(first, second)


def _apart(values: Tensor, parents: Sequence[Span]) -> list[Span]:
    """What became of the values of `parents`, laid end to end."""
    return [p.moved(values, at) for p, at in zip(parents, begins_of(parents), strict=False)]


def _flat(parents: Sequence[Span]) -> tuple[Tensor, Tensor]:
    """The values of `parents` end to end, and where each begins."""
    return joined(parents), starts(begins_of(parents), parents[0].flat.device)


def starts(begins: Sequence[int], device: torch.device) -> Tensor:
    dtype = getattr(torch, index_dtype(begins[-1]))
    return to_device(torch.tensor(begins, dtype=dtype), device)


def _hash(kernels: Kernels, parents: Sequence[Span], transform: Hash, _: Any) -> list[Span]:
    flat = [p.flat for p in parents]
    data = flat[0] if len(flat) == 1 else torch.cat(flat)
    sizes = accumulate([part.shape[0] for part in flat], initial=0)
    bases = starts(list(sizes), data.device)
    bounds = [p.words for p in parents if p.words is not None]
    moved = [b[:-1].to(bases.dtype) + base for b, base in zip(bounds, bases, strict=False)]
    offsets = torch.cat([*moved, bases[-1:]])
    return _apart(kernels.ids_hash(data, offsets, transform.kind), parents)


def _mod(kernels: Kernels, parents: Sequence[Span], _: Mod, own: Any) -> list[Span]:
    ids, splits = _flat(parents)
    return _apart(kernels.ids_mod(ids, splits, *own), parents)


def _bucketize(kernels: Kernels, parents: Sequence[Span], _: Bucketize, own: Any) -> list[Span]:
    values, splits = _flat(parents)
    return _apart(kernels.values_bucketize(values, splits, *own), parents)


def _truncate(kernels: Kernels, parents: Sequence[Span], _: Truncate, own: Any) -> list[Span]:
    limits, keep_last = own
    offsets = rows_offsets(parents)
    lengths = offsets.diff(dim=1)
    kept = torch.minimum(lengths, limits.to(lengths.dtype))
    begin = torch.where(keep_last, offsets[:, 1:] - kept, offsets[:, :-1])
    ends = torch.zeros(offsets.shape, dtype=offsets.dtype, device=offsets.device)
    torch.cumsum(kept, 1, dtype=ends.dtype, out=ends[:, 1:])
    totals = Readback([ends[:, -1]]).counts()
    if all(total == p.count for total, p in zip(totals, parents, strict=True)):
        return list(parents)
    values, splits = _flat(parents)
    # Where each kept value lies: what its segment was moved by, and its place among the kept ones.
    begins = list(accumulate(totals, initial=0))
    bases = starts(begins, values.device)
    moved = begin + splits[:-1, None] - ends[:, :-1] - bases[:-1, None]
    at = torch.repeat_interleave(moved.view(-1), kept.view(-1), output_size=begins[-1])
    at += torch.arange(begins[-1], dtype=at.dtype, device=at.device)
    cut, flat, rows = values.index_select(0, at), ends.view(-1), parents[0].rows
    return [
        Span(cut, first, total, rows, 0, flat, i * (rows + 1))
        for i, (first, total) in enumerate(zip(begins, totals, strict=False))
    ]


RUN: dict[type, Callable[..., list[Span]]] = {
    Hash: _hash,
    Mod: _mod,
    Bucketize: _bucketize,
    Truncate: _truncate,
}
