"""What holds only where a GPU is: graphs, streams, no waiting, large extents, a contended map."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import backends
from backends.arrays import BASE
from backends.boundary import Bound
from backends.conformance import bits_equal, check, present
from recis_core.blocks import Blocks, Slot
from recis_core.kernels import Kernels, every_op
from recis_core.mixing import GOLDEN
from recis_core.spec import Case, Op

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
DEVICE = torch.device("cuda")
BACKENDS = ("cuda", "triton", "cupy")
OPS = [op for op in every_op() if not op.machine]
FREE = {"ids_partition"}  # ops whose order is declared free
LONG = 1_000_000_000  # cycles: about half a second


@pytest.fixture(scope="module", params=BACKENDS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    try:
        return backends.load(request.param, device=DEVICE)
    except backends.BackendError as error:
        pytest.skip(str(error))


def last(op: Op[..., Any]) -> Case:
    return list(op.cases("test"))[-1]


class Captured:
    """Runs a call by capturing it in a CUDA graph and replaying that once."""

    takes_outputs = True

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, *args: Any) -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.call(*args)
        graph.replay()
        torch.cuda.synchronize()


class Delayed:
    """Runs a call on a side stream that is late, then overwrites what the call has freed."""

    takes_outputs = True

    def __init__(self, call: Any) -> None:
        self.call, self.side = call, torch.cuda.Stream()

    def __call__(self, *args: Any) -> None:
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            torch.cuda._sleep(20_000_000)
            self.call(*args)
            poison = [
                torch.full((1 << k,), 0xAB, dtype=torch.uint8, device=DEVICE) for k in range(9, 24)
            ]
        torch.cuda.current_stream().wait_stream(self.side)
        del poison


@pytest.mark.parametrize("wrap", [Captured, Delayed])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_agrees_from_a_graph_and_from_a_late_stream(
    op: Op[..., Any], wrap: Any, kernels: Kernels
) -> None:
    plain = getattr(kernels, op.name)
    if kernels.origins[op.name].endswith("(composed)"):
        pytest.skip("composed of ops that are tested")
    check(plain, op, last(op))  # loads the kernels: that is not to happen in a capture
    check(Bound.of(op, wrap(plain.call), kernels.name, DEVICE), op, last(op))


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_returns_while_the_device_is_busy(op: Op[..., Any], kernels: Kernels) -> None:
    given = present(op, last(op).make(), BASE, DEVICE)
    call = getattr(kernels, op.name)
    call(*given.values())
    torch.cuda.synchronize()
    done = torch.cuda.Event()
    torch.cuda._sleep(LONG)
    done.record()
    begin = time.perf_counter()
    call(*given.values())
    took = time.perf_counter() - begin
    assert not done.query(), f"{op.name} waited for the device, {took:.3f} s"
    torch.cuda.synchronize()


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_the_same_call_gives_the_same_bits(op: Op[..., Any], kernels: Kernels) -> None:
    if op.name in FREE:
        pytest.skip("order inside an owner's run is declared free")
    results = []
    for _ in range(3):
        given = present(op, last(op).make(), BASE, DEVICE)
        returned = getattr(kernels, op.name)(*given.values())
        tensors = returned if isinstance(returned, tuple) else (returned,)
        written = [t for v in given.values() if isinstance(v, Blocks) for t in v.tensors]
        results.append([t for t in (*tensors, *written) if isinstance(t, Tensor)])
    for other in results[1:]:
        assert all(bits_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_gather_past_two_to_the_31(kernels: Kernels) -> None:
    dim, n = 64, (1 << 25) + 11
    blocks = Blocks([Slot("weight", dim)], 16, DEVICE)
    blocks.grow(1 << 16)
    blocks.tensors[0].view(torch.float32).normal_()
    rows = torch.randint(0, 1 << 16, (n,), device=DEVICE, dtype=torch.int32)
    out = kernels.rows_gather(blocks, "weight", rows)
    assert out.numel() > 1 << 31
    table = blocks.tensors[0].view(torch.float32)
    for at in (0, n // 2, n - 1000):
        assert torch.equal(out[at : at + 1000], table[rows[at : at + 1000].long()])


def test_mod_past_two_to_the_31(kernels: Kernels) -> None:
    n = (1 << 31) + 77
    ids = torch.arange(n, device=DEVICE)
    splits = torch.tensor([0, n], device=DEVICE)
    moduli = torch.tensor([1_000_003], device=DEVICE)
    out = kernels.ids_mod(ids, splits, moduli)
    for at in (0, 1 << 30, n - 1000):
        assert torch.equal(out[at : at + 1000].long(), ids[at : at + 1000] % 1_000_003)


@pytest.mark.parametrize("hot", [0.0, 0.3])
@pytest.mark.parametrize(
    ("n", "distinct"),
    [(1 << 20, 1 << 19), (1 << 21, 1 << 20), (1 << 21, 1 << 17), (1 << 22, 1 << 21)],
)
def test_a_large_transposed_index(kernels: Kernels, n: int, distinct: int, hot: float) -> None:
    """Millions of values; segments of 0 to 8, one long; ids that repeat, one hot."""
    lengths = torch.randint(0, 9, (n // 4,), device=DEVICE)
    lengths[n // 9] = 5000
    offsets = torch.zeros(n // 4 + 1, dtype=torch.int32, device=DEVICE)
    offsets[1:] = lengths.cumsum(0)
    inverse = torch.randint(0, distinct, (int(offsets[-1]),), device=DEVICE, dtype=torch.int32)
    inverse[torch.rand(len(inverse), device=DEVICE) < hot] = distinct // 3
    weights = torch.rand(len(inverse), device=DEVICE)
    ordered, order = inverse.sort(stable=True)
    of = torch.repeat_interleave(torch.arange(len(lengths), device=DEVICE), lengths)
    ends = torch.arange(distinct + 1, device=DEVICE, dtype=torch.int32)
    for given in (None, weights):
        starts, segments, carried = kernels.ids_transpose(inverse, offsets, given, distinct)
        assert torch.equal(segments.long(), of[order])
        assert torch.equal(starts.long(), torch.searchsorted(ordered, ends))
        assert given is None or torch.equal(carried, weights[order])


def unmixed(z: int) -> int:
    """The word that mix64 turns into `z`."""
    word = (1 << 64) - 1

    def unshift(x: int, by: int) -> int:
        found = x
        for _ in range(64 // by + 1):
            found = x ^ found >> by
        return found

    for by, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9)):
        z = unshift(z, by) * pow(factor, -1, 1 << 64) & word
    return unshift(z, 30)


def mixed(x: int) -> int:
    word = (1 << 64) - 1
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & word
    x = (x ^ x >> 27) * 0x94D049BB133111EB & word
    return x ^ x >> 31


def signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


def test_the_map_with_every_pair_in_one_cell(kernels: Kernels) -> None:
    """Ids whose hashes agree in all bits that choose a cell, erased and inserted in turns."""
    salt = mixed(GOLDEN)  # of table 0, as id_map.cu mixes it in
    high = [((i << 32 | 5) << 8) & ((1 << 64) - 1) for i in range(1, 3001)]
    ids = torch.tensor([signed(unmixed(h) ^ salt) for h in high], device=DEVICE)
    assert len(ids.unique()) == len(ids)
    tables = torch.zeros(len(ids), dtype=torch.int32, device=DEVICE)
    held = kernels.id_map(1024, 1 << 20)
    rows, fresh = held.insert(tables, ids)
    assert fresh.all()
    assert len(rows.unique()) == len(ids)
    for turn in range(3):
        gone = torch.arange(len(ids), device=DEVICE) % 3 == turn
        assert torch.equal(held.erase(tables[gone], ids[gone]), rows[gone])
        found, missing = held.find(tables, ids)
        assert int(missing) == int(gone.sum())
        assert torch.equal(found[~gone], rows[~gone])
        assert (found[gone] == -1).all()
        again, new = held.insert(tables, ids)
        assert torch.equal(new, gone)
        assert len(again.unique()) == len(ids)
        rows = again
    assert len(held) == len(ids)


def test_one_hot_key_is_found_by_everyone(kernels: Kernels) -> None:
    held = kernels.id_map(1024, 1 << 20)
    one = torch.tensor([-7], device=DEVICE)
    table = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    row, _ = held.insert(table, one)
    n = 1 << 20
    found, missing = held.find(table.expand(n).contiguous(), one.expand(n).contiguous())
    assert int(missing) == 0
    assert (found == row).all()


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["memcheck", "initcheck"])
def test_the_sanitizer_finds_nothing(tool: str) -> None:
    backend = backends.find("cuda")
    if reason := backend.absent(DEVICE):
        pytest.skip(reason)
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).is_file():
        pytest.skip("compute-sanitizer is not found")
    done = subprocess.run(
        [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "tests.sanitized"],
        cwd=Path(__file__).parent.parent,
        # Otherwise torch hands out parts of large blocks, and an access past one's end is legal.
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "sanitized" in done.stderr
