"""Sequences of different lengths laid end to end: where each lies, and which are equally long."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Alike:
    """Sequences of one `length` > 0: their numbers, and their elements in order.

    `begin`: the first element where the sequences follow each other without a gap, else None and
    `index` [number · length] names the elements.
    """

    length: int
    numbers: tuple[int, ...]
    begin: int | None
    index: Tensor | None

    def take(self, x: Tensor) -> Tensor:
        """Elements [n, …] -> [sequences, length, …]; a view where they follow each other."""
        if self.begin is not None:
            part = x[self.begin : self.begin + len(self.numbers) * self.length]
        else:
            assert self.index is not None
            part = x.index_select(0, self.index)
        return part.unflatten(0, (len(self.numbers), self.length))


@dataclass(frozen=True)
class Sequences:
    """`lengths` of the sequences on the host, `offsets` [sequences + 1] int32 on the device."""

    lengths: tuple[int, ...]
    offsets: Tensor

    @classmethod
    def of(cls, offsets: Tensor) -> Sequences:
        """From offsets on any device; on a GPU the host waits for them once."""
        return cls(tuple(offsets.diff().tolist()), offsets.int())

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
        starts = [0]
        for length in self.lengths:
            starts.append(starts[-1] + length)
        return tuple(starts)

    @cached_property
    def alike(self) -> tuple[Alike, ...]:
        """All but the empty sequences, those of equal length together: one call serves them."""
        by_length: dict[int, list[int]] = {}
        for number, length in enumerate(self.lengths):
            if length:
                by_length.setdefault(length, []).append(number)
        return tuple(self._alike(n, numbers) for n, numbers in by_length.items())

    def _alike(self, length: int, numbers: list[int]) -> Alike:
        begins = [self.starts[number] for number in numbers]
        if all(b - a == length for a, b in pairwise(begins)):
            return Alike(length, tuple(numbers), begins[0], None)
        index = torch.tensor(begins)[:, None] + torch.arange(length)
        return Alike(length, tuple(numbers), None, index.reshape(-1).to(self.offsets.device))

    @cached_property
    def order(self) -> Tensor | None:
        """Where the elements of `alike`, laid end to end, belong; None where they lie there."""
        if len(self.alike) < 2 and all(a.begin is not None for a in self.alike):
            return None
        if all(len(a.numbers) == 1 for a in self.alike):
            return None  # one by one, so in order
        parts = [
            a.index if a.index is not None else self._range(a.begin or 0, a) for a in self.alike
        ]
        where = torch.empty(self.total, dtype=torch.int64, device=self.offsets.device)
        where[torch.cat(parts)] = torch.arange(self.total, device=self.offsets.device)
        return where

    def _range(self, begin: int, alike: Alike) -> Tensor:
        size = len(alike.numbers) * alike.length
        return torch.arange(begin, begin + size, device=self.offsets.device)

    def put(self, parts: list[Tensor], like: Tensor) -> Tensor:
        """[sequences, length, …] of each of `alike` -> elements [n, …]; `like` where none is."""
        if not parts:
            return like
        flat = [part.flatten(0, 1) for part in parts]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat)
        return joined if self.order is None else joined.index_select(0, self.order)

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
