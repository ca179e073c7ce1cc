"""Kernels of backend cupy on the CPU, a block's threads as fibers: results, not speed."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import pytest
import torch

from backends import load
from backends.boundary import Bound
from backends.conformance import check
from backends.cuda import build
from backends.cupy import reduction
from backends.cupy.queue import Source, word
from recis_core.blocks import Blocks, Slot
from recis_core.kernels import find_op
from recis_core.optim import RowwiseAdagrad, Rule, Sgd
from recis_core.tolerance import SUMMED
from tests.test_cuda_fibers import SHARED
from tests.test_cupy import imported

HERE = Path(__file__).parent
CALLED = """
#include <cmath>
#include <utility>
template <typename T> T of_word(u64 word) {
    T made;
    __builtin_memcpy(&made, &word, 8);
    return made;
}
template <typename... P, size_t... I>
void launched(void (*kernel)(P...), unsigned grid, const u64* words, std::index_sequence<I...>) {
    fibers::run(grid, 256, [&] { kernel(of_word<P>(words[I])...); });
}
template <typename... P> void launched(void (*kernel)(P...), unsigned grid, const u64* words) {
    launched(kernel, grid, words, std::index_sequence_for<P...>{});
}
inline void sync_lanes(unsigned mask = ~0u) { __shfl_sync(mask, 0, __builtin_ctz(mask)); }
#define __syncwarp sync_lanes
inline float __uint_as_float(uint32_t bits) {
    float made;
    __builtin_memcpy(&made, &bits, 4);
    return made;
}
"""

POOLING = "segment_sum", "segment_mean", "segment_sum_grad", "segment_mean_grad", "rows_pool"

pytestmark = [
    pytest.mark.slow,  # ten seconds to compile for an op
    pytest.mark.skipif(build.find_compiler() is None, reason="nvcc is not found"),
]


class Queue:
    """Stands for the queue of a call: kernels are compiled for the CPU and run at once."""

    folder: Path
    libraries: dict[tuple[Any, ...], ctypes.CDLL]

    def __init__(self, device: torch.device) -> None:
        pass

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def launch(
        self, source: Source, name: str, grid: int, *args: Any, shared: int = 0, **macros: Any
    ) -> None:
        assert shared <= 1 << 18, "more than the fibers' arena"
        key = source, tuple(macros.items())
        if key not in self.libraries:
            self.libraries[key] = compiled(self.folder / f"{len(self.libraries)}", source, macros)
        kinds = [b"d" if type(word(a)) is float else b"q" for a in args]
        words = b"".join(pack(kind, word(a)) for kind, a in zip(kinds, args, strict=True))
        self.libraries[key][f"{name}_on_cpu"](ctypes.c_uint(grid), words)

    def clear(self, tensor: torch.Tensor, byte: int = 0) -> None:
        tensor.fill_(byte)

    def scratch(self, *sizes: int) -> list[torch.Tensor]:
        return [torch.full((size,), 0xAB, dtype=torch.uint8) for size in sizes]


def compiled(stem: Path, source: Source, macros: dict[str, Any]) -> ctypes.CDLL:
    # The CPU has no float16 here: what converts it is left out, and not tested.
    text = re.sub(r"\basm\(.*?\);", "", source.text)
    text = SHARED.sub(r"auto* \2 = reinterpret_cast<\1*>(fibers::arena);", text)
    names = re.findall(r"^KERNEL [^;{]*?(\w+)\((?:[^()]*)\) {", text, re.MULTILINE)
    entries = "".join(
        f'extern "C" void {n}_on_cpu(unsigned g, const u64* w) {{ launched({n}, g, w); }}\n'
        for n in names
    )
    head, rest = text.split("enum Dtype", 1)
    file = stem.with_suffix(".cpp")
    file.write_text(f'#include "cuda_fibers.h"\n{head}{CALLED}enum Dtype{rest}{entries}')
    defined = [f"-D{key}={value}" for key, value in macros.items()]
    done = subprocess.run(
        [build.compiler(), "-O1", "-std=c++17", "--shared", "-Xcompiler=-fPIC,-w", *defined,
         "-I", HERE, file, "-o", stem.with_suffix(".so")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(stem.with_suffix(".so")))


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.setattr(Queue, "folder", tmp_path, raising=False)
    monkeypatch.setattr(Queue, "libraries", {}, raising=False)
    for module in (reduction, *(imported(name) for name in POOLING)):
        monkeypatch.setattr(module, "Queue", Queue)
    return lambda name: getattr(imported(name), name)


@pytest.mark.parametrize("rule", ["sgd", "adagrad", "adagrad_rowwise", "adam", "adamw"])
def test_fused_optimizers_agree_with_the_reference(called: Any, rule: str) -> None:
    op = find_op(f"rows_reduce_{rule}")
    bound = Bound.of(op, called(op.name), "cupy", "cpu")
    for case in op.cases("test"):
        check(bound, op, case)


@pytest.mark.parametrize("rule", [Sgd(0.1, 0.1), RowwiseAdagrad(0.1)], ids=lambda rule: rule.op)
def test_rows_with_very_many_gradients(called: Any, rule: Rule) -> None:
    """Rows of one piece, of several, and of more than are added at once; rows wider than a warp."""
    op = find_op(f"rows_reduce_{rule.op}")
    own = Bound.of(op, called(op.name), "cupy", "cpu")
    generator = torch.Generator().manual_seed(1)
    lengths = torch.full((40,), 3)
    lengths[[2, 3, 20, 39]] = torch.tensor([300, 700, 9000, 40])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
    n, leaves = int(starts[-1]), 90
    for dim in (8, 64, 200):
        slots = Slot("weight", dim), *rule.slots(dim)
        rows = torch.randperm(64, generator=generator)[:40].int()
        segments = torch.randint(0, leaves, (n,), generator=generator).int()
        grad = torch.randn(leaves, dim, generator=generator)
        weights = torch.rand(n, generator=generator)
        scalars = rule.scalars(rule.lr, rule.begin())
        found = []
        for call in (own, getattr(load("reference"), op.name)):
            blocks = Blocks(slots, 6)
            blocks.grow(64)
            blocks.views("weight")[0].fill_(0.5)
            call(blocks, rows, grad, None, starts, segments, weights, None, *scalars)
            found.append([view.numpy() for slot in blocks.slots for view in blocks.views(slot)])
        for got, want in zip(*found, strict=True):
            assert np.count_nonzero(want)
            SUMMED.check("slot", got, want, "float32")


@pytest.mark.parametrize("name", POOLING)
def test_pooling_agrees_with_the_reference(called: Any, name: str) -> None:
    op = find_op(name)
    bound = Bound.of(op, called(name), "cupy", "cpu")
    for case in list(op.cases("test"))[-2:]:
        check(bound, op, case)


def test_means_of_long_segments(called: Any) -> None:
    """Segments of one piece, of several, and just too short to be cut."""
    op = find_op("segment_mean")
    own = Bound.of(op, called(op.name), "cupy", "cpu")
    generator = torch.Generator().manual_seed(2)
    lengths = torch.full((90,), 3)
    lengths[[0, 2, 20, 89]] = torch.tensor([257, 256, 2048, 5000])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
    index = torch.randint(0, 70, (int(offsets[-1]),), generator=generator).int()
    weights = torch.rand(len(index), generator=generator)
    for dim in (8, 17, 200):
        values = torch.randn(70, dim, generator=generator)
        given = values, index, offsets, weights
        for got, want in zip(own(*given), load("reference").segment_mean(*given), strict=True):
            SUMMED.check("out", got.numpy(), want.numpy(), "float32")
