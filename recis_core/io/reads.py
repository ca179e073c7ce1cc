"""Many stretches of a file read into one buffer in few calls, none of which holds Python's lock."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

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
    """`nbytes` of `file` from byte `at` on, scattered: `first` byte in the buffer and `size` of
    every stretch, and the bytes of the file before each that nobody wants."""

    file: Opened
    at: int
    nbytes: int
    first: np.ndarray
    size: np.ndarray
    gaps: np.ndarray

    def go(self, into: np.ndarray) -> None:
        """Read; ColumnError if the file ends before."""
        waste = np.empty(GAP, np.uint8)
        # An address and a size of each place, as the kernel takes them.
        places = np.empty((len(self.first), 2, 2), np.int64)
        places[:, 0, 0], places[:, 0, 1] = waste.ctypes.data, self.gaps
        places[:, 1, 0], places[:, 1, 1] = self.first + into.ctypes.data, self.size
        places = places.reshape(-1, 2)
        places = np.ascontiguousarray(places[places[:, 1] > 0])
        path = self.file.path
        done = preadv()(self.file.number, places.ctypes.data, len(places), self.at)
        if done < 0:
            why = os.strerror(ctypes.get_errno())
            raise ColumnError(f"{path}: bytes {self.at} to {self.at + self.nbytes}: {why}")
        if done != self.nbytes:
            raise ColumnError(f"{path}: cannot be read: it has become shorter")


@cache
def preadv() -> Any:
    """The C library's own, which takes addresses: a thousand Python objects a batch less."""
    function = ctypes.CDLL(None, use_errno=True).preadv
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
    function.restype = ctypes.c_ssize_t
    return function


def calls(reads: Reads, share: int) -> tuple[list[Call], list[int], list[np.ndarray]]:
    """`reads` in the order of the file: calls for about `share` bytes each, and what lies alone as
    views of the mapped file with their places in the buffer, which costs less than a call."""
    order = np.argsort(reads.at)
    order = order[reads.nbytes[order] > 0]
    at, nbytes, start = reads.at[order], reads.nbytes[order], reads.start[order]
    ends = at + nbytes
    if (reads.nbytes < 0).any() or ends.max(initial=0) > len(reads.file.data):
        raise ColumnError(f"{reads.file.path}: has changed since it was opened")
    gaps = np.zeros_like(at)
    gaps[1:] = at[1:] - ends[:-1]
    number = (nbytes.cumsum() - nbytes) // min(share, LARGEST)
    apart = (gaps < 0) | (gaps > GAP) | (np.diff(number, prepend=-1) > 0)
    apart |= np.arange(len(at)) % MOST == 0
    gaps[apart] = 0
    first = np.flatnonzero(apart)
    last = np.append(first[1:], len(at))
    alone = first[last - first == 1]
    places = zip(at[alone].tolist(), ends[alone].tolist(), strict=True)
    views = [reads.file.octets[a:b] for a, b in places]
    together = last - first > 1
    found = [
        Call(reads.file, int(at[a]), int(ends[b - 1] - at[a]), start[a:b], nbytes[a:b], gaps[a:b])
        for a, b in zip(first[together].tolist(), last[together].tolist(), strict=True)
    ]
    return found, start[alone].tolist(), views
