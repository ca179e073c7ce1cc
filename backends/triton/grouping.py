"""Values grouped by a key below `distinct`, in order of position: a partition, then sorts.

Keys are cut into buckets of so many keys that most have fewer values than a program sorts in its
registers. group_tiles.py brings the values, four bytes each of {key in the bucket, tag}, to their
buckets, group_pieces.py sorts buckets, or pieces of those that are larger, and puts these together.
Tags grow with position, so what is sorted by {key, tag} is stable.
"""

from __future__ import annotations

from torch import Tensor

from backends.triton.group_pieces import put
from backends.triton.group_plan import Plan
from backends.triton.group_tiles import bucketed


def group(
    plan: Plan,
    keys: Tensor,
    distinct: int,
    starts: Tensor,
    out: Tensor,
    offsets: Tensor | None = None,
    weights: Tensor | None = None,
    carried: Tensor | None = None,
) -> None:
    """out [n]: positions in the stable order of `keys`, or with `offsets` [S+1] the segments in
    which they lie; key u has those from starts[u] up to starts[u + 1]. carried: weights likewise.
    """
    positions = weights is not None or offsets is None
    given = bucketed(plan, keys, offsets, positions)
    put(plan, given, distinct, starts, out, weights, None if weights is None else carried)
