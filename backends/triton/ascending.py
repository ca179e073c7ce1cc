"""Sort the keys of one program in registers.

A bitonic network whose directions are bits of the keys, inverted between stages, so that a step is
the smaller or the larger of a pair: one instruction a key where `tl.sort` compares and selects. It
is straight code, and what costs is fetching it: few keys a thread keep it short.
"""

from __future__ import annotations

import triton
import triton.language as tl

from backends.triton.launch import INTERPRETED

STEPWISE = tl.constexpr(INTERPRETED)
LAST = tl.constexpr(0xFFFFFFFF)


@triton.jit
def _bit(log_size: tl.constexpr, at: tl.constexpr):
    """Bit `at` of the index, along its axis of the hypercube."""
    return tl.reshape(tl.arange(0, 2), [1] * (log_size - 1 - at) + [2] + [1] * at) == 1


@triton.jit
def _exchange(keys, log_size: tl.constexpr, at: tl.constexpr):
    # One reduction a step: the sum's other half is the partner, which the compiler sees.
    partner = tl.sum(keys, log_size - 1 - at, keep_dims=True) - keys
    larger, smaller = tl.maximum(keys, partner), tl.minimum(keys, partner)
    return tl.where(_bit(log_size, at), larger, smaller)


@triton.jit
def _by_network(keys, log_size: tl.constexpr):
    cube = tl.reshape(keys, [2] * log_size)
    for stage in tl.static_range(1, log_size + 1):
        if stage < log_size:
            cube ^= tl.where(_bit(log_size, stage), LAST, 0).to(tl.uint32)
        for step in tl.static_range(stage):
            cube = _exchange(cube, log_size, stage - 1 - step)
        if stage < log_size:
            cube ^= tl.where(_bit(log_size, stage), LAST, 0).to(tl.uint32)
    return tl.reshape(cube, [2**log_size])


@triton.jit
def _by_rank(keys, size: tl.constexpr):
    i = tl.arange(0, size)
    before = (keys[None, :] < keys[:, None]) | (
        (keys[None, :] == keys[:, None]) & (i[None, :] < i[:, None])
    )
    rank = tl.sum(before.to(tl.int32), 1)
    return tl.max(tl.where(rank[:, None] == i[None, :], keys[:, None], 0), 0)


@triton.jit
def ascending(keys, log_size: tl.constexpr):
    """uint32 keys [2^log_size] in ascending order."""
    # The interpreter takes a millisecond a step.
    if STEPWISE:
        result = _by_rank(keys, 2**log_size)
    else:
        result = _by_network(keys, log_size)
    return result
