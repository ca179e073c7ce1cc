"""The embedding engine: ids of a batch -> leaves for a model, their gradients -> rows' gradients.

No table is a Parameter and nothing sparse is an autograd node: a model receives plain tensors and
what backward() leaves for them is taken up by `accumulate`, group by group in one fixed order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recis_core import accumulator, jagged, pooling
from recis_core.accumulator import LeafGradients, RowGradients
from recis_core.data import Batch
from recis_core.features import Features
from recis_core.kernels import Kernels
from recis_core.leaves import LeafViews
from recis_core.optim import Rule
from recis_core.packing import Packed, Run, pack, runs_of
from recis_core.pooling import Leaves, Transposed
from recis_core.routing import Asking, Exchange, Local, Route, routes
from recis_core.schema import Feature
from recis_core.table import Found, Group, found_of, grouped, missing_of


@dataclass(frozen=True)
class Asked:
    """What a batch asks of a group: its packed ids, their distinct pairs, where those are.

    found: of the pairs this rank owns, `tables` and `ids`; transposed: None when evaluating.
    """

    packed: Packed
    route: Route
    tables: Tensor
    ids: Tensor
    found: Found
    transposed: Transposed | None


@dataclass(frozen=True)
class Prepared:
    """A batch whose features are transformed, deduplicated and looked up; nothing has changed."""

    asked: tuple[Asked, ...]
    rows: int
    train: bool


@dataclass(frozen=True)
class Step:
    """What a group's leaves came from, kept until their gradients are there."""

    group: Group
    asked: Asked
    rows: Tensor
    leaves: Leaves


class Embedding:
    """The tables of a model's features, in groups; one lookup and one update for each group."""

    def __init__(
        self,
        features: Sequence[Feature],
        kernels: Kernels,
        rule: Rule,
        *,
        seed: int = 0,
        log2_rows: int = 16,
        limit: int = (1 << 31) - 1,
        exchange: Exchange | None = None,
    ) -> None:
        """`rule` says which slots a row has; a block has 2^log2_rows rows, a group at most `limit`.

        `seed` decides, with a table's name and the id, how a new row begins.
        """
        self.features = tuple(features)
        self._names = tuple(feature.name for feature in features)
        self.kernels, self.seed = kernels, seed
        self.exchange = exchange or Local()
        self.groups: list[Group] = []
        self.runs: list[tuple[Run, ...]] = []
        self._columns: list[Tensor] = []
        for tables, own in grouped(self.features):
            slots = rule.slots(tables[0].dim)
            self.groups.append(
                Group(tables, slots, kernels, seed=seed, log2_rows=log2_rows, limit=limit)
            )
            self.runs.append(runs_of(own))
            numbers = [tables.index(f.table) for run in self.runs[-1] for f in run.features]
            self._columns.append(torch.tensor(numbers, dtype=torch.int32, device=kernels.device))
        # In the order in which they are packed, so that what is transformed lies in it.
        order = [f for runs in self.runs for run in runs for f in run.features]
        self.transform = Features(order, kernels)
        # Of each group, where leaves are to lie that train, if they are as large; see `DenseGraph`.
        self.memory: Sequence[Tensor] = ()
        self._steps: list[Step] = []
        self.gradients: dict[str, LeafGradients | RowGradients] = {}

    @property
    def rows(self) -> int:
        """Rows in use, over all groups."""
        return sum(group.rows for group in self.groups)

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return sum(group.nbytes for group in self.groups)

    def prepare(self, batch: Batch, train: bool) -> Prepared:
        """The part of a lookup that changes nothing, so that it can run ahead of the step.

        After an earlier batch's new ids have got their rows, or they are looked up again.
        """
        bags = self.transform(batch)
        packed = pack(self.runs, bags, batch.rows, self.kernels.device)
        asking = [
            Asking(p.ids, p.splits, columns, group.salts)
            for p, columns, group in zip(packed, self._columns, self.groups, strict=True)
        ]
        ways, tables, ids, looks = [], [], [], []
        for group, way in zip(
            self.groups, routes(self.kernels, self.exchange, asking), strict=True
        ):
            ways.append(way)
            tables.append(self.exchange.send(way.tables, way.sent, way.received))
            ids.append(self.exchange.send(way.ids, way.sent, way.received))
            looks.append(group.look(tables[-1], ids[-1]))
        missing = missing_of(looks)
        # In the time of which the numbers of missing pairs arrive.
        indices: list[Transposed | None] = [
            pooling.transpose(self.kernels, p, way.inverse, len(way)) if train else None
            for p, way in zip(packed, ways, strict=True)
        ]
        parts = zip(packed, ways, tables, ids, found_of(looks, missing), indices, strict=True)
        return Prepared(tuple(Asked(*part) for part in parts), batch.rows, train)

    def lookup(self, batch: Batch | Prepared, train: bool) -> LeafViews:
        """The leaf of every feature by name: [rows, dim], of a tile [rows, length, dim], of a
        ragged one [values, dim], beside it NAME.offsets and NAME.ids.

        Training: unknown ids get rows and the leaves require grad. Otherwise unknown ids give
        zeros and nothing is inserted. TableFullError, before any table changes, if rows run out.
        """
        ready = batch if isinstance(batch, Prepared) else self.prepare(batch, train)
        if ready.train != train:
            raise ValueError(f"a batch prepared with train={ready.train} is looked up otherwise")
        found = [
            group.refresh(asked.found, asked.tables, asked.ids)
            for group, asked in zip(self.groups, ready.asked, strict=True)
        ]
        rows = [f.rows for f in found]
        if train:
            # Every group has room before any of them changes.
            for group, asked, own in zip(self.groups, ready.asked, found, strict=True):
                group.reserve(own, asked.tables)
            rows = [
                group.insert(own, asked.tables, asked.ids)
                for group, asked, own in zip(self.groups, ready.asked, found, strict=True)
            ]
        packed = [asked.packed for asked in ready.asked]
        made = [self._leaves(i, ready, own) for i, own in enumerate(rows)]
        parts = list(zip(self.runs, made, packed, strict=True))
        return LeafViews(self._names, parts, jagged.beside(self.runs, packed), train)

    def _leaves(self, i: int, ready: Prepared, rows: Tensor) -> Leaves:
        group, runs, asked = self.groups[i], self.runs[i], ready.asked[i]
        made = pooling.pool(
            self.kernels, self.exchange, runs, asked.packed, asked.route, group.blocks, rows,
            self.memory[i] if ready.train and self.memory else None,
        )  # fmt: skip
        if ready.train:
            self._steps.append(Step(group, asked, rows, made))
        return made

    def accumulate(self) -> None:
        """Take up the gradients that backward() left, adding to those of earlier micro-batches.

        Sums: averaging over micro-batches belongs to the loss. A leaf without a gradient counts as
        zeros; a group of whose leaves none has one gets none.
        """
        steps, self._steps = self._steps, []
        for step in steps:
            grad = step.leaves.grad
            if grad is None or not len(step.asked.route):
                continue
            asked, name = step.asked, step.group.name
            assert asked.transposed is not None
            step.leaves.scale_means(grad)
            given = grad, None, asked.transposed
            fresh = LeafGradients(step.rows, asked.tables, *given)
            if self.exchange.world == 1 and name not in self.gradients:
                self.gradients[name] = fresh
                continue
            own = fresh.reduced(self.kernels)
            # Back the way the values came.
            grad = self.exchange.send(own.grad, asked.route.received, asked.route.sent)
            own = RowGradients(step.rows, asked.tables, grad)
            before = self.accumulated.get(name)
            merged = own if before is None else accumulator.merge(self.kernels, before, own)
            self.gradients[name] = merged

    @property
    def accumulated(self) -> dict[str, RowGradients]:
        """The gradients of all groups that have any, by name, one a row."""
        reduced = {
            name: own.reduced(self.kernels) if isinstance(own, LeafGradients) else own
            for name, own in self.gradients.items()
        }
        self.gradients.update(reduced)
        return reduced

    def gradient_norm(self) -> Tensor:
        """[1] float64: the L2 norm of all accumulated gradients; NaN or inf if any of them is."""
        norms = [self.kernels.rows_norm(own.grad) for own in self.accumulated.values()]
        if not norms:
            return torch.zeros(1, dtype=torch.float64, device=self.kernels.device)
        return torch.linalg.vector_norm(torch.cat(norms)).reshape(1)

    def clear(self) -> None:
        """Forget all gradients, and leaves whose gradients never came."""
        self._steps.clear()
        self.gradients.clear()
