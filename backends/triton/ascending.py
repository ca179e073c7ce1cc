"""Sort the keys of one program in registers.

A bitonic network whose directions are bits of the keys, inverted between stages, so that a step is
the smaller and the larger of a pair: one instruction a key, and a shuffle where the pair lies in
two lanes. `tl.sort` compares and selects, and leaves a thread's keys far apart: 1.5 times as much.
"""

from __future__ import annotations

import triton
import triton.language as tl

from backends.triton.launch import INTERPRETED

STEPWISE = tl.constexpr(INTERPRETED)
LAST = tl.constexpr(0xFFFFFFFF)
LANES = tl.constexpr(32)


@triton.jit
def _bit(log_size: tl.constexpr, at: tl.constexpr):
    """Bit `at` of the index, along its axis of the hypercube."""
    return tl.reshape(tl.arange(0, 2), [1] * (log_size - 1 - at) + [2] + [1] * at) == 1


@triton.jit
def _exchange(keys, log_size: tl.constexpr, at: tl.constexpr):
    axis: tl.constexpr = log_size - 1 - at
    smaller, larger = tl.min(keys, axis, keep_dims=True), tl.max(keys, axis, keep_dims=True)
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
    if STEPWISE:  # noqa: SIM108
        # A branch, where an expression would be a choice of one of both.
        result = _by_rank(keys, 2**log_size)
    else:
        result = _by_network(keys, log_size)
    return result


@triton.jit
def dealt(size: tl.constexpr):
    """int32 [size / 32, 32]: places of keys to load, lanes side by side; `gathered` of what was
    loaded has a thread's keys side by side, as most steps of the network then want no shuffle."""
    across = tl.arange(0, size // LANES)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    # Wider accesses would give a thread places that are not LANES apart.
    return tl.max_contiguous(across, [1, 1])


@triton.jit
def gathered(keys, size: tl.constexpr):
    return tl.reshape(tl.trans(keys), [size])
