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


def disturbed(kernels: Kernels, seed: int = 0) -> Kernels:
    """`kernels` with each float result, and each gradient that updates rows, off by up to
    ROUNDINGS of itself; ops that must be exact stay so."""
    noise = torch.Generator(torch.device(kernels.device)).manual_seed(seed)
    bound: dict[str, Any] = {}
    for op in every_op():
        call = getattr(kernels, op.name)
        exact = op.machine or op.tolerance is EXACT
        bound[op.name] = call if exact else _disturbed(op, call, noise)
    return Kernels(kernels.name, bound, kernels.origins, kernels.device)


def _disturbed(op: Op[..., Any], call: Callable[..., Any], noise: torch.Generator) -> Any:
    grads = [i for i, p in enumerate(op.params) if p.name == "grad" and op.mutates]

    def wrong(*args: Any) -> Any:
        given = [off(a, noise) if i in grads else a for i, a in enumerate(args)]
        returned = call(*given)
        if isinstance(returned, tuple):
            return tuple(off(each, noise) for each in returned)
        return off(returned, noise)

    return wrong


def off(value: Any, noise: torch.Generator) -> Any:
    """A float tensor times 1 ± ROUNDINGS, by chance; anything else as it is."""
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        return value
    drawn = torch.rand(value.shape, generator=noise, device=value.device, dtype=value.dtype)
    return value * (1 + (2 * drawn - 1) * ROUNDINGS)


def shake(parameters: Sequence[Tensor], noise: torch.Generator) -> None:
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
