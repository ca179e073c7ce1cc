"""Where a column lies: a stretch of a tensor that it shares with others.

A wide model has hundreds of columns; to name the place of each costs integers, to view each one a
call. What lies side by side is then taken as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from recis_core.types import index_dtype


class Span(NamedTuple):
    """`count` values of `flat` from `begin` on, in `rows` segments: of `width` values each, or, if
    `bounds` are there, those from bounds[at + r] to bounds[at + r + 1], where bounds[at] is 0.

    Of strings `flat` are the bytes and `words` the boundaries [count + 1] of all of them.
    """

    flat: Tensor
    begin: int
    count: int
    rows: int
    width: int
    bounds: Tensor | None
    at: int
    words: Tensor | None = None

    @property
    def values(self) -> Tensor:
        return self.flat[self.begin : self.begin + self.count]

    @property
    def offsets(self) -> Tensor:
        """[rows + 1] boundaries of the segments; not to be written to."""
        if self.bounds is None:
            return even_offsets(self.rows, self.width, self.flat.device)
        return self.bounds[self.at : self.at + self.rows + 1]

    def lies_on(self, before: Span) -> bool:
        """Whether its boundaries are there and begin where those of `before` end."""
        there = self.bounds is not None and self.bounds is before.bounds
        return there and self.at == before.at + before.rows + 1

    def moved(self, flat: Tensor, begin: int) -> Span:
        """As many values, in segments as long, from `begin` of `flat` on."""
        return Span(flat, begin, self.count, self.rows, self.width, self.bounds, self.at)


def joined(spans: Sequence[Span]) -> Tensor:
    """The values of at least one span end to end; no copy where they lie so."""
    flat, begin = spans[0].flat, spans[0].begin
    end = begin
    parts = []
    for span in spans:
        if span.flat is flat and span.begin == end:
            end += span.count
        elif span.count:
            if end > begin:
                parts.append(flat[begin:end])
            flat, begin = span.flat, span.begin
            end = begin + span.count
    parts.append(flat[begin:end])
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def begins_of(spans: Sequence[Span]) -> list[int]:
    """[spans + 1] where the values of each begin when laid end to end, and their end."""
    return list(accumulate([span.count for span in spans], initial=0))


def rows_offsets(spans: Sequence[Span]) -> Tensor:
    """[spans, rows + 1] the offsets of each, from 0; not to be written to, as often views."""
    bounds, rows = spans[0].bounds, spans[0].rows
    at = spans[0].at
    for i, span in enumerate(spans):
        if span.bounds is not bounds or (bounds is not None and span.at != at + i * (rows + 1)):
            return torch.stack([own.offsets for own in spans])
        if bounds is None and span.width != spans[0].width:
            return torch.stack([own.offsets for own in spans])
    if bounds is None:
        return spans[0].offsets.expand(len(spans), -1)
    size = len(spans) * (rows + 1)
    return bounds[at : at + size].view(len(spans), rows + 1)


@lru_cache(maxsize=64)
def even_offsets(rows: int, width: int, device: torch.device) -> Tensor:
    """Offsets of `rows` segments of `width` values each; shared, so not to be written to.

    Kept, because a wide model asks for the same ones a hundred times a step.
    """
    dtype = getattr(torch, index_dtype(rows * width))
    return (torch.arange(rows + 1, dtype=dtype) * width).to(device)
