"""Ops on more than 2^31 elements or bytes: an index of 32 bits anywhere would show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import backends
from recis_core.blocks import Blocks, Slot
from recis_core.kernels import Kernels
from recis_core.ops.ids_hash import farm64

DEVICE = torch.device("cuda")
GIB = 1 << 30
DIM = 64
ROWS = (1 << 31) // DIM + 11
BACKENDS = ("cuda", "triton", "cupy", "torch")

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=BACKENDS)
def kernels(request: pytest.FixtureRequest) -> Iterator[Kernels]:
    try:
        yield backends.load(request.param, device=DEVICE)
    except backends.BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    if free < 60 * GIB:
        pytest.skip(f"needs 60 GiB of the GPU's memory, {free / GIB:.0f} are free")
    yield
    torch.cuda.empty_cache()


def parts(n: int, length: int = 1000) -> list[slice]:
    """Pieces from the begin, from around the 2^31st element of rows of DIM, and from the end."""
    return [slice(at, at + length) for at in (0, n // 2, n - 2 * length, n - length)]


def rows_of(*names: str, n: int = ROWS) -> Blocks:
    blocks = Blocks([Slot(name, DIM) for name in names], 16, DEVICE)
    blocks.grow(n)
    return blocks


def at(blocks: Blocks, slot: str, rows: Tensor) -> Tensor:
    views = blocks.views(slot)
    low = (1 << blocks.log2_rows) - 1
    return torch.stack([views[r >> blocks.log2_rows][r & low] for r in rows.tolist()])


def test_scatter(kernels: Kernels) -> None:
    blocks = rows_of("weight")
    rows = torch.arange(ROWS - 1, -1, -1, device=DEVICE, dtype=torch.int32)
    values = torch.randn(ROWS, DIM, device=DEVICE)
    kernels.rows_scatter(blocks, "weight", rows, values)
    for part in parts(ROWS):
        assert torch.equal(at(blocks, "weight", rows[part]), values[part])


def test_adamw(kernels: Kernels) -> None:
    blocks = rows_of("weight", "mean", "square")
    rows = torch.arange(ROWS - 1, -1, -1, device=DEVICE, dtype=torch.int32)
    grad = torch.randn(ROWS, DIM, device=DEVICE)
    numbers = (0.1, 0.9, 0.999, 1e-8, 0.0, 0.9, 0.999, "torch")
    kernels.rows_adamw(blocks, rows, grad, None, None, *numbers)
    for part in parts(ROWS):
        # A first step from zeros: both means are the gradient's own, so it is lr · sign(g).
        g = grad[part]
        want = -0.1 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(at(blocks, "weight", rows[part]), want, rtol=1e-4, atol=1e-5)


def test_sums_written(kernels: Kernels) -> None:
    values = torch.randn(1 << 16, DIM, device=DEVICE)
    index = torch.randint(0, 1 << 16, (ROWS,), device=DEVICE, dtype=torch.int32)
    offsets = torch.arange(ROWS + 1, device=DEVICE, dtype=torch.int32)
    out = kernels.segment_sum(values, index, offsets, None)
    for part in parts(ROWS):
        assert torch.equal(out[part], values[index[part].long()])


@pytest.mark.parametrize("grad", [False, True])
def test_values_summed(kernels: Kernels, grad: bool) -> None:
    """2^31 and some values in segments of 64, index and offsets of 64 bits where they must be."""
    n = ROWS * DIM
    values = torch.randn(1 << 10, 4, device=DEVICE)
    index = torch.randint(0, 1 << 10, (n,), device=DEVICE, dtype=torch.int32)
    offsets = torch.arange(ROWS + 1, device=DEVICE) * DIM
    if grad:
        out = kernels.segment_sum_grad(values, offsets, index, None)
    else:
        out = kernels.segment_sum(values, index, offsets, None)
    for part in parts(ROWS, 300):
        own = index[part.start * DIM : part.stop * DIM].long()
        want = values[own].view(-1, DIM, 4).sum(1)
        torch.testing.assert_close(out[part], want, rtol=1e-5, atol=1e-4)


def test_pool(kernels: Kernels) -> None:
    blocks = rows_of("weight", n=1 << 16)
    blocks.tensors[0].view(torch.float32).normal_()
    rows = torch.randperm(1 << 16, device=DEVICE).int()
    index = torch.randint(0, 1 << 16, (ROWS,), device=DEVICE, dtype=torch.int32)
    offsets = torch.arange(ROWS + 1, device=DEVICE, dtype=torch.int32)
    out = kernels.rows_pool(blocks, "weight", rows, index, offsets, None)
    for part in parts(ROWS):
        assert torch.equal(out[part], at(blocks, "weight", rows[index[part].long()]))


def test_bucketize(kernels: Kernels) -> None:
    n = (1 << 31) + 77
    values = torch.rand(n, device=DEVICE)
    splits = torch.tensor([0, n // 3, n], device=DEVICE)
    boundaries = torch.linspace(0, 1, 40, device=DEVICE)
    own = torch.tensor([0, 40, 40], device=DEVICE)
    out = kernels.values_bucketize(values, splits, boundaries, own)
    want = torch.bucketize(values[:1000], boundaries, right=True)
    assert torch.equal(out[:1000], want)
    for part in parts(n)[1:]:
        assert not out[part].any()


def test_hash(kernels: Kernels) -> None:
    """Strings that lie past the 2^31st byte."""
    length, n = 24, (1 << 31) // 24 + 1000
    data = torch.randint(0, 256, (n * length,), device=DEVICE, dtype=torch.uint8)
    offsets = torch.arange(n + 1, device=DEVICE) * length
    out = kernels.ids_hash(data, offsets, "farm")
    for part in parts(n, 100):
        text = bytes(data[part.start * length : part.stop * length].tolist())
        words = [farm64(text[i : i + length]) for i in range(0, len(text), length)]
        assert [word % (1 << 64) for word in out[part].tolist()] == words
