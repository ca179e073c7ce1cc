"""How a model is trained, and what training needs of a reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from recis_core.data import Batch
from recis_core.dense import Precision


class TrainReader(Protocol):
    """Batches, and a position to go back to: what training needs of `recis_core.io.reader.Reader`.

    "epoch" of its state counts the epochs read to their end.
    """

    @property
    def epochs(self) -> int | None: ...

    @property
    def rows(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: Any) -> None: ...


def adamw(parameters: Iterable[Any]) -> Optimizer:
    """AdamW as torch has it by default, lr 1e-3; on a GPU in its fused form."""
    given = list(parameters)
    flat = [p for one in given for p in (one["params"] if isinstance(one, dict) else [one])]
    return torch.optim.AdamW(given, lr=1e-3, fused=all(p.is_cuda for p in flat) or None)


@dataclass(frozen=True)
class Settings:
    """How to train; the batch size and the number of epochs are the reader's.

    `steps`: optimizer steps to end after, if the reader does not end before. `accumulation`:
    batches a step takes. `clip`: largest norm of the gradient, over dense and sparse. `guard`:
    successive steps whose gradient may be NaN or infinite, each of which changes nothing; one more
    is an error; 0 looks at no gradient. On a GPU nobody waits for the answer where the dense
    optimizer is a fused Adam or AdamW: such an error then comes before the next step changes
    anything but new rows. `dense` makes the dense parameters' optimizer, `scheduler` a schedule, by
    step, of it and of the rows' optimizer. `evaluate_every`, `save_every`: steps between; None: at
    the end of each epoch; both happen after the last step. `keep`: checkpoints to keep. `threads`:
    torch's, None for as they are. `overlap`: steps whose batches to read and prepare ahead, while
    the device is busy; None: 1 on a GPU, 0 on a CPU. `patience`: end after so many evaluations in a
    row that do not better `metric` (auc, grouped_auc, log_loss); None: never. `precision`: of the
    dense part; embedding rows, gradients' sums and updates are float32 either way. `compile`: the
    dense part by `torch.compile` as one graph. `graph`: its forward and backward pass as one CUDA
    graph, for batches of the size that comes first; ValueError where that cannot be.
    """

    steps: int | None = None
    accumulation: int = 1
    clip: float | None = None
    guard: int = 10
    dense: Callable[[Iterable[nn.Parameter]], Optimizer] = adamw
    scheduler: Callable[[Optimizer], LRScheduler] | None = None
    evaluate_every: int | None = None
    save_every: int | None = None
    keep: int = 3
    seed: int = 0
    threads: int | None = None
    overlap: int | None = None
    patience: int | None = None
    metric: str = "auc"
    precision: Precision = "float32"
    compile: bool = False
    graph: bool = False

    def __post_init__(self) -> None:
        counts = "accumulation keep steps evaluate_every save_every threads patience"
        for name in counts.split():
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, not 1 or more")
        for name in ("guard", "overlap"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}, not 0 or more")
        if self.precision not in get_args(Precision):
            there = ", ".join(get_args(Precision))
            raise ValueError(f"precision is {self.precision!r}, not one of {there}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip is {self.clip}, not above 0")
