"""rows_norm: float32 norms of runs of 256 elements, their norm in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

RUN = 256


def rows_norm(values: Tensor) -> Tensor:
    flat = values.view(-1)
    whole = len(flat) // RUN * RUN
    runs = vector_norm(flat[:whole].view(-1, RUN), dim=1, dtype=torch.float32)
    return vector_norm(torch.cat([runs.double(), flat[whole:].double()])).reshape(1)
