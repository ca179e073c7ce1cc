"""What a workload is, and what it is trained with when nothing else is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import nn

Schedule = Literal["constant", "linear"]
RuleKind = Literal["sgd", "adagrad", "adagrad_rowwise", "adam", "adamw"]


@dataclass(frozen=True)
class Defaults:
    """How a workload is trained by default.

    `rule`, `lr`, `decay`: the sparse rows' optimizer, its rate and weight decay. The dense part
    uses AdamW with `dense_lr` and `dense_decay`. `schedule`: what becomes of both rates; "linear":
    they fall evenly to nothing at the end of the training. `eps`: the rule's, None for its own.
    """

    batch_size: int
    epochs: int
    rule: RuleKind
    lr: float
    dense_lr: float
    decay: float = 0.0
    dense_decay: float = 0.0
    schedule: Schedule = "constant"
    eps: float | None = None


class Workload(Protocol):
    """Data written once, a model over it, and how it is trained; one file, found by its name.

    `write` leaves `train/` and `valid/` in `folder` (files of one format) and returns the manifest;
    a complete folder is reused, one of another configuration is a ValueError naming what differs.
    `ceiling` is the best held-out AUC possible, None where nobody knows it. `model(size)` is an
    nn.Module with `features`, `columns` and `task`, whose `forward(inputs)` gives logits [rows].
    """

    name: str
    sizes: tuple[str, ...]

    def config(self, size: str) -> Any: ...

    def write(
        self,
        size: str,
        folder: Path | str,
        format: str = "parquet",
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]: ...

    def model(self, size: str) -> nn.Module: ...

    def defaults(self, size: str) -> Defaults: ...

    def ceiling(self, folder: Path | str) -> float | None: ...
