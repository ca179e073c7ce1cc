"""Between a batch and a loss: what the model is given, what its logits are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recis_core.data import Batch
from recis_core.leaves import LeafViews
from recis_core.readback import Readback
from recis_core.task import Task, tasks_of


@dataclass(frozen=True)
class Target:
    """Of a batch, a column per task: labels [rows, tasks] in [0, 1], weights alike >= 0 or None.

    total [tasks] float32: the sum of each task's weights; shares [tasks]: what its loss counts for.
    """

    labels: Tensor
    weights: Tensor | None
    total: Tensor
    shares: tuple[float, ...]
    checks: Checks


class Checks:
    """What must hold of some values of a batch, asked of the device at once and read later."""

    def __init__(self) -> None:
        self._made: list[tuple[str, Tensor, Tensor, str]] = []
        self._sent: Readback | None = None

    def add(self, name: str, values: Tensor, legal: Tensor, what: str) -> Tensor:
        """`values` [rows] of column `name`, which are `what` where `legal` [rows] is set."""
        self._made.append((name, values, legal, what))
        return values

    def send(self) -> Checks:
        self._sent = Readback([legal.all() for _, _, legal, _ in self._made])
        return self

    def require(self) -> None:
        """ValueError naming column, row of the batch and value if one does not hold; waits for the
        device unless it has come past `send`."""
        assert self._sent is not None
        for good, made in zip(self._sent.values(), self._made, strict=True):
            name, values, legal, what = made
            if not good:
                row = int((~legal).nonzero()[0])
                value = float(values[row])
                raise ValueError(f"column {name!r}, row {row} of a batch: {value} is not {what}")


def target_of(tasks: Sequence[Task], batch: Batch) -> Target:
    """The batch's target; its `checks` say whether its values are legal."""
    checks = Checks()
    labels = [labels_of(task, batch, checks) for task in tasks]
    weights = [weights_of(task, batch, checks) for task in tasks]
    device = labels[0].device
    total = [
        torch.full((), batch.rows, dtype=torch.float32, device=device)
        if own is None
        else own.double().sum().float()
        for own in weights
    ]
    given = None
    if any(own is not None for own in weights):
        each = zip(weights, labels, strict=True)
        given = torch.stack([torch.ones_like(y) if w is None else w for w, y in each], 1)
    shares = tuple(task.share for task in tasks)
    return Target(torch.stack(labels, 1), given, torch.stack(total), shares, checks.send())


def labels_of(task: Task, batch: Batch, checks: Checks) -> Tensor:
    """[rows] float32 in [0, 1]."""
    labels = single(batch, task.label).float()
    return checks.add(task.label, labels, (labels >= 0) & (labels <= 1), "in [0, 1]")


def weights_of(task: Task, batch: Batch, checks: Checks) -> Tensor | None:
    """[rows] float32 >= 0, None where the task has none."""
    if task.weight is None:
        return None
    weights = single(batch, task.weight).float()
    finite = (weights >= 0) & weights.isfinite()
    return checks.add(task.weight, weights, finite, "a finite weight >= 0")


def single(batch: Batch, name: str) -> Tensor:
    """Dense column `name` of width 1 as [rows]; ValueError for another width."""
    column = batch.dense(name)
    if column.shape[1:] != (1,):
        raise ValueError(f"column {name!r} has shape {tuple(column.shape)}, not [rows, 1]")
    return column[:, 0]


class Inputs(Mapping[str, Tensor]):
    """What `forward` gets: leaves by feature, beside a ragged one its offsets and ids, and `dense`
    columns of values by name [rows, width]."""

    def __init__(self, dense: Mapping[str, Tensor], leaves: Mapping[str, Tensor]) -> None:
        self.dense, self.leaves = dense, leaves

    def named(self) -> dict[str, Tensor]:
        """All of them, as a model is given them."""
        leaves = self.leaves.named() if isinstance(self.leaves, LeafViews) else self.leaves
        return {**self.dense, **leaves}

    def __getitem__(self, name: str) -> Tensor:
        return self.dense[name] if name in self.dense else self.leaves[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.dense
        yield from self.leaves

    def __len__(self) -> int:
        return len(self.dense) + len(self.leaves)


def inputs_of(model: Any, batch: Batch, leaves: Mapping[str, Tensor]) -> Inputs:
    """The model's inputs; labels and sample weights are not among them."""
    hidden = {name for task in tasks_of(model) for name in (task.label, task.weight)}
    dense = [
        c.name
        for c in model.columns
        if c.kind == "values" and c.width is not None and c.name not in hidden
    ]
    return Inputs({name: batch.dense(name) for name in dense}, leaves)


class Logits(NamedTuple):
    """What a training model may give in place of logits: these, and a scalar `loss` of an objective
    of its own, a mean that is added to the loss of the labels."""

    logits: Tensor
    loss: Tensor


def logits_of(
    forward: Callable[[Any], Any], inputs: Mapping[str, Tensor], rows: int, tasks: int
) -> Any:
    """The model's logits [rows], of several tasks [rows, tasks], in float32; `Logits` where it has
    an objective of its own.

    ValueError if it gives another shape.
    """
    made = forward(inputs)
    logits = made.logits if isinstance(made, Logits) else made
    shape = (rows,) if tasks == 1 else (rows, tasks)
    if logits.shape != shape:
        raise ValueError(f"the model gave logits of shape {tuple(logits.shape)}, not {shape}")
    return Logits(logits.float(), made.loss) if isinstance(made, Logits) else logits.float()


def total_of(targets: Sequence[Target]) -> Tensor:
    """[tasks]: what each task's rows weigh in all micro-batches of a step, 1 where nothing does."""
    total = torch.stack([target.total for target in targets]).sum(0)
    return total.where(total > 0, 1.0)


def loss_of(logits: Tensor | Logits, target: Target, total: Tensor) -> Tensor:
    """Σ over tasks of share · (Σ weight · binary cross-entropy) / total: one micro-batch's part.

    A model's own loss counts as much as the first task's weights of this micro-batch.
    """
    if isinstance(logits, Logits):
        own = logits.loss.float() * (target.total[0] / total[0])
        return own + loss_of(logits.logits, target, total)
    each = binary_cross_entropy_with_logits(
        logits.view(target.labels.shape), target.labels, weight=target.weights, reduction="none"
    )
    losses = (each.sum(0) / total).unbind()
    return torch.stack([own * part for own, part in zip(losses, target.shares, strict=True)]).sum()
