"""rows_reduce_adamw: the rule of rows_adamw, gradients summed where they lie."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.moments import moments
from backends.cupy.reduction import reduce, reducing
from backends.cupy.rows_adamw import TEXT
from recis_core.blocks import Blocks

RATED = reducing("rows_reduce_adamw rated", "#define RATED 1\n" + TEXT)
PLAIN = reducing("rows_reduce_adamw plain", "#define RATED 0\n" + TEXT)


def rows_reduce_adamw(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    starts: Tensor,
    segments: Tensor,
    weights: Tensor | None,
    rate: Tensor | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    power1: float,
    power2: float,
    form: str,
) -> None:
    leaves = grad, scale, starts, segments, weights
    plain = form == "tensorflow"
    decay = decay if plain else lr * decay
    scalars = (*moments(lr, beta1, beta2, eps, power1, power2, form), decay)
    source = PLAIN if plain else RATED
    reduce(source, blocks, rows, leaves, rate, ("weight", "mean", "square"), scalars)
