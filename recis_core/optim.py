"""Row optimizers: which slots each keeps for a row, and how it changes the rows a step touched.

Lazy, as RecIS: a row without a gradient keeps its weight and all its slots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from recis_core.accumulator import LeafGradients, RowGradients
from recis_core.blocks import Slot
from recis_core.kernels import Kernels
from recis_core.table import Group

if TYPE_CHECKING:
    from recis_core.embedding import Embedding

State = dict[str, Any]


class Rule(Protocol):
    """How a row changes; `lr` is what a `RowOptimizer` begins with.

    `op`: which of the kernels do it, rows_<op> and rows_reduce_<op>.
    """

    op: ClassVar[str]

    @property
    def lr(self) -> float: ...

    def slots(self, dim: int) -> tuple[Slot, ...]:
        """What is kept for a row beside its weight of `dim`."""
        ...

    def begin(self) -> State:
        """The state of a group before its first step."""
        ...

    def scalars(self, lr: float, state: State) -> tuple[Any, ...]:
        """Advance the group's `state` by a step; -> the op's arguments after the rows' own."""
        ...


@dataclass(frozen=True)
class Sgd:
    """w -= lr·(g + decay·w)."""

    op: ClassVar[str] = "sgd"
    lr: float = 1e-2
    decay: float = 0.0

    def slots(self, dim: int) -> tuple[Slot, ...]:
        return ()

    def begin(self) -> State:
        return {"step": 0}

    def scalars(self, lr: float, state: State) -> tuple[Any, ...]:
        state["step"] += 1
        return lr, self.decay


@dataclass(frozen=True)
class Adagrad:
    """s += g²; w -= lr/(1 + (step - 1)·lr_decay)·g/(√s + eps), g with decay·w added."""

    op: ClassVar[str] = "adagrad"
    lr: float = 1e-2
    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    decay: float = 0.0

    def slots(self, dim: int) -> tuple[Slot, ...]:
        return (Slot("sum", dim, fill=self.initial_accumulator_value),)

    def begin(self) -> State:
        return {"step": 0}

    def scalars(self, lr: float, state: State) -> tuple[Any, ...]:
        state["step"] += 1
        lr /= 1 + (state["step"] - 1) * self.lr_decay
        return lr, self.eps, self.decay


@dataclass(frozen=True)
class RowwiseAdagrad:
    """As `Adagrad`, with one accumulator for a row: the mean of g² over its columns."""

    op: ClassVar[str] = "adagrad_rowwise"
    lr: float = 1e-2
    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    decay: float = 0.0

    def slots(self, dim: int) -> tuple[Slot, ...]:
        return (Slot("row_sum", 1, fill=self.initial_accumulator_value),)

    def begin(self) -> State:
        return {"step": 0}

    def scalars(self, lr: float, state: State) -> tuple[Any, ...]:
        state["step"] += 1
        lr /= 1 + (state["step"] - 1) * self.lr_decay
        return lr, self.eps, self.decay


@dataclass(frozen=True)
class _Moments:
    """What Adam and AdamW share: two moments, and powers of beta as Python floats (float64)."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decay: float = 0.0
    form: str = "torch"

    def slots(self, dim: int) -> tuple[Slot, ...]:
        return Slot("mean", dim), Slot("square", dim)

    def begin(self) -> State:
        return {"step": 0, "power1": 1.0, "power2": 1.0}

    def scalars(self, lr: float, state: State) -> tuple[Any, ...]:
        state["step"] += 1
        state["power1"] *= self.betas[0]
        state["power2"] *= self.betas[1]
        powers = state["power1"], state["power2"]
        return lr, *self.betas, self.eps, self.decay, *powers, self.form


@dataclass(frozen=True)
class Adam(_Moments):
    """Adam; `form` places eps as PyTorch does or as TensorFlow (and RecIS) does."""

    op: ClassVar[str] = "adam"
    form: Literal["torch", "tensorflow"] = "torch"


@dataclass(frozen=True)
class AdamW(_Moments):
    """AdamW in the form of PyTorch, of RecIS (SparseAdamW), or of TensorFlow (SparseAdamWTF)."""

    op: ClassVar[str] = "adamw"
    decay: float = 1e-2
    form: Literal["torch", "recis", "tensorflow"] = "torch"


class RowOptimizer(torch.optim.Optimizer):
    """Applies a rule to the gradients an `Embedding` accumulated.

    A param_group, with one empty placeholder, for each group of tables: torch's schedulers drive
    its "lr". A group without gradients in a step does not advance.
    """

    def __init__(self, embedding: Embedding, rule: Rule) -> None:
        self.embedding, self.rule = embedding, rule
        for group in embedding.groups:
            missing = [s.name for s in rule.slots(group.dim) if s.name not in group.blocks]
            if missing:
                raise ValueError(f"{rule} needs slots {missing}, which {group.name} lacks")
        placeholders = [
            {"params": [torch.nn.Parameter(torch.empty(0))], "name": group.name}
            for group in embedding.groups
        ]
        super().__init__(placeholders, {"lr": rule.lr})
        for own in self.param_groups:
            self.state[own["params"][0]] = rule.begin()
        self._before: list[tuple[State, State]] = []

    @torch.no_grad()
    def step(self, scale: Tensor | None = None, keep: Tensor | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Change every touched row; `scale` [1] float64 multiplies all gradients (clipping).

        `keep` [1] bool: where the device finds it False no row changes; whoever learns of that
        calls `take_back` before the next step.
        """
        self._before = []
        for group, own in zip(self.embedding.groups, self.param_groups, strict=True):
            held = self.embedding.gradients.get(group.name)
            if held is None:
                continue
            every, rate = group.rate_of(held.tables)
            state = self.state[own["params"][0]]
            if keep is not None:
                self._before.append((state, dict(state)))
            scalars = self.rule.scalars(float(own["lr"]) * every, state)
            if isinstance(held, LeafGradients) and scale is None and self.fuses(group.kernels):
                update_by_leaves(self.rule.op, group, kept(held, keep), rate, scalars)
                continue
            if isinstance(held, LeafGradients):
                held = held.reduced(group.kernels)
            update(self.rule.op, group, kept(held, keep), scale, rate, scalars)

    def take_back(self) -> None:
        """The last step was left out on the device: the groups' states are as before it."""
        for state, before in self._before:
            state.update(before)
        self._before = []

    def fuses(self, kernels: Kernels) -> bool:
        """Whether gradients that are still in the leaves are reduced while rows are updated.

        Not where the kernels compose that of the two ops: those say more of where time goes.
        """
        return not kernels.origins[f"rows_reduce_{self.rule.op}"].endswith("(composed)")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the accumulated gradients."""
        self.embedding.clear()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict()` gave, JSON's string keys included.

        ValueError unless it is of the same groups.
        """
        saved = [own.get("name") for own in state_dict["param_groups"]]
        here = [own["name"] for own in self.param_groups]
        if saved != here:
            raise ValueError(f"optimizer state is of groups {saved}, not of {here}")
        state = {int(key): value for key, value in state_dict["state"].items()}
        super().load_state_dict({**state_dict, "state": state})


G = TypeVar("G", LeafGradients, RowGradients)


def kept(held: G, keep: Tensor | None) -> G:
    """`held`, whose rows are -1, which no update touches, where `keep` is there and False."""
    if keep is None:
        return held
    rows = held.rows
    return replace(held, rows=torch.where(keep, rows, none(rows.dtype, rows.device)))


@cache
def none(dtype: torch.dtype, device: torch.device) -> Tensor:
    """-1, shared, so not to be written to: a number would be sent to the device every time."""
    return torch.full((), -1, dtype=dtype, device=device)


def update(
    op: str,
    group: Group,
    held: RowGradients,
    scale: Tensor | None,
    rate: Tensor | None,
    scalars: tuple[Any, ...],
) -> None:
    """Change the rows of `group` by their gradients."""
    call = getattr(group.kernels, f"rows_{op}")
    call(group.blocks, held.rows, held.grad, scale, rate, *scalars)


def update_by_leaves(
    op: str, group: Group, held: LeafGradients, rate: Tensor | None, scalars: tuple[Any, ...]
) -> None:
    """Change the rows of `group` by gradients that are reduced on the way."""
    call = getattr(group.kernels, f"rows_reduce_{op}")
    index = held.transposed
    given = held.leaves, held.scale, index.starts, index.segments, index.weights
    call(group.blocks, held.rows, *given, rate, *scalars)
