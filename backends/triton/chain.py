"""Kernels of one call whose launches overlap: programmatic dependent launch, Hopper and later.

A kernel that follows may start before the one before has ended, and waits for that before it does
anything. Every kernel of a chain but the first does so: then all before it have ended.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

ALONE, LEADS, FOLLOWS = 0, 1, 2


@cache
def chain(device: torch.device) -> tuple[int, int]:
    """CHAIN of a call's first kernel and of those after it."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0):
        return LEADS, FOLLOWS
    return ALONE, ALONE


@triton.jit
def linked(CHAIN: tl.constexpr):
    """First in a kernel: let the next one start, wait for the one before."""
    if CHAIN > 0:
        gdc_launch_dependents()
    if CHAIN > 1:
        gdc_wait()
