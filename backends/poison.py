"""Poison: content no result has, put into memory that an implementation has to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def fill(tensor: Tensor, other: bool = False) -> Tensor:
    """NaN, True, or the largest number; the `other` pattern differs, as a result may be NaN."""
    if tensor.dtype.is_floating_point:
        return tensor.fill_(torch.finfo(tensor.dtype).max if other else float("nan"))
    if tensor.dtype == torch.bool:
        return tensor.fill_(not other)
    limits = torch.iinfo(tensor.dtype)
    return tensor.fill_(limits.min if other else limits.max)


def poison(*args: Any, **kwargs: Any) -> Tensor:
    """`torch.empty`, filled."""
    return fill(torch.empty(*args, **kwargs))


def other_poison(*args: Any, **kwargs: Any) -> Tensor:
    """`torch.empty`, filled with the other pattern."""
    return fill(torch.empty(*args, **kwargs), other=True)


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Within, torch fills what `torch.empty` returns, also inside implementations."""
    mode = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode, warn_only=warn)
