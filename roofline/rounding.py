"""Rounding of float32 sums and updates at bench sizes, where terms are many and may cancel.

A declared tolerance is for small cases. Where a result is the small rest of large terms, its error
is still that of the terms: adding n of them one by one in float32 errs by about n·u·(their size),
u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 4.2), however small the sum. A
result that is made from such a sum errs by as much as it moves when the sum moves by its error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recis_core.ops.rows_reduce_sgd import summed
from recis_core.spec import Args, Op
from recis_core.tolerance import SUMMED, Disagreement, Tolerance
from recis_core.types import Slots

# Roundings of one term's size that are allowed: the chain behind a term, and bad luck in millions.
ROUNDINGS = 16 * 2.0**-24
# Arguments from which `summed` makes the gradient of a row, in its order.
REDUCED = ("grad", "scale", "starts", "segments", "weights")
Sizes = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Rounding(Tolerance):
    """The declared tolerance, or what `allowed` says beside it: by name, the absolute error that
    rounding explains. It is asked only if the declared tolerance is not met."""

    allowed: Callable[[], Sizes] = dict

    def check(self, name: str, got: np.ndarray, want: np.ndarray, dtype: str) -> None:
        try:
            super().check(name, got, want, dtype)
        except Disagreement:
            if dtype != "float32":
                raise
            more = self.allowed().get(name)
            if more is None or not more.shape == want.shape == got.shape:
                raise
            rtol, atol = self.by_dtype.get(dtype, (0.0, 0.0))
            with np.errstate(invalid="ignore"):
                near = np.abs(got - want) <= atol + rtol * np.abs(want) + more
            # A NaN is never near.
            if not (near | (got == want)).all():
                raise


def of_sums(op: Op[..., Any], args: Args, names: Sequence[str]) -> Sizes:
    """For outputs that are sums: the roundings of the same sums of the terms' sizes."""
    if op.tolerance is not SUMMED:
        return {}
    returned = op.reference(*map(size_of, args.values()))
    sizes = returned if isinstance(returned, tuple) else (returned,)
    return {n: ROUNDINGS * np.asarray(s) for n, s in zip(names, sizes, strict=True)}


def of_rows(op: Op[..., Any], args: Args, before: Slots, want: Slots) -> Sizes:
    """For slots that are updated: roundings of what stood there, and, where the gradient is summed
    on the way, how far the update moves when that sum moves by the rounding of its terms.

    args: as the reference gets them, "blocks" apart; before, want: the slots around its call.
    """
    moved = {name: ROUNDINGS * np.abs(content) for name, content in before.items()}
    if all(name in args for name in REDUCED):
        for nudged in nudges(args):
            blocks = Slots({n: a.copy() for n, a in before.items()}, before.fill)
            op.reference(*(nudged | {"blocks": blocks}).values())
            for name, content in blocks.items():
                apart = ROUNDINGS * np.abs(before[name]) + np.abs(content - want[name])
                moved[name] = np.maximum(moved[name], apart)
    return {f"slot {name!r}": size for name, size in moved.items()}


def nudges(args: Args) -> Iterator[Args]:
    """The arguments with one term more in each row's sum: its rounding, away from zero and back."""
    grad, scale, starts, segments, weights = (args[name] for name in REDUCED)
    signs = np.where(summed(grad, scale, starts, segments, weights) < 0, -1.0, 1.0)
    sizes = summed(size_of(grad), size_of(scale), starts, segments, size_of(weights))
    ends, rows = starts[1:], len(starts) - 1
    own = {
        "segments": np.insert(segments, ends, len(grad) + np.arange(rows)),
        "starts": starts + np.arange(rows + 1),
        "weights": None if weights is None else np.insert(weights, ends, 1),
        "scale": None if scale is None else np.concatenate([scale, np.ones(rows)]),
    }
    for way in (1, -1):
        yield args | own | {"grad": np.concatenate([grad, way * ROUNDINGS * signs * sizes])}


def size_of(value: Any) -> Any:
    """Floats without their signs, in arrays and in tables."""
    if isinstance(value, Slots):
        return Slots({name: np.abs(a) for name, a in value.items()}, value.fill)
    return np.abs(value) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
