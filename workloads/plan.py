"""What training a model will take, known before any of it is done: work, bytes, memory.

The bytes of a step are its backend-independent minimum, the same count that the tracer makes of a
real step: ids and offsets read, each touched slot once each way, leaves and their gradients once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from recis_core.blocks import Slot, lay_out
from recis_core.optim import Rule
from recis_core.schema import Feature
from recis_core.task import tasks_of
from workloads.demand import Demand, Mixture

ID, INDEX, FLOAT = 8, 4, 4
BLOCK_ROWS = 1 << 16
CELL = 16  # of an id map: id, row, table
ADAM = 4  # copies of a dense parameter: itself, its gradient, two moments
Demands = Mapping[str, Demand | Mixture]


@dataclass(frozen=True)
class TablePlan:
    """A table: `rows` it will have, `stride` bytes of each, rows `touched` and ids in a step."""

    name: str
    dim: int
    rows: int
    stride: int
    ids: float
    touched: float

    @property
    def nbytes(self) -> int:
        return self.rows * self.stride


@dataclass(frozen=True)
class StepBytes:
    """The minimum traffic of a step by kind; `slots`, `leaves`: both ways."""

    ids: int
    offsets: int
    slots: int
    leaves: int

    @property
    def total(self) -> int:
        return self.ids + self.offsets + self.slots + self.leaves


@dataclass(frozen=True)
class Plan:
    """A training run planned. `memory`: bytes by what they are for, of which `peak` is the sum.

    `flops`: of matrix products and attention, forward and backward. `train_rows`: how many rows
    the tables' sizes are expected after.
    """

    batch: int
    train_rows: int
    parameters: int
    flops: int
    tables: tuple[TablePlan, ...]
    step: StepBytes
    memory: Mapping[str, int]

    @property
    def peak(self) -> int:
        return sum(self.memory.values())

    @property
    def largest(self) -> TablePlan:
        return max(self.tables, key=lambda table: table.nbytes)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "peak": self.peak, "step_bytes": self.step.total}


@dataclass(frozen=True)
class DenseCosts:
    """FLOPs of a step's dense part, forward and backward; bytes it needs by what they are for."""

    flops: int
    memory: Mapping[str, int]


def plan_of(
    model: Any,
    demands: Demands,
    rule: Rule,
    *,
    batch: int,
    train_rows: int,
    dense: DenseCosts | None = None,
) -> Plan:
    """The plan of training `model`, whose features ask for `demands` (by name), with `rule`.

    Distinct ids are expected values for ids drawn independently; features that share a table are
    taken to draw from it alike. The memory of activations is what autograd keeps of one forward
    pass in float32, twice, as backward makes as much again. `dense`: its costs, if the workload
    knows them; a model whose calls depend on the ids cannot be asked.
    """
    tables = tables_of(model.features, demands, rule, batch, train_rows)
    if dense is None:
        flops, kept = dense_costs(model, batch)
        dense = DenseCosts(flops, {"activations": 2 * kept})
    parameters = sum(p.numel() for p in model.parameters())
    memory = table_memory(tables) | {
        "dense parameters and optimizer": ADAM * FLOAT * parameters,
        **dense.memory,
        "the step's rows, leaves and gradients": sparse_memory(
            model.features, demands, tables, batch
        ),
        "two batches": 2 * batch_bytes(model, demands, batch),
    }
    step = step_bytes(model.features, demands, tables, rule, batch)
    return Plan(batch, train_rows, parameters, dense.flops, tables, step, memory)


def tables_of(
    features: tuple[Feature, ...],
    demands: Demands,
    rule: Rule,
    batch: int,
    train_rows: int,
) -> tuple[TablePlan, ...]:
    asked: dict[str, list[Feature]] = {}
    for feature in features:
        asked.setdefault(feature.table.name, []).append(feature)
    found = []
    for name, own in asked.items():
        first = demands[own[0].name]
        per_row = sum(demands[f.name].per_row for f in own)
        together = replace(first, per_row=per_row)
        table = own[0].table
        _, stride = lay_out(slots_of(table.dim, table.dtype, rule))
        rows, touched = (round(together.distinct(n)) for n in (train_rows, batch))
        found.append(TablePlan(name, table.dim, rows, stride, batch * per_row, touched))
    return tuple(found)


def slots_of(dim: int, dtype: str, rule: Rule) -> list[Slot]:
    return [Slot("weight", dim, getattr(torch, dtype)), *rule.slots(dim)]


def table_memory(tables: tuple[TablePlan, ...]) -> dict[str, int]:
    """Blocks and id maps by dim, as groups hold them: whole blocks, maps a quarter full or less."""
    rows: dict[tuple[int, int], int] = {}
    for table in tables:
        kind = table.dim, table.stride
        rows[kind] = rows.get(kind, 0) + table.rows
    blocks = {
        f"tables of dim {dim}": -(-n // BLOCK_ROWS) * BLOCK_ROWS * stride
        for (dim, stride), n in sorted(rows.items())
    }
    # A map grows to four times its pairs, by powers of two; the old one stays until it has.
    cells = [1 << max(4 * n - 1, 1).bit_length() for n in rows.values()]
    return blocks | {"id maps": CELL * (sum(cells) + max(cells) // 2)}


def leaf_rows(feature: Feature, demands: Demands, batch: int) -> float:
    if feature.pooling == "ragged":
        return batch * demands[feature.name].per_row
    return batch * (feature.length or 1)


def leaf_bytes(features: tuple[Feature, ...], demands: Demands, batch: int) -> int:
    return round(sum(FLOAT * f.table.dim * leaf_rows(f, demands, batch) for f in features))


def step_bytes(
    features: tuple[Feature, ...],
    demands: Demands,
    tables: tuple[TablePlan, ...],
    rule: Rule,
    batch: int,
) -> StepBytes:
    slots = sum(
        2 * t.touched * sum(slot.nbytes for slot in slots_of(t.dim, "float32", rule))
        for t in tables
    )
    return StepBytes(
        ids=round(sum(ID * batch * demands[f.name].per_row for f in features)),
        offsets=INDEX * (batch + 1) * len(features),
        slots=round(slots),
        leaves=2 * leaf_bytes(features, demands, batch),
    )


def sparse_memory(
    features: tuple[Feature, ...], demands: Demands, tables: tuple[TablePlan, ...], batch: int
) -> int:
    """What lives between lookup and update: ids packed, inverse, transposed index and sorting
    space, the distinct rows' values and gradients, leaves and their gradients."""
    ids = sum(t.ids for t in tables) * (ID + 4 * INDEX + FLOAT)
    rows = sum(t.touched * (2 * FLOAT * t.dim + 2 * ID + 2 * INDEX) for t in tables)
    return round(ids + rows + 2 * leaf_bytes(features, demands, batch))


def batch_bytes(model: Any, demands: Demands, batch: int) -> int:
    """Ids, weights and offsets of the features, dense columns; before and after unpacking."""
    weighted = {f.name for f in model.features if f.weights is not None}
    size = sum(
        batch * (d.per_row * (ID + FLOAT * (name in weighted)) + INDEX)
        for name, d in demands.items()
    )
    dense = sum(c.width or 0 for c in model.columns if c.kind == "values")
    return round(2 * (size + batch * FLOAT * dense))


def dense_costs(model: Any, batch: int) -> tuple[int, int]:
    """FLOPs of a forward and backward pass, and bytes that autograd keeps between the two.

    Run on torch's meta device: shapes without memory.
    """
    on_meta: nn.Module = model.to("meta")
    inputs = meta_inputs(model, batch)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[id(tensor.untyped_storage())] = tensor
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = on_meta(inputs)
        out.sum().backward()
    own = {id(t.untyped_storage()) for t in (*on_meta.parameters(), *inputs.values())}
    sizes = [t.untyped_storage().nbytes() for key, t in kept.items() if key not in own]
    return int(counter.get_total_flops()), sum(sizes)


def meta_inputs(model: Any, batch: int) -> dict[str, Tensor]:
    """What `forward` gets of a batch, on the meta device."""
    hidden = {name for task in tasks_of(model) for name in (task.label, task.weight)}
    inputs = {
        c.name: torch.empty(batch, c.width, device="meta")
        for c in model.columns
        if c.kind == "values" and c.width is not None and c.name not in hidden
    }
    for f in model.features:
        shape = (batch, f.table.dim) if f.length is None else (batch, f.length, f.table.dim)
        inputs[f.name] = torch.empty(shape, device="meta", requires_grad=True)
    return inputs
