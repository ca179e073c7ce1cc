"""Columns to ids: the transforms of all features, one launch per kind of transform and level.

Level k of every feature's chain runs together, packed end to end; chains that begin alike on one
column share what they have in common. Inputs are never written to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core.chains import Chain, chains_of, hint, needs
from recis_core.data import Batch, Ragged
from recis_core.kernels import Kernels
from recis_core.packing import Bags, end_to_end, starts_of
from recis_core.readback import Readback, to_device
from recis_core.schema import Bucketize, Feature, Hash, Mod, Truncate

KIND = {torch.int64: "ids", torch.float32: "values", torch.uint8: "strings"}


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
        self.levels = plan([c for pair in self.chains.values() for c in pair if c is not None])
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


def plan(chains: Sequence[Chain]) -> list[list[list[Chain]]]:
    """For each level, the launches; for each launch, the chains whose last transform it runs."""
    levels = []
    for k in range(1, 1 + max((len(done) for _, done in chains), default=0)):
        launches: dict[Any, list[Chain]] = {}
        for node in dict.fromkeys((c, done[:k]) for c, done in chains if len(done) >= k):
            last = node[1][-1]
            launches.setdefault(last if isinstance(last, Hash) else type(last), []).append(node)
        levels.append(list(launches.values()))
    return levels


def column_of(batch: Batch, name: str, kind: str, feature: str) -> Ragged:
    """Column `name` with one level of nesting (strings: one above the strings' own)."""
    said = f"feature {feature!r}: column {name!r}"
    if name not in batch.columns:
        raise KeyError(f"{said} is not in the batch, which has {', '.join(batch.columns)}")
    column = batch.ragged(name)
    held = KIND.get(column.flat.dtype, str(column.flat.dtype))
    if held != kind:
        raise TypeError(f"{said} holds {held}, not the {kind} it needs{hint(held, kind)}")
    if len(column) != batch.rows:
        raise ValueError(f"{said} has {len(column)} rows, the batch {batch.rows}")
    if column.flat.requires_grad:
        raise ValueError(f"{said} requires grad; weights are not differentiable")
    if kind == "strings" and isinstance(column.values, Tensor):
        one_each = torch.arange(batch.rows + 1, dtype=torch.int32, device=column.offsets.device)
        return Ragged(column, one_each)
    while isinstance(column.values, Ragged) and (
        kind != "strings" or isinstance(column.values.values, Ragged)
    ):
        inner = column.values
        column = Ragged(inner.values, inner.offsets[column.offsets.long()])
    return column


def bags_of(feature: Feature, made: dict[Chain, Ragged], chain: Chain, own: Chain | None) -> Bags:
    ids = made[chain]
    if own is None:
        return Bags(ids.flat, ids.offsets, None)
    weights = made[own]
    on_host = ids.offsets.device.type == "cpu"
    # Reading offsets would make a GPU wait, so there only the lengths are compared.
    if len(weights.flat) != len(ids.flat) or (
        on_host and not torch.equal(weights.offsets.long(), ids.offsets.long())
    ):
        raise ValueError(
            f"feature {feature.name!r}: weights {feature.weights!r} do not lie beside "
            f"the ids of column {feature.column!r}: {len(weights.flat)} and {len(ids.flat)} values"
        )
    return Bags(ids.flat, ids.offsets, weights.flat)


def _apart(values: Tensor, parents: Sequence[Ragged], sizes: Sequence[int]) -> list[Ragged]:
    parts = values.split(list(sizes))
    return [Ragged(part, p.offsets) for part, p in zip(parts, parents, strict=True)]


def _flat(parents: Sequence[Ragged]) -> tuple[Tensor, list[int], Tensor]:
    values = end_to_end([p.flat for p in parents])
    sizes = [len(p.flat) for p in parents]
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
    offsets = torch.stack([p.offsets for p in parents])
    lengths = offsets.diff(dim=1)
    kept = torch.minimum(lengths, limits.to(lengths.dtype))
    begin = torch.where(keep_last, offsets[:, 1:] - kept, offsets[:, :-1])
    ends = torch.nn.functional.pad(kept.cumsum(1, dtype=offsets.dtype), (1, 0))
    done = []
    totals = Readback([ends[:, -1]]).counts()
    for p, length, start, end, total in zip(parents, kept, begin, ends, totals, strict=True):
        if total == len(p.flat):
            done.append(p)
            continue
        shift = torch.repeat_interleave(start - end[:-1], length, output_size=total)
        at = shift + torch.arange(total, device=shift.device)
        done.append(Ragged(p.flat[at], end))
    return done


RUN: dict[type, Callable[..., list[Ragged]]] = {
    Hash: _hash,
    Mod: _mod,
    Bucketize: _bucketize,
    Truncate: _truncate,
}
