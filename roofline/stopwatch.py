"""Where a training step's time goes, stage by stage, each waited for: their sum is no step's time.

Stages are what a trainer calls. A stage that is called within another counts for itself alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import record_function

from roofline.kineto import Mark

if TYPE_CHECKING:
    from recis_core.train import Trainer


class Stopwatch:
    """Within a `with`, times the stages of every step that the trainer makes, in seconds.

    Batches must not be prepared ahead meanwhile: a stage would wait for another step's. With
    `marked` a trace has the stages, for `kineto.stage_time`, and their seconds are the trace's too.
    """

    SPARSE = ("prepare", "lookup", "gradient", "norm", "update")  # partition to update

    def __init__(self, trainer: Trainer, marked: bool = False) -> None:
        self.marked = marked
        self.device = torch.device(trainer.kernels.device)
        self.trainer = trainer
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self._inner: list[float] = []  # of each open stage, the seconds of stages within it
        engine = trainer.embedding
        self._places: list[tuple[str, Any, str]] = [
            ("features", engine, "transform"),
            ("prepare", engine, "prepare"),
            ("lookup", engine, "lookup"),
            ("gradient", engine, "accumulate"),
            ("norm", engine, "gradient_norm"),
            ("update", trainer.row_optimizer, "step"),
            ("forward", trainer, "forward"),
        ]
        if trainer.dense_optimizer is not None:
            self._places.append(("dense update", trainer.dense_optimizer, "step"))

    def __enter__(self) -> Stopwatch:
        self._first, self._began = self.trainer.step, self._now()
        for stage, owner, name in self._places:
            setattr(owner, name, self._timed(stage, getattr(owner, name)))
        return self

    def __exit__(self, *error: object) -> None:
        for _, owner, name in self._places:
            setattr(owner, name, getattr(owner, name).__wrapped__)
        self.seconds["all"] = self._now() - self._began
        self.steps = self.trainer.step - self._first

    def means(self) -> dict[str, float]:
        """Seconds of a mean step by stage; "all": the whole, backward() and reading included."""
        return {stage: own / max(self.steps, 1) for stage, own in self.seconds.items()}

    @property
    def sparse(self) -> float:
        """Seconds of a mean step's sparse part: all that is done to ids and rows but transforms."""
        means = self.means()
        return sum(means.get(stage, 0.0) for stage in self.SPARSE)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            began = self._now()
            self._inner.append(0.0)
            mark = record_function(Mark(stage, "").text) if self.marked else nullcontext()
            try:
                with mark:
                    result = call(*args, **named)
                    self._now()
                    return result
            finally:
                took = self._now() - began
                own = took - self._inner.pop()
                self.seconds[stage] = self.seconds.get(stage, 0.0) + own
                if self._inner:
                    self._inner[-1] += took

        timed.__wrapped__ = call  # pyright: ignore[reportFunctionMemberAccess]
        return timed
