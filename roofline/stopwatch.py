"""Where a training step's time goes, stage by stage, each waited for: their sum is no step's time.

Stages are the methods a trainer calls; a stage inside another counts for the outer one alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from recis_core.train import Trainer


class Stopwatch:
    """Within a `with`, times the stages of every step that the trainer makes, in seconds."""

    SPARSE = ("lookup", "accumulate", "norm", "update")

    def __init__(self, trainer: Trainer) -> None:
        self.device = torch.device(trainer.kernels.device)
        self.trainer = trainer
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self._open = False
        places: list[tuple[str, Any, str]] = [
            ("lookup", trainer.embedding, "lookup"),
            ("accumulate", trainer.embedding, "accumulate"),
            ("norm", trainer.embedding, "gradient_norm"),
            ("update", trainer.row_optimizer, "step"),
            ("forward", trainer, "forward"),
        ]
        if trainer.dense_optimizer is not None:
            places.append(("dense update", trainer.dense_optimizer, "step"))
        self._places = places

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

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            if self._open:
                return call(*args, **named)
            self._open, began = True, self._now()
            try:
                return call(*args, **named)
            finally:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + self._now() - began
                self._open = False

        timed.__wrapped__ = call  # pyright: ignore[reportFunctionMemberAccess]
        return timed
