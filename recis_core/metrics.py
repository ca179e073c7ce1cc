"""How good predictions are: AUC, AUC within groups, log loss, calibration, a running loss."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from recis_core.kernels import Kernels
from recis_core.types import index_dtype


class Evaluation:
    """Scores and labels of an evaluation, gathered batch by batch; `result` measures them.

    Held: 8 bytes a row, with weights 4 more, with groups 8 more.
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[Tensor]] = {}

    def add(
        self,
        scores: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> None:
        """Append rows: probabilities, labels in [0, 1], weights >= 0, group ids; each [n]."""
        given = {"scores": scores.float(), "labels": labels.float(), "weights": weights}
        for name, column in {**given, "groups": groups}.items():
            if column is not None:
                # A copy: a view would hold the whole batch, and memory of the stream it came by.
                self._columns.setdefault(name, []).append(column.detach().clone())

    def result(self, kernels: Kernels) -> dict[str, float]:
        """rows, auc, grouped_auc (if groups came), log_loss, calibration; NaN where undefined.

        Log loss and calibration are weighted, AUCs are not.
        """
        columns = {name: torch.cat(parts) for name, parts in self._columns.items()}
        if not columns:
            return {"rows": 0, "auc": math.nan, "log_loss": math.nan, "calibration": math.nan}
        scores, labels = columns["scores"], columns["labels"]
        measured: dict[str, float] = {"rows": len(scores), "auc": auc(kernels, scores, labels)}
        if "groups" in columns:
            measured["grouped_auc"] = grouped_auc(kernels, scores, labels, columns["groups"])
        weights = columns.get("weights")
        measured["log_loss"] = log_loss(scores, labels, weights)
        measured["calibration"] = calibration(scores, labels, weights)
        return measured


def auc(kernels: Kernels, scores: Tensor, labels: Tensor) -> float:
    """The chance that a positive scores above a negative, ties ½; NaN without either, or if a
    score is NaN."""
    ends = torch.tensor([0, len(scores)], dtype=_offsets_dtype(scores), device=scores.device)
    if bool(scores.isnan().any()):
        return math.nan
    return float(kernels.auc_grouped(labels, scores, ends)[0])


def grouped_auc(kernels: Kernels, scores: Tensor, labels: Tensor, groups: Tensor) -> float:
    """Mean of the groups' AUCs weighted by their positives; groups of one class do not count.

    Rows of a group need not be neighbours. NaN if no group counts, or if a score is NaN.
    """
    if bool(scores.isnan().any()):
        return math.nan
    order = groups.argsort(stable=True)
    sizes = groups[order].unique_consecutive(return_counts=True)[1]
    offsets = torch.zeros(len(sizes) + 1, dtype=_offsets_dtype(scores), device=scores.device)
    offsets[1:] = sizes.cumsum(0)
    # Declared in NumPy's types, bound to torch's.
    measured: Any = kernels.auc_grouped(labels[order], scores[order], offsets)
    each, positives = measured
    counts = ~each.isnan()
    weights = positives[counts].double()
    return float((each[counts] * weights).sum() / weights.sum())


def log_loss(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """Weighted mean of -(y ln p + (1 - y) ln(1 - p)) in float64, p kept 1e-7 away from 0 and 1."""
    p, y = scores.double().clamp(1e-7, 1 - 1e-7), labels.double()
    each = -(y * p.log() + (1 - y) * torch.log1p(-p))
    w = torch.ones_like(each) if weights is None else weights.double()
    return float((w * each).sum() / w.sum())


def calibration(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """Predicted positives over actual ones, weighted: 1 is right, above 1 predicts too many."""
    w = torch.ones_like(scores).double() if weights is None else weights.double()
    return float((w * scores).sum() / (w * labels).sum())


def _offsets_dtype(rows: Tensor) -> torch.dtype:
    return getattr(torch, index_dtype(len(rows)))


class RunningLoss:
    """The mean loss of the last `window` steps."""

    def __init__(self, window: int = 100, losses: Iterable[float] = ()) -> None:
        self.losses = deque(losses, maxlen=window)

    def add(self, loss: float) -> None:
        self.losses.append(loss)

    @property
    def mean(self) -> float:
        return math.fsum(self.losses) / len(self.losses) if self.losses else math.nan
