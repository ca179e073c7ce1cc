"""Rounding of float32 sums and updates at bench sizes, where terms are many and may cancel.

A declared tolerance is for small cases. Where a result is the small rest of large terms, its error
is still that of the terms: adding n of them one by one in float32 errs by about n·u·(their size),
u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 4.2), however small the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recis_core.tolerance import Disagreement, Tolerance

# Roundings of one term's size that are allowed: the chain behind a term, and bad luck in millions.
ROUNDINGS = 16 * 2.0**-24


@dataclass(frozen=True)
class Rounding(Tolerance):
    """The declared tolerance, or ROUNDINGS of `terms`: by name, the size of what was added up."""

    terms: Mapping[str, np.ndarray] | None = None

    def check(self, name: str, got: np.ndarray, want: np.ndarray, dtype: str) -> None:
        try:
            super().check(name, got, want, dtype)
        except Disagreement:
            terms = (self.terms or {}).get(name)
            if dtype != "float32" or terms is None or not terms.shape == want.shape == got.shape:
                raise
            rtol, atol = self.by_dtype.get(dtype, (0.0, 0.0))
            with np.errstate(invalid="ignore"):
                near = np.abs(got - want) <= atol + rtol * np.abs(want) + ROUNDINGS * terms
            # A NaN is never near.
            if not (near | (got == want)).all():
                raise
