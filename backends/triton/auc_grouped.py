"""auc_grouped: torch's sort of (group, score, label), then sums of wins by binary search.

Twice a positive's wins are an integer, so running sums are exact.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.search import columns_of, lower_bound, steps_for

USES = ("torch.sort", "torch.cumsum")
BLOCK = 512 * WIDEN


@triton.jit(do_not_specialize=["groups", "n"])
def _keys(labels, scores, offsets, keys, groups, n, BLOCK: tl.constexpr):
    """Ascending by group, score, label; up to 2^30 groups."""
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    i = begin + tl.arange(0, BLOCK)
    group = columns_of(offsets, groups, begin, tl.minimum(begin + BLOCK, n), i)
    # Adding 0 makes -0 equal 0; the order of floats is that of their bits, the lower 31 inverted
    # where negative.
    score = tl.load(scores + i, mask=i < n, other=0).to(tl.float32) + 0.0
    bits = score.to(tl.int32, bitcast=True)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64) + (1 << 31)
    label = (tl.load(labels + i, mask=i < n, other=0).to(tl.float32) > 0.5).to(tl.int64)
    tl.store(keys + i, (group << 33) + ordered * 2 + label, mask=i < n)


@triton.jit(do_not_specialize=["n", "steps"])
def _wins(keys, positives, offsets, wins, n, steps, BLOCK: tl.constexpr):
    """wins[i] = twice how many negatives of its group the positive i scores above, ties ½.

    positives[i]: how many of the values up to and including i are positive.
    """
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(keys + i, mask=i < n, other=0)
    positive = (i < n) & ((key & 1) == 1)
    group = key >> 33
    begin = tl.load(offsets + group, mask=positive, other=0).to(tl.int64)
    end = tl.load(offsets + group + 1, mask=positive, other=0).to(tl.int64)
    # Negatives of a score come before its positives.
    tied = lower_bound(keys, begin, end, key - 1, positive, steps)
    level = lower_bound(keys, begin, end, key, positive, steps)
    p = tl.load(positives + tied - 1, mask=positive & (tied > 0), other=0)
    before = tl.load(positives + begin - 1, mask=positive & (begin > 0), other=0)
    lower = (tied - p) - (begin - before)
    tl.store(wins + i, tl.where(positive, 2 * lower + (level - tied), 0), mask=i < n)


@triton.jit(do_not_specialize=["groups"])
def _divide(positives, wins, offsets, auc, counts, groups, BLOCK: tl.constexpr):
    g = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    begin = tl.load(offsets + g, mask=g < groups, other=0).to(tl.int64)
    end = tl.load(offsets + g + 1, mask=g < groups, other=0).to(tl.int64)
    first, last = (g < groups) & (begin > 0), (g < groups) & (end > 0)
    won = tl.load(positives + end - 1, mask=last, other=0)
    won -= tl.load(positives + begin - 1, mask=first, other=0)
    twice = tl.load(wins + end - 1, mask=last, other=0)
    twice -= tl.load(wins + begin - 1, mask=first, other=0)
    pairs = won.to(tl.float64) * (end - begin - won).to(tl.float64)
    # Without a pair this is 0 / 0.
    tl.store(auc + g, twice.to(tl.float64) / (2.0 * pairs), mask=g < groups)
    tl.store(counts + g, won, mask=g < groups)


def auc_grouped(
    labels: Tensor, scores: Tensor, offsets: Tensor, auc: Tensor, positives: Tensor
) -> None:
    n, groups = len(labels), len(offsets) - 1
    keys = torch.empty(n, dtype=torch.int64, device=labels.device)
    programs = cover(n, BLOCK)
    launch(_keys, programs, labels, scores, offsets, keys, groups, n, BLOCK=BLOCK)
    keys = keys.sort()[0]
    running = (keys & 1).cumsum(0)
    wins = torch.empty_like(keys)
    launch(_wins, programs, keys, running, offsets, wins, n, steps_for(n), BLOCK=BLOCK)
    launch(
        _divide, cover(groups, BLOCK), running, wins.cumsum(0), offsets, auc, positives, groups,
        BLOCK=BLOCK,
    )  # fmt: skip
