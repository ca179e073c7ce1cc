"""How close is close: the only place in the project where a tolerance is a number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class Disagreement(AssertionError):  # noqa: N818
    """An implementation's result is not what the declaration says it is."""


@dataclass(frozen=True)
class Tolerance:
    """(relative, absolute) error allowed per declared dtype; other dtypes must be equal."""

    by_dtype: dict[str, tuple[float, float]]

    def check(self, name: str, got: np.ndarray, want: np.ndarray, dtype: str) -> None:
        """Raise Disagreement unless `got` is as close to `want` as a result in `dtype` can be."""
        if got.shape != want.shape:
            raise Disagreement(f"{name}: shape {got.shape}, expected {want.shape}")
        rtol, atol = self.by_dtype.get(dtype, (0.0, 0.0))
        # Integers beyond 2^53 do not survive a float comparison.
        if got.dtype.kind in "iub":
            wrong = got != want
        else:
            with np.errstate(invalid="ignore"):
                # Not ">": beside an infinite or NaN `want` the bound is no number, and nothing
                # but the same infinity or NaN is close.
                close = np.abs(got - want) <= atol + rtol * np.abs(want)
            finite = np.isfinite(want)
            alike = (got == want) | (np.isnan(got) & np.isnan(want))
            wrong = ~(alike | (close & finite))
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise Disagreement(
                f"{name}: {int(wrong.sum())} of {wrong.size} elements wrong, first at {at}: "
                f"{got[at]!r}, expected {want[at]!r} (rtol {rtol:g}, atol {atol:g})"
            )


EXACT = Tolerance({})
# One rounding, or a short chain of them.
ROUNDED = Tolerance(
    {
        "float64": (1e-12, 0),
        "float32": (2e-6, 1e-7),
        "float16": (2e-3, 1e-4),
        "bfloat16": (1.6e-2, 1e-3),
    }
)
# Sums of up to some thousand terms of order one, accumulated in float32.
SUMMED = Tolerance(
    {
        "float64": (1e-10, 0),
        "float32": (1e-5, 2e-5),
        "float16": (2e-3, 2e-3),
        "bfloat16": (1.6e-2, 1e-2),
    }
)
# Two implementations of one training step, in the loss.
LOSS = Tolerance({"float32": (2e-5, 1e-6)})
# Relative error of a beta's power, kept as a running product, beside the power of a whole step.
POWER = 1e-9
