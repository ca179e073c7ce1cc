"""The Triton loops that measure a GPU's random rows and atomics, with nothing else to do."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def gather_loop(
    table, rows, out, count, width: tl.constexpr, lanes: tl.constexpr, each: tl.constexpr
):
    """out[i] = row rows[i] of `table`; a program moves `each` rows of `width` float32."""
    at = tl.program_id(0) * each + tl.arange(0, each)
    there = at < count
    row = tl.load(rows + at, mask=there, other=0).to(tl.int64)
    for begin in tl.static_range(0, width, lanes):
        column = begin + tl.arange(0, lanes)
        values = tl.load(table + row[:, None] * width + column[None, :], mask=there[:, None])
        tl.store(out + at.to(tl.int64)[:, None] * width + column[None, :], values, there[:, None])


@triton.jit
def scatter_loop(
    source, rows, table, count, width: tl.constexpr, lanes: tl.constexpr, each: tl.constexpr
):
    """Row rows[i] of `table` = source[i]."""
    at = tl.program_id(0) * each + tl.arange(0, each)
    there = at < count
    row = tl.load(rows + at, mask=there, other=0).to(tl.int64)
    for begin in tl.static_range(0, width, lanes):
        column = begin + tl.arange(0, lanes)
        from_ = source + at.to(tl.int64)[:, None] * width + column[None, :]
        values = tl.load(from_, mask=there[:, None])
        tl.store(table + row[:, None] * width + column[None, :], values, there[:, None])


@triton.jit
def atomic_loop(words, places, count, each: tl.constexpr):
    """words[places[i]] += 1, atomically."""
    at = tl.program_id(0) * each + tl.arange(0, each)
    there = at < count
    place = tl.load(places + at, mask=there, other=0)
    tl.atomic_add(words + place, tl.full((each,), 1, tl.int32), mask=there, sem="relaxed")


@triton.jit
def read_loop(source, sink, count, times, each: tl.constexpr):
    """Read `count` float32, a multiple of `each`, `times` over: what a cache gives."""
    total = tl.zeros((each,), tl.float32)
    programs = tl.num_programs(0)
    for t in range(times):
        # Another start each time, so that nothing stays in registers or the first cache.
        for at in range((tl.program_id(0) + t * 37) % programs * each, count, programs * each):
            total += tl.load(source + at + tl.arange(0, each), cache_modifier=".cg")
    tl.store(sink + tl.program_id(0), tl.sum(total))


FORMS = ((16, 4), (64, 4), (64, 8))  # rows a program moves, warps


def gather(table: Tensor, rows: Tensor, out: Tensor, form: tuple[int, int]) -> None:
    """out[i] = table[rows[i]]; tables [r, width] float32, rows int32, width a power of two."""
    each, warps = form
    width = table.shape[1]
    grid = (triton.cdiv(len(rows), each),)
    lanes = min(width, 128)
    gather_loop[grid](table, rows, out, len(rows), width, lanes, each, num_warps=warps)


def scatter(source: Tensor, rows: Tensor, table: Tensor, form: tuple[int, int]) -> None:
    """table[rows[i]] = source[i]."""
    each, warps = form
    width = table.shape[1]
    grid = (triton.cdiv(len(rows), each),)
    lanes = min(width, 128)
    scatter_loop[grid](source, rows, table, len(rows), width, lanes, each, num_warps=warps)


def add(words: Tensor, places: Tensor) -> None:
    """words[places[i]] += 1; int32 both."""
    atomic_loop[(triton.cdiv(len(places), 1024),)](words, places, len(places), 1024)


def read(source: Tensor, sink: Tensor, times: int) -> None:
    """Read `source` float32 `times` over with as many programs as `sink` has elements."""
    read_loop[(len(sink),)](source, sink, len(source), times, 2048, num_warps=8)
