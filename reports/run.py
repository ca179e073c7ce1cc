"""A training run as the command line knows it: its folder, and what it was begun with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler

from recis_core import optim
from recis_core.data import Batch
from recis_core.dense import Precision
from recis_core.io import Reader
from recis_core.kernels import Kernels
from recis_core.packing import laid_out
from reports.choice import workload_of
from reports.failure import Failure
from workloads import Workload
from workloads.definition import Schedule

RULES: dict[str, Callable[..., optim.Rule]] = {
    "sgd": optim.Sgd,
    "adagrad": optim.Adagrad,
    "adagrad_rowwise": optim.RowwiseAdagrad,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}
SCHEDULES: tuple[str, ...] = get_args(Schedule)
PRECISIONS: tuple[str, ...] = get_args(Precision)
NAME = "run.json"


def adamw(parameters: Iterable[Any], **how: Any) -> Optimizer:
    """AdamW; on a GPU in one kernel, which needs no copies of the parameters.

    A group of parameters may have a "scale" that its rate is multiplied by.
    """
    given = list(parameters)
    flat = [p for one in given for p in (one["params"] if isinstance(one, dict) else [one])]
    fused = True if flat and all(p.is_cuda for p in flat) else None
    found = torch.optim.AdamW(given, fused=fused, **how)
    for group in found.param_groups:
        group["lr"] *= group.pop("scale", 1.0)
    return found


@dataclass(frozen=True)
class Run:
    """What a run trains, on what, and with which optimizers; kept in its folder as run.json."""

    workload: str
    size: str
    data: str
    batch_size: int
    epochs: int
    seed: int
    rule: str
    lr: float
    decay: float
    dense_lr: float
    dense_decay: float
    steps: int | None = None
    accumulation: int = 1
    clip: float | None = None
    precision: Precision = "float32"
    compile: bool = False
    graph: bool = False
    schedule: str = "constant"
    eps: float | None = None

    def save(self, folder: Path) -> None:
        """Written aside and renamed."""
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{NAME}.part"
        with aside.open("w") as file:
            file.write(json.dumps(asdict(self), indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(folder / NAME)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run of `folder`; Failure if there is none."""
        path = folder / NAME
        if not path.exists():
            raise Failure(f"{folder} is no training run: it has no {NAME}")
        try:
            return cls(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise Failure(f"{path}: {error}") from None

    def kind(self) -> Workload:
        return workload_of(self.workload)

    def model(self) -> nn.Module:
        """The model, its dense parameters drawn from the run's seed."""
        torch.manual_seed(self.seed)
        return self.kind().model(self.size)

    def row_rule(self) -> optim.Rule:
        given = {} if self.eps is None else {"eps": self.eps}
        return RULES[self.rule](lr=self.lr, decay=self.decay, **given)

    def dense(self) -> Callable[[Iterable[nn.Parameter]], Optimizer]:
        return partial(adamw, lr=self.dense_lr, weight_decay=self.dense_decay)

    def scheduler(self, batches: int) -> Callable[[Optimizer], LRScheduler] | None:
        """The schedule of both optimizers, for an epoch of so many batches; None: constant."""
        if self.schedule == "constant":
            return None
        steps = -(-batches * self.epochs // self.accumulation)
        steps = max(1, steps if self.steps is None else min(steps, self.steps))
        return partial(LinearLR, start_factor=1.0, end_factor=0.0, total_iters=steps)

    def reader(self, model: Any, kernels: Kernels) -> Reader:
        """The training data, shuffled."""
        return Reader(
            Path(self.data) / "train",
            laid_out(model.columns, model.features),
            self.batch_size,
            shuffle=True,
            seed=self.seed,
            epochs=self.epochs,
            kernels=kernels,
        )

    def held_out(self, model: Any, kernels: Kernels, data: Path | None = None) -> Iterable[Batch]:
        """The held-out rows in the order of the files, or those of `data`."""
        where = data or Path(self.data) / "valid"
        columns = laid_out(model.columns, model.features)
        return Reader(where, columns, 4 * self.batch_size, kernels=kernels)
