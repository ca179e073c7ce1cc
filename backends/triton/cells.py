"""Cells of the id map: 16 bytes {id, table, row}, and probing for a pair.

A cell's second word holds the table with its sign bit set (0 where the cell was never taken) and
above it the row (-1 once erased). The sign bit alone claims a cell, by an atomic or: a pair that is
inserted was looked for before, so claiming never has to compare. Where a whole cell can be swapped,
one launch looks and takes: a cell then never shows a pair that is not its own.
"""

from __future__ import annotations

import triton
import triton.language as tl

from backends.triton.mixing import GOLDEN, mix64
from backends.triton.swap import read_cell, take_cell

SIGN = tl.constexpr(-(1 << 31))
LOW = tl.constexpr((1 << 32) - 1)


@triton.jit
def word_of(table, row):
    """The second word of a cell: int64 of table and row, both int64."""
    return ((table | (1 << 31)) & LOW) | (row << 32)


@triton.jit
def home_of(table, pair, mask):
    """The first cell to look at: one where a sector of 32 bytes begins, as two cells share one."""
    hashed = mix64(pair.to(tl.uint64) ^ mix64(table.to(tl.uint64) + GOLDEN)) >> 8
    return (hashed & (mask - 1)).to(tl.int64)


@triton.jit
def cell_of(cells, at, live):
    """Both words of the cells `at`."""
    # Two loads of one sector: a tile [n, 2] and `split` cost a trip through shared memory.
    first = tl.load(cells + at * 2, mask=live, other=0)
    return first, tl.load(cells + at * 2 + 1, mask=live, other=0)


@triton.jit
def find_pairs(cells, mask, table, pair, live):
    """int64 cell and row of each pair; row -1 where it is absent."""
    at = home_of(table, pair, mask)
    place, row = at, tl.zeros_like(at) - 1
    key = word_of(table, tl.zeros_like(at))
    active = live
    while tl.max(active.to(tl.int32)) > 0:
        first, second = cell_of(cells, at, active)
        hit = active & (first == pair) & ((second & LOW) == key) & (second >= 0)
        row = tl.where(hit, second >> 32, row)
        place = tl.where(hit, at, place)
        active = active & (hit == 0) & (second != 0)
        at = (at + 1) & mask
    return place, row


@triton.jit
def claim_pairs(cells, mask, table, pair, row, live):
    """Write pairs that no cell holds; the first free cell from home on is theirs."""
    at = home_of(table, pair, mask)
    words = cells.to(tl.pointer_type(tl.int32))
    place, active = at, live
    while tl.max(active.to(tl.int32)) > 0:
        word = words + at * 4 + 2
        sign = tl.zeros_like(at).to(tl.int32) + SIGN
        # Without a look first: most cells are free, and in one that is not the bit is set already.
        taken = tl.atomic_or(word, sign, mask=active, sem="relaxed")
        won = active & (taken == 0)
        place = tl.where(won, at, place)
        active = active & (won == 0)
        at = (at + 1) & mask
    tl.store(cells + place * 2, pair, mask=live)
    tl.store(cells + place * 2 + 1, word_of(table, row), mask=live)


@triton.jit
def look_up(cells, mask, table, pair, live):
    """int64 cell that holds each pair, or the free one that shows it absent; row -1 if so. Others
    may take cells meanwhile."""
    at = home_of(table, pair, mask)
    row = tl.zeros_like(at) - 1
    key = word_of(table, tl.zeros_like(at))
    active = live
    while tl.max(active.to(tl.int32)) > 0:
        # Both cells of a sector at once.
        first, second = read_cell(cells + at * 2, active)
        third, fourth = read_cell(cells + at * 2 + 2, active)
        here = active & (first == pair) & ((second & LOW) == key) & (second >= 0)
        there = active & (third == pair) & ((fourth & LOW) == key) & (fourth >= 0)
        row = tl.where(here, second >> 32, tl.where(there, fourth >> 32, row))
        beyond = active & (here == 0) & (second != 0)
        active = beyond & (there == 0) & (fourth != 0)
        at = tl.where(beyond, at + 1, at)
        at = tl.where(active, (at + 1) & mask, at)
    return at, row


@triton.jit
def take_pairs(cells, mask, at, table, pair, row, live):
    """Write pairs that no cell holds to the first free cell from `at` on."""
    word = word_of(table, row)
    active = live
    while tl.max(active.to(tl.int32)) > 0:
        held = take_cell(cells + at * 2, pair, word, active)
        active = active & (held != 0)
        at = tl.where(active, (at + 1) & mask, at)
