"""When further training no longer helps: so many evaluations without a better metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# By the last part of the name, as figures of several tasks are called "task.auc".
LARGER, SMALLER = ("auc", "grouped_auc"), ("log_loss",)
METRICS = LARGER + SMALLER


@dataclass
class EarlyStop:
    """Sees every evaluation. `patience`: how many in a row may fail to better `metric`; None: all.

    best: its best value, at step `best_step`; failed: evaluations since.
    """

    metric: str = "auc"
    patience: int | None = None
    best: float | None = None
    best_step: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        if self.metric.rpartition(".")[2] not in METRICS:
            raise ValueError(f"metric is {self.metric!r}, not one of {', '.join(METRICS)}")

    @property
    def reached(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.failed >= self.patience

    def see(self, metrics: Mapping[str, float], step: int) -> None:
        """Take an evaluation up; NaN is no better than anything. ValueError without the metric."""
        if self.patience is None:
            return
        if self.metric not in metrics:
            there = ", ".join(name for name in metrics if name != "rows")
            raise ValueError(f"the evaluation has no {self.metric!r}; it has {there}")
        value = metrics[self.metric]
        sign = 1 if self.metric.rpartition(".")[2] in LARGER else -1
        better = value == value and (self.best is None or sign * value > sign * self.best)
        if better:
            self.best, self.best_step, self.failed = value, step, 0
        else:
            self.failed += 1
