"""Between a batch and a loss: what the model is given, what its logits are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recis_core.data import Batch
from recis_core.task import Task


@dataclass(frozen=True)
class Target:
    """Of a batch: labels [rows] in [0, 1], weights [rows] >= 0 or None, their sum."""

    labels: Tensor
    weights: Tensor | None
    total: float


def target_of(task: Task, batch: Batch) -> Target:
    """The batch's target, or ValueError naming column, row of the batch and value."""
    labels = single(batch, task.label).float()
    _require(batch, task.label, labels, (labels >= 0) & (labels <= 1), "in [0, 1]")
    if task.weight is None:
        return Target(labels, None, float(batch.rows))
    weights = single(batch, task.weight).float()
    finite = (weights >= 0) & weights.isfinite()
    _require(batch, task.weight, weights, finite, "a finite weight >= 0")
    return Target(labels, weights, float(weights.double().sum()))


def single(batch: Batch, name: str) -> Tensor:
    """Dense column `name` of width 1 as [rows]; ValueError for another width."""
    column = batch.dense(name)
    if column.shape[1:] != (1,):
        raise ValueError(f"column {name!r} has shape {tuple(column.shape)}, not [rows, 1]")
    return column[:, 0]


def _require(batch: Batch, name: str, values: Tensor, legal: Tensor, what: str) -> None:
    if not bool(legal.all()):
        row = int((~legal).nonzero()[0])
        value = float(values[row])
        raise ValueError(f"column {name!r}, row {row} of a batch: {value} is not {what}")


def inputs_of(model: Any, batch: Batch, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `forward` gets: leaves by feature, dense columns of values by name [rows, width].

    The label and the sample weights are not among them. Beside a ragged leaf its offsets and ids.
    """
    hidden = (model.task.label, model.task.weight)
    dense = [
        c.name
        for c in model.columns
        if c.kind == "values" and c.width is not None and c.name not in hidden
    ]
    return {**{name: batch.dense(name) for name in dense}, **leaves}


class Logits(NamedTuple):
    """What a training model may give in place of logits [rows]: these, and a scalar `loss` of an
    objective of its own, a mean that is added to the loss of the labels."""

    logits: Tensor
    loss: Tensor


def logits_of(model: nn.Module, inputs: dict[str, Tensor], rows: int) -> Any:
    """The model's logits [rows] in float32, or `Logits` where it has an objective of its own.

    ValueError if it gives another shape.
    """
    made = model(inputs)
    logits = made.logits if isinstance(made, Logits) else made
    if logits.shape != (rows,):
        raise ValueError(f"the model gave logits of shape {tuple(logits.shape)}, not ({rows},)")
    return Logits(logits.float(), made.loss) if isinstance(made, Logits) else logits.float()


def loss_sum(logits: Tensor | Logits, target: Target) -> Tensor:
    """Σ weight · binary cross-entropy: what divided by Σ weight is the loss. A model's own loss
    counts once for every unit of weight."""
    own = logits.loss * target.total if isinstance(logits, Logits) else 0.0
    logits = logits.logits if isinstance(logits, Logits) else logits
    return own + binary_cross_entropy_with_logits(
        logits, target.labels, weight=target.weights, reduction="sum"
    )
