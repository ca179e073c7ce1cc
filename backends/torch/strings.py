"""Ragged bytes read by words: 64-bit words at any byte of many strings at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Strings:
    """`text`: all bytes as overlapping rows of 8, [bytes + 1, 8] with stride 1, zeros past the
    end; `starts`, `lengths` int64 [n]."""

    text: Tensor
    starts: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, data: Tensor, offsets: Tensor) -> Strings:
        padded = torch.cat([data, data.new_zeros(8)])
        text = padded.as_strided((len(data) + 1, 8), (1, 1))
        offsets = offsets.long()
        return cls(text, offsets[:-1], offsets.diff())

    def take(self, chosen: Tensor) -> Strings:
        starts, lengths = (x.index_select(0, chosen) for x in (self.starts, self.lengths))
        return Strings(self.text, starts, lengths)

    def word(self, at: int | Tensor, first: int | None = None) -> Tensor:
        """int64: the 8 bytes from byte `at` of each of the `first` strings."""
        return self.text.index_select(0, self.starts[:first] + at).view(torch.int64).flatten()

    def lasting(self, steps: Tensor) -> Iterator[int]:
        """For descending `steps`: how many are above 0, above 1, ... while any is."""
        if len(steps):
            above = torch.bincount(steps).flip(0).cumsum(0).flip(0)
            yield from above[1:].tolist()
