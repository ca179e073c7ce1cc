"""Many stretches of a file read into one buffer in few calls, none of which holds Python's lock."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from recis_core.io.error import ColumnError
from recis_core.io.extents import Opened

# Bytes between two stretches that cost less than another call.
GAP = 4096
# The kernel takes 1,024 places a call; a stretch and what lies before it are two.
MOST = 500
# It also reads no more than 2 GiB a call.
LARGEST = 1 << 30


@dataclass(frozen=True)
class Reads:
    """Stretches of `file`: byte `at` and `nbytes` of each in the file, `start` in the buffer."""

    file: Opened
    at: np.ndarray
    nbytes: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class Call:
    """`nbytes` of `file` from byte `at` on, scattered: (first, end) in the buffer of each stretch,
    and the bytes of the file before each that nobody wants."""

    file: Opened
    at: int
    nbytes: int
    stretches: list[tuple[int, int]]
    gaps: list[int]

    def go(self, into: memoryview) -> None:
        """Read; ColumnError if the file ends before."""
        waste = memoryview(bytearray(GAP))
        views = []
        for (first, end), gap in zip(self.stretches, self.gaps, strict=True):
            if gap:
                views.append(waste[:gap])
            views.append(into[first:end])
        if os.preadv(self.file.number, views, self.at) != self.nbytes:
            raise ColumnError(f"{self.file.path}: cannot be read: it has become shorter")


def calls(reads: Reads, share: int) -> tuple[list[Call], list[int], list[np.ndarray]]:
    """`reads` in the order of the file: calls for about `share` bytes each, and what lies alone as
    views of the mapped file with their places in the buffer, which costs less than a call."""
    order = np.argsort(reads.at)
    order = order[reads.nbytes[order] > 0]
    at, nbytes, start = reads.at[order], reads.nbytes[order], reads.start[order]
    ends = at + nbytes
    gaps = np.zeros_like(at)
    gaps[1:] = at[1:] - ends[:-1]
    number = (nbytes.cumsum() - nbytes) // min(share, LARGEST)
    apart = (gaps < 0) | (gaps > GAP) | (np.diff(number, prepend=-1) > 0)
    apart |= np.arange(len(at)) % MOST == 0
    gaps[apart] = 0
    first = np.flatnonzero(apart)
    last = np.append(first[1:], len(at))
    alone = first[last - first == 1]
    views = [
        reads.file.octets[a:b]
        for a, b in zip(at[alone].tolist(), ends[alone].tolist(), strict=True)
    ]
    together = last - first > 1
    stretches = list(zip(start.tolist(), (start + nbytes).tolist(), strict=True))
    before = gaps.tolist()
    found = [
        Call(reads.file, int(at[a]), int(ends[b - 1] - at[a]), stretches[a:b], before[a:b])
        for a, b in zip(first[together].tolist(), last[together].tolist(), strict=True)
    ]
    return found, start[alone].tolist(), views
