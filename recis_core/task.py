"""What a model is trained for: which columns hold the label, the weight and the group."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A binary label to predict.

    `label`: dense column of width 1, values in [0, 1]. `weight`: dense column of width 1, sample
    weights >= 0, or None. `group`: dense ids column of width 1, or None: grouped AUC is over it.
    """

    label: str
    weight: str | None = None
    group: str | None = None
