"""How far losses part by rounding alone: a contender trained once more, every result disturbed.

Two right implementations round differently, and training carries that on: after some steps their
losses differ by more than one step's tolerance, and by how much depends on the workload. So it is
measured: a twin of the first contender, whose results are off by what rounding may make of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.kernels import Kernels, every_op
from recis_core.spec import Op
from recis_core.tolerance import EXACT, LOSS
from roofline.rounding import ROUNDINGS

# Times the twin's distance: both sides of a comparison are off, and one twin is one draw.
DISTANCES = 4
DRAWN = 1 << 20


def disturbed(kernels: Kernels, seed: int = 0) -> Kernels:
    """`kernels` with each float they are given and each they return off by up to ROUNDINGS of
    itself: terms before they are added up, as a sum that cancels errs by its terms' rounding.
    Ops that must be exact stay so."""
    noise = Noise(kernels.device, seed)
    bound: dict[str, Any] = {}
    for op in every_op():
        call = getattr(kernels, op.name)
        exact = op.machine or op.tolerance is EXACT
        bound[op.name] = call if exact else _disturbed(op, call, noise)
    return Kernels(kernels.name, bound, kernels.origins, kernels.device)


def _disturbed(op: Op[..., Any], call: Callable[..., Any], noise: Noise) -> Any:
    floats = [p.kind == "Values" for p in op.params]

    def wrong(*args: Any) -> Any:
        given = [off(a, noise) if f else a for a, f in zip(args, floats, strict=True)]
        returned = call(*given)
        if isinstance(returned, tuple):
            return tuple(off(each, noise) for each in returned)
        return off(returned, noise)

    return wrong


class Noise:
    """Factors 1 ± ROUNDINGS, drawn once: a stretch of them for each tensor, from a new place."""

    def __init__(self, device: torch.device | str, seed: int) -> None:
        drawn = torch.Generator(torch.device(device)).manual_seed(seed)
        each = torch.rand(DRAWN, generator=drawn, device=device, dtype=torch.float64)
        self.factors = (1 + (2 * each - 1) * ROUNDINGS).float().repeat(2)
        self.place = 0

    def stretch(self, count: int) -> Tensor:
        self.place = (self.place + 7919 * count + 1) % DRAWN
        most = self.factors.repeat(-(-count // DRAWN)) if count > DRAWN else self.factors
        return most[self.place : self.place + count]


def off(value: Any, noise: Noise) -> Any:
    """A float tensor times 1 ± ROUNDINGS, by chance; anything else as it is."""
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        return value
    return value * noise.stretch(value.numel()).view(value.shape).to(value.dtype)


def shake(parameters: Sequence[Tensor], noise: Noise) -> None:
    """Dense parameters are off likewise: their products add up in another order."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(off(parameter, noise))


def reach(losses: Sequence[float], twin: Sequence[float]) -> np.ndarray:
    """Per step, how far a right contender's loss may lie from the first one's: the tolerance of
    one step, and DISTANCES times as far as the twin has been away until then."""
    first, other = (np.array(each, np.float64) for each in (losses, twin))
    rtol, atol = LOSS.by_dtype["float32"]
    away = np.maximum.accumulate(np.abs(other - first))
    return atol + rtol * np.abs(first) + DISTANCES * away
