"""Kernels of the CUDA C++ backend on the CPU, a block's threads as fibers: results, not speed."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from backends.cuda import build, call
from backends.cuda.id_map import id_map
from recis_core.blocks import Blocks, Slot
from recis_core.kernels import find_op
from recis_core.mixing import table_salt
from recis_core.ops.columns_unpack import SOURCES

HERE = Path(__file__).parent
LAUNCH = re.compile(r"(\w+(?:<[^<>;]*>)?)<<<(.*?)>>>\((.*?)\);", re.DOTALL)
SHARED = re.compile(r"extern __shared__ (\w+) (\w+)\[\];")

# What columns_unpack takes: positions of a source and of its target.
KINDS = [(s, t) for t in (0, 3) for s in range(8)] + [(s, 1) for s in range(11)] + [(1, 2)] * 4

pytestmark = pytest.mark.skipif(
    build.find_compiler() is None, reason=f"nvcc is not found; pip install {build.NEEDED}"
)


def for_fibers(source: str) -> str:
    """CUDA C++ as C++: launches become calls, dynamic shared memory an array."""

    def call_of(found: re.Match[str]) -> str:
        grid, block, _, _ = found[2].rsplit(",", 3)
        return f"fibers::run({grid}, {block}, [&] {{ {found[1]}({found[3]}); }});"

    source = SHARED.sub(r"auto* \2 = reinterpret_cast<\1*>(fibers::arena);", source)
    return LAUNCH.sub(call_of, source)


def compiled(folder: Path, name: str, source: str) -> ctypes.CDLL:
    for file in build.headers():
        text = file.read_text() if file.name != "launch.cuh" else "#pragma once\n"
        (folder / file.name).write_text(for_fibers(text))
    (folder / f"{name}.cpp").write_text(source)
    command = [
        build.compiler(), "-O1", "-std=c++17", "--shared", "-Xcompiler=-fPIC,-w",
        "-I", folder, "-I", HERE, folder / f"{name}.cpp", "-o", folder / f"{name}.so",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / f"{name}.so"))


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    source = (HERE / "cuda_groups.cpp").read_text()
    library = compiled(tmp_path_factory.mktemp("groups"), "groups", source)
    number, array = ctypes.c_int64, ctypes.c_void_p
    library.grouped.argtypes = array, number, number, array, array
    return library


def uniform(rng: np.random.Generator, n: int, distinct: int) -> np.ndarray:
    return rng.integers(0, distinct, n)


def skewed(rng: np.random.Generator, n: int, distinct: int) -> np.ndarray:
    return (rng.random(n) ** 4 * distinct).astype(np.int64)


def one_hot(rng: np.random.Generator, n: int, distinct: int) -> np.ndarray:
    return np.where(rng.random(n) < 0.6, distinct - 1, rng.integers(0, distinct, n))


def bursts(rng: np.random.Generator, n: int, distinct: int) -> np.ndarray:
    """Stretches of one key: pieces of a bucket differ in length, some have several chunks."""
    at = np.arange(n)
    return np.where(at // 15000 % 2, distinct // 2, at % distinct)


@pytest.mark.parametrize(
    ("draw", "n", "distinct", "large"),
    [
        (uniform, 1, 1, 0),
        (uniform, 4096, 1, 0),
        (uniform, 4097, 1, 1),
        (uniform, 30000, 20480, 0),
        (skewed, 30000, 20480, 1),
        (one_hot, 25000, 5000, 1),
        pytest.param(one_hot, 12000, 1_100_000, 1, marks=pytest.mark.slow),
        (bursts, 60000, 3000, 1),
    ],
)
def test_groups_come_in_a_stable_order(groups, draw, n, distinct, large):
    keys = draw(np.random.default_rng(n), n, distinct).astype(np.int32)
    starts, order = np.full(distinct + 1, -9, np.int32), np.full(n, -9, np.int32)
    found = groups.grouped(keys.ctypes.data, n, distinct, starts.ctypes.data, order.ctypes.data)
    assert found == large
    assert np.array_equal(order, np.argsort(keys, kind="stable"))
    assert np.array_equal(starts, np.searchsorted(np.sort(keys), np.arange(distinct + 1)))


@pytest.fixture
def op(request, tmp_path, monkeypatch) -> call.Caller:
    source = for_fibers((build.SOURCES / f"{request.param}.cu").read_text())
    library = compiled(tmp_path, request.param, f'#include "cuda_fibers.h"\n{source}')
    monkeypatch.setattr(call, "load", lambda op, architecture: library)
    monkeypatch.setattr(call, "architecture_of", lambda device: "")
    stream = type("Stream", (), {"cuda_stream": 0})
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return call.Caller(find_op(request.param))


@pytest.mark.slow  # thirteen seconds to compile
@pytest.mark.parametrize("op", ["segment_sum"], indirect=True)
def test_sums_of_short_and_long_segments(op):
    """Segments for lanes, a warp and many; what is long lies in one range of values or in several,
    alone, side by side or as nearly all there is; empty ones; runs of narrow rows, of any width."""
    rng = np.random.default_rng(7)
    few = rng.poisson(2, 90)
    few[[5, 6, 70, 89]] = 40, 700, 200, 2500
    hot = rng.poisson(2, 300)
    hot[100:140], hot[140:180], hot[250] = 30, 0, 9000
    drawn = few, hot, rng.poisson(30, 90), rng.poisson(4, 70), np.zeros(40, int)
    for dim in (1, 3, 4, 6, 8, 12, 16, 17, 64):
        for lengths in drawn:
            count, n = len(lengths), int(lengths.sum())
            offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])).int()
            segment = torch.repeat_interleave(torch.arange(count), torch.from_numpy(lengths))
            values, index = torch.randn(50, dim), torch.randint(0, 50, (n,))
            for weights in (None, torch.rand(n)):
                out = torch.full((count, dim), torch.nan)
                op(values, index.int(), offsets, weights, out)
                rows = values[index].double() * (1 if weights is None else weights[:, None])
                want = torch.zeros(count, dim, dtype=torch.float64).index_add_(0, segment, rows)
                torch.testing.assert_close(out, want.float(), atol=1e-3, rtol=1e-4)


@pytest.mark.slow  # compiles as long
@pytest.mark.parametrize("op", ["rows_reduce_sgd"], indirect=True)
def test_rows_with_many_gradients_change_by_their_sum(op):
    """A row with most of all gradients, rows with some, rows with none, absent ones among each."""
    rng = np.random.default_rng(5)
    for dim, lengths in ((8, rng.poisson(2, 200)), (64, rng.poisson(3, 60))):
        lengths[[7, 30, 31, 50]] = 40, 6000, 700, 300
        count, n = len(lengths), int(lengths.sum())
        starts = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])).int()
        row = torch.repeat_interleave(torch.arange(count), torch.from_numpy(lengths))
        grad, segments = torch.randn(90, dim), torch.randint(0, 90, (n,))
        rows = torch.randperm(1000)[:count].int()
        rows[[3, 31]] = -1
        blocks = Blocks([Slot("weight", dim)], 8)
        blocks.grow(1000)
        for tensor in blocks.tensors:
            tensor.zero_()
        op(blocks, rows, grad, None, starts, segments.int(), None, None, 0.5, 0.0)
        want = torch.zeros(1000, dim, dtype=torch.float64)
        sums = torch.zeros(count, dim, dtype=torch.float64)
        sums.index_add_(0, row, grad.double()[segments])
        want[rows[rows >= 0].long()] = -0.5 * sums[rows >= 0]
        got = whole(blocks, "weight")[:1000]
        torch.testing.assert_close(got, want.float(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("op", ["rows_gather", "rows_scatter"], indirect=True)
def test_rows_go_where_they_belong(op):
    """Any width, either index, absent rows, a last block part empty; other slots untouched."""
    generator = torch.Generator().manual_seed(3)
    for dim, dtype in (
        (1, torch.float16),
        (6, torch.float32),
        (8, torch.float32),
        (100, torch.bfloat16),
    ):
        for n, index in (
            (0, torch.int32),
            (1, torch.int64),
            (513, torch.int32),
            (700, torch.int64),
        ):
            blocks = Blocks([Slot("before", 4), Slot("weight", dim, dtype), Slot("after", 1)], 8)
            blocks.grow(1000)
            for tensor in blocks.tensors:
                tensor.random_(0, 100, generator=generator)
            rows = torch.randperm(1000, generator=generator)[:n].to(index)
            rows[torch.rand(n, generator=generator) < 0.1] = -1
            given = torch.randn(n, dim, generator=generator).to(dtype)
            before = {slot: whole(blocks, slot) for slot in blocks.slots}
            op(blocks, "weight", rows, given)
            if op.name == "rows_gather":
                there = before["weight"][rows.long().clamp(min=0)]
                want = torch.where((rows >= 0)[:, None], there, torch.zeros((), dtype=dtype))
                assert torch.equal(bits(given), bits(want))
            else:
                before["weight"][rows[rows >= 0].long()] = given[rows >= 0]
            assert all(torch.equal(bits(whole(blocks, s)), bits(before[s])) for s in blocks.slots)


@pytest.mark.parametrize("op", ["columns_unpack"], indirect=True)
def test_columns_are_unpacked_wherever_they_lie(op):
    """Pieces in any order, of one element or several tiles, at any byte, with gaps between them."""
    rng = np.random.default_rng(11)
    for pieces, longest in ((1, 9000), (30, 4000), (1040, 3)):
        rows, buffer, start, ends = [], [], 0, np.zeros(4, np.int64)
        for _ in range(pieces):
            source, target = KINDS[rng.integers(len(KINDS))]
            count = int(rng.integers(0, longest))
            raw = rng.integers(0, 100, count).astype(SOURCES[source])
            to = ends[target] + (rng.choice([0, 1, 7]) if pieces < 100 else 0)
            rows.append((start, count, source, target, to, int(rng.integers(0, 9))))
            ends[target] = to + count
            buffer.append(np.pad(raw.view(np.uint8), (0, -raw.nbytes % 16)))
            start += len(buffer[-1])
        sizes = [int(end) + 3 for end in ends]
        table = np.array(rows, np.int64)
        args = np.concatenate(buffer), table if pieces > 100 else rng.permutation(table), *sizes
        for wide in (torch.int32, torch.int64) if pieces < 100 else (torch.int32,):
            dtypes = torch.int64, torch.float32, torch.uint8, wide
            outs = [torch.full((n,), 77, dtype=d) for n, d in zip(sizes, dtypes, strict=True)]
            op(*(torch.from_numpy(a) for a in args[:2]), *sizes, *outs)
            for out, want in zip(outs, find_op(op.name).reference(*args), strict=True):
                assert np.array_equal(out.numpy(), want)


@pytest.mark.parametrize("op", ["ids_hash"], indirect=True)
def test_strings_of_any_length_are_hashed(op):
    """More text than a block holds at once, in many strings, and in one alone."""
    rng = np.random.default_rng(12)
    lengths = np.concatenate([rng.integers(0, 70, 1500), [40000, 3, 24560, 24570], [0] * 20])
    offsets = np.concatenate([[5], 5 + lengths.cumsum()])
    data = rng.integers(0, 256, offsets[-1], np.uint8)
    for kind, index in (("farm", np.int32), ("murmur", np.int64)):
        out = torch.zeros(len(lengths), dtype=torch.int64)
        op(torch.from_numpy(data), torch.from_numpy(offsets.astype(index)), kind, out)
        assert np.array_equal(out.numpy(), find_op(op.name).reference(data, offsets, kind))
    # So many that a thread takes four.
    n, looked = 1 << 20, 1 << 9
    offsets = np.concatenate([[0], rng.integers(0, 40, n).cumsum()]).astype(np.int32)
    data = rng.integers(0, 256, 22 * n, np.uint8)
    out = torch.zeros(n, dtype=torch.int64)
    op(torch.from_numpy(data), torch.from_numpy(offsets), "farm", out)
    for at in (0, n // 2, n - looked):
        own = find_op(op.name).reference(data, offsets[at : at + looked + 1], "farm")
        assert np.array_equal(out[at : at + looked].numpy(), own)


@pytest.mark.parametrize("op", ["ids_mod", "values_bucketize"], indirect=True)
def test_elements_find_their_column(op):
    """Columns of thousands of elements and of none, more than a warp looks at in two turns."""
    rng = np.random.default_rng(13)
    lengths = np.concatenate([[0, 5000], rng.integers(0, 4, 1500), [0, 1400, 700, 0]])
    splits = np.concatenate([[0], lengths.cumsum()])
    n = int(splits[-1])
    if op.name == "ids_mod":
        ids = rng.integers(-(2**63), 2**63 - 1, n)
        args = ids, splits, rng.choice([1, 2, 3, 10**6 + 3, 2**31 + 11, 2**63 - 1], len(lengths))
    else:
        counts = np.resize([1, 33, 0, 32, 100, 31], len(lengths))
        bounds = [np.sort(rng.standard_normal(c)).astype(np.float32) for c in counts]
        values = rng.standard_normal(n).astype(np.float32)
        values[::7] = rng.choice(bounds[1], len(values[::7]))
        values[3::50] = rng.choice([np.nan, np.inf, -np.inf], len(values[3::50]))
        args = values, splits, np.concatenate(bounds), np.concatenate([[0], counts.cumsum()])
    out = torch.zeros(n, dtype=torch.int64)
    op(*(torch.from_numpy(a) for a in args), out)
    assert np.array_equal(out.numpy(), find_op(op.name).reference(*args))


@pytest.mark.parametrize("op", ["ids_partition"], indirect=True)
def test_pairs_are_numbered_owner_by_owner(op):
    """Three owners, of which no bucket waits for a later one; one too large for shared memory."""
    rng = np.random.default_rng(17)
    spec, salts = find_op(op.name), np.array([table_salt(name) for name in "ab"])
    # Of one owner and bucket: hashes that differ in their upper bits alone.
    alike = unmixed((np.arange(2500, dtype=np.uint64) << np.uint64(40)) + np.uint64(5))
    ids = np.concatenate([alike.view(np.int64) ^ salts[0], rng.integers(0, 800, 2500)])
    ids = rng.permutation(np.concatenate([ids, ids[:1500]]))
    for tables, world in (([0], 3), ([0, 1, 0], 3), ([0], 1)):
        splits = np.linspace(0, len(ids), len(tables) + 1).astype(np.int32)
        given = ids, splits, np.array(tables, np.int32), salts[: max(tables) + 1]
        outs = [np.full(size, -7) for size in (len(ids), len(ids), world, len(ids))]
        outs[1], outs[3] = outs[1].astype(np.int32), outs[3].astype(np.int32)
        op(*map(torch.from_numpy, given), world, *map(torch.from_numpy, outs))
        total = outs[2].sum()
        got = spec.canonical({"ids": ids}, (outs[0][:total], outs[1][:total], *outs[2:]))
        want = spec.canonical({"ids": ids}, spec.reference(*given, world))
        assert all(map(np.array_equal, got, want))


@pytest.mark.parametrize("op", ["id_map"], indirect=True)
def test_rows_stay_dense_whatever_share_is_new(op):
    """Numbered by position after calls of new pairs alone, then by blocks; holes are filled."""
    rng = np.random.default_rng(19)
    held, mine = id_map(4000, 1 << 20, device=torch.device("cpu")), {}
    for known, new in ((0, 1300), (0, 700), (600, 800), (900, 500), (40, 3), (0, 900), (900, 0)):
        ids = rng.choice([*mine, 0], known, replace=False) if known else np.empty(0, np.int64)
        ids = rng.permutation(np.concatenate([ids, rng.integers(1, 1 << 62, new)]))
        tables = ids % 3
        rows, fresh = held.insert(torch.from_numpy(tables), torch.from_numpy(ids))
        assert fresh.tolist() == [pair not in mine for pair in ids.tolist()]
        for pair, row in zip(ids.tolist(), rows.tolist(), strict=True):
            assert mine.setdefault(pair, row) == row
        assert sorted(mine.values()) == list(range(len(mine)))
        assert held.extent == len(mine)
        known_rows, _ = held.find(torch.from_numpy(tables), torch.from_numpy(ids))
        assert torch.equal(known_rows, rows)
    gone = np.array(sorted(mine)[:333])
    assert held.erase(torch.from_numpy(gone % 3), torch.from_numpy(gone)).tolist() == [
        mine.pop(pair) for pair in gone.tolist()
    ]
    extent = held.extent
    ids = np.concatenate([rng.integers(1, 1 << 62, 300), sorted(mine)[:200]])
    for part in (ids[:250], ids):
        rows, _ = held.insert(torch.from_numpy(part % 3), torch.from_numpy(part))
        mine.update(zip(part.tolist(), rows.tolist(), strict=True))
        assert len(set(mine.values())) == len(mine) == len(held)
        # 300 new pairs at most take freed rows.
        assert max(mine.values()) < held.extent == extent


def unmixed(z: np.ndarray) -> np.ndarray:
    """What `mix64` makes of is `z`."""
    for by, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        z = z ^ (z >> np.uint64(by)) ^ (z >> np.uint64(2 * by))
        z = z * np.uint64(pow(factor, -1, 1 << 64))
    return z


def whole(blocks: Blocks, slot: str) -> torch.Tensor:
    return torch.cat(list(blocks.views(slot)))


def bits(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous().flatten().view(torch.uint8)
