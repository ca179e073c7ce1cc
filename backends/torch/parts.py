"""Rows of `Blocks` block by block, since eager ops index one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from recis_core.blocks import Blocks


def parts(blocks: Blocks, rows: Tensor) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """For each block that `rows` name: its number, the lines in it (int64), and which elements of
    `rows` these are, None for all of them. -1 belongs to no part."""
    if not len(rows):
        return
    absent = bool((rows < 0).any())
    if len(blocks.tensors) == 1:
        present = (rows >= 0).nonzero().flatten() if absent else None
        yield 0, (rows if present is None else rows.index_select(0, present)).long(), present
        return
    ordered, order = rows.long().sort()
    block = torch.arange(len(blocks.tensors) + 1, device=rows.device) << blocks.log2_rows
    ends = torch.searchsorted(ordered, block).tolist()
    for number, (start, end) in enumerate(pairwise(ends)):
        if start < end:
            lines = ordered[start:end] - (number << blocks.log2_rows)
            yield number, lines, order[start:end]


def pick(values: Tensor, chosen: Tensor | None) -> Tensor:
    """The chosen elements of `values`, all for None."""
    return values if chosen is None else values.index_select(0, chosen)
