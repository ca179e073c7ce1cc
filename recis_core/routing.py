"""Which distinct (table, id) pairs a batch needs, which rank owns each, and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from recis_core.kernels import Kernels
from recis_core.readback import Readback


class Exchange(Protocol):
    """Moves what lies in order of destination to the ranks it is for."""

    world: int

    def counts(self, sent: Tensor) -> Tensor:
        """How many rows this rank will get from each rank, when it sends `sent` [world] of them."""
        ...

    def send(self, rows: Tensor, sent: Tensor, received: Tensor) -> Tensor:
        """rows [Σ sent, …] in order of destination -> [Σ received, …] in order of source."""
        ...


class Local:
    """The exchange of a single rank: everything is already where it belongs."""

    world = 1

    def counts(self, sent: Tensor) -> Tensor:
        return sent

    def send(self, rows: Tensor, sent: Tensor, received: Tensor) -> Tensor:
        return rows


@dataclass(frozen=True)
class Route:
    """The distinct pairs of a batch, owner by owner.

    ids [U] int64, tables [U] int32; sent, received [world]: pairs asked of, and answered for, each
    rank; inverse [n]: which distinct pair each packed value is.
    """

    ids: Tensor
    tables: Tensor
    sent: Tensor
    received: Tensor
    inverse: Tensor

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Asking:
    """A group's packed ids: column f, ids[splits[f]:splits[f+1]], belongs to tables[f]."""

    ids: Tensor
    splits: Tensor
    tables: Tensor
    salts: Tensor


def routes(kernels: Kernels, exchange: Exchange, asking: Sequence[Asking]) -> Iterator[Route]:
    """Deduplicate the packed ids of each group; all are launched when the first is asked for, and
    each waits for its own count alone."""
    parted = []
    for a in asking:
        own = kernels.ids_partition(a.ids, a.splits, a.tables, a.salts, exchange.world)
        parted.append((own, Readback([own[2]])))
    for (unique, of, sent, inverse), counts in parted:
        distinct = sum(counts.counts())
        yield Route(unique[:distinct], of[:distinct], sent, exchange.counts(sent), inverse)
