"""auc_grouped: one sort of (group, score, label) packed into int64, then sums over equal scores."""

from __future__ import annotations

import torch
from torch import Tensor


def auc_grouped(labels: Tensor, scores: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Up to 2^30 groups: the key has 30 bits for them, 32 for the score and 1 for the label."""
    groups, n = len(offsets) - 1, len(labels)
    # Adding 0 makes -0 equal 0.
    bits = (scores.float() + 0.0).view(torch.int32)
    # The order of floats is that of their bits, the lower 31 inverted where negative.
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = ordered.long().add_(1 << 31).mul_(2).add_(labels > 0.5)
    if groups > 1:
        group = torch.arange(groups, device=key.device) << 33
        key += group.repeat_interleave(offsets.diff(), output_size=n)
    key = key.sort()[0]
    # Cumulative positives and values up to the end of each run of equal (group, score).
    positive = (key & 1).cumsum(0)
    score = key >> 1
    last = torch.ones(n, dtype=torch.bool, device=key.device)
    torch.ne(score[1:], score[:-1], out=last[:-1])
    end = last.nonzero().flatten()
    p = leading_zero(positive.index_select(0, end))
    below = leading_zero(end + 1) - p
    # Twice the wins of a run's positives: over all negatives below them, half of those beside.
    wins = leading_zero((p.diff() * (below[1:] + below[:-1])).cumsum(0))
    run = torch.searchsorted(end, offsets.long())
    positives, lower = p.index_select(0, run), below.index_select(0, run)
    pos, neg = positives.diff(), lower.diff()
    won = wins.index_select(0, run).diff() - 2 * lower[:-1] * pos
    return won.double() / (2.0 * pos * neg), pos


def leading_zero(x: Tensor) -> Tensor:
    return torch.cat([x.new_zeros(1), x])
