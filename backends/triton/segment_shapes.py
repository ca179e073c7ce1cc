"""Shapes of the programs that sum segments: elements at once, and where a segment is cut."""

from __future__ import annotations

from typing import Any

import torch

from backends.triton.launch import below, power_of_two
from backends.triton.rows import DTYPES
from backends.triton.tuning import chosen

# A segment longer than four times the mean is cut, within these.
SHORTEST, LONGEST = 128, 1024
# Columns up to which a mean is rounded up.
NARROW = 16


def abreast(at_once: int, n: int, count: int, columns: int) -> int:
    """Values of one segment that are read at once, of the `at_once` of a program: the mean."""
    mean = n // max(count, 1)
    return min(at_once, power_of_two(mean) if columns <= NARROW else below(mean))


def long_of(n: int, count: int) -> int:
    """Values of a piece, and of a segment that is left whole: a power of two."""
    return min(max(SHORTEST, 4 * below(n // max(count, 1))), LONGEST)


def shape_of(
    kind: str, device: torch.device, dim: int, dtype: torch.dtype
) -> tuple[dict[str, Any], int, int]:
    """Constants of a kernel, rows of `dim` elements that a program sums at once, and its warps; by
    what `tuning` has for a kind."""
    columns = power_of_two(dim)
    choice = chosen(kind, columns, device)
    # Twice the elements where they are half as wide, so that as many bytes are in flight.
    at_once = max(choice.tile * 4 // dtype.itemsize // columns, 1)
    return dict(DTYPE=DTYPES[dtype], DIM=dim, COLUMNS=columns), at_once, choice.warps
