"""Sequences of different lengths laid end to end: where each lies, and which are equally long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Alike:
    """The numbers of the sequences of one `length` > 0."""

    length: int
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Sequences:
    """`lengths` of the sequences on the host, `offsets` [sequences + 1] int32 on the device.

    `most`: the longest there may ever be, 0 where nobody knows.
    """

    lengths: tuple[int, ...]
    offsets: Tensor
    most: int = 0

    @classmethod
    def of(cls, offsets: Tensor, most: int = 0) -> Sequences:
        """From offsets on any device; on a GPU the host waits for them once."""
        return cls(tuple(offsets.diff().tolist()), offsets.int(), most)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def total(self) -> int:
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        return max(self.lengths, default=0)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        return tuple(accumulate(self.lengths, initial=0))

    @cached_property
    def alike(self) -> tuple[Alike, ...]:
        """All but the empty sequences, those of equal length together: one call serves them."""
        found: dict[int, list[int]] = {}
        for number, length in enumerate(self.lengths):
            if length:
                found.setdefault(length, []).append(number)
        return tuple(Alike(length, tuple(numbers)) for length, numbers in found.items())

    @cached_property
    def _order(self) -> tuple[Tensor, Tensor] | None:
        """Elements in order of `alike`, and the way back; None where they already lie so."""
        numbers = [number for alike in self.alike for number in alike.numbers]
        if numbers == sorted(numbers):
            return None
        begins = torch.tensor(self.starts[:-1])[numbers]
        sizes = torch.tensor(self.lengths)[numbers]
        moved = begins - (sizes.cumsum(0) - sizes)
        order = torch.arange(self.total) + moved.repeat_interleave(sizes)
        back = torch.empty_like(order)
        back[order] = torch.arange(self.total)
        return order.to(self.offsets.device), back.to(self.offsets.device)

    def split(self, x: Tensor) -> list[Tensor]:
        """Elements [n, …] -> for each of `alike` [sequences, length, …]; views where possible."""
        if self._order is not None:
            x = x.index_select(0, self._order[0])
        parts = x.split([a.length * len(a.numbers) for a in self.alike])
        return [
            part.unflatten(0, (len(a.numbers), a.length))
            for part, a in zip(parts, self.alike, strict=True)
        ]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of `split`, of at least one part."""
        joined = torch.cat([part.flatten(0, 1) for part in parts])
        return joined if self._order is None else joined.index_select(0, self._order[1])

    def last(self, most: int) -> tuple[Tensor, Tensor]:
        """(positions, next positions): of the last `most` elements that have a successor in their
        sequence, and of that successor; int64 on the device."""
        parts = [
            torch.arange(max(end - 1 - most, begin), max(end - 1, begin))
            for begin, end in pairwise(self.starts)
        ]
        at = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
        at = at.to(self.offsets.device)
        return at, at + 1
