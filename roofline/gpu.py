"""Roofs of a CUDA device: torch for what streams, loops of Triton's for rows and atomics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from recis_core.roofs import Roofs
from roofline.timer import Timer

MIB = 1 << 20
WIDTHS = (32, 64, 128, 256, 512, 1024)  # bytes of a row
SETS = (16 * MIB, 256 * MIB)  # working sets below the one of the roof
SET_WIDTHS = (64, 256)
LINK = 256 * MIB
MATRIX = 8192
Best = Callable[[Callable[[], object]], float]


def measure_gpu(device: torch.device, threads: int) -> Roofs:
    """The best of several times of each, the L2 cache flushed before every one."""
    seen = torch.cuda.get_device_properties(device)
    timer = Timer.of(device)
    size = min(4 << 30, seen.total_memory // 8)
    source = torch.ones(size // 4, device=device)
    target = torch.ones(size // 4, device=device)

    def best(call: Callable[[], object]) -> float:
        return min(timer.time(call, budget=0.2, most=15).samples)

    rows = row_rates(source, target, best)
    return Roofs(
        device=seen.name,
        kind="cuda",
        cores=seen.multi_processor_count,
        threads=threads,
        memory=seen.total_memory,
        caches={"L2": seen.L2_cache_size},
        copy=2 * size / best(lambda: target.copy_(source)),
        read=size / best(lambda: source.sum()),
        write=size / best(lambda: target.fill_(1)),
        update=2 * size / best(lambda: target.mul_(1)),
        cache=cache_rate(source, seen, best),
        working_set=size,
        **rows,
        **products(device, best),
        **link(device, best),
    )


def row_rates(source: Tensor, target: Tensor, best: Best) -> dict[str, Any]:
    """Random rows read, by width and working set; written; and atomics."""
    if find_spec("triton") is None:
        # Without Triton only what torch has; its index_select is slow for narrow rows.
        return {"random": {w: select_rate(source, target, w, best) for w in WIDTHS}}
    return {
        "random": {w: gather_rate(source, target, w, best) for w in WIDTHS},
        "random_sets": {
            size: {w: gather_rate(source[: size // 4], target, w, best) for w in SET_WIDTHS}
            for size in SETS
        },
        "scatter": {w: scatter_rate(source, target, w, best) for w in WIDTHS},
        "atomics": atomic_rates(source, best),
    }


def drawn(rows: int, width: int, device: torch.device) -> Tensor:
    """As many random rows as make 256 MiB."""
    return torch.randint(0, rows, (256 * MIB // width,), device=device, dtype=torch.int32)


def select_rate(source: Tensor, target: Tensor, width: int, best: Best) -> float:
    table = source.view(-1, width // 4)
    rows = drawn(len(table), width, source.device)
    out = target.view(-1, width // 4)[: len(rows)]
    return 2 * out.nbytes / best(lambda: torch.index_select(table, 0, rows, out=out))


def gather_rate(source: Tensor, target: Tensor, width: int, best: Best) -> float:
    from roofline import loops

    table = source.view(-1, width // 4)
    rows = drawn(len(table), width, source.device)
    out = target.view(-1, width // 4)[: len(rows)]
    times = [best(lambda form=form: loops.gather(table, rows, out, form)) for form in loops.FORMS]
    return 2 * out.nbytes / min(times)


def scatter_rate(source: Tensor, target: Tensor, width: int, best: Best) -> float:
    """Every row written at most once, so that no cache merges two."""
    from roofline import loops

    table = target.view(-1, width // 4)
    stride = len(table) // (256 * MIB // width)
    rows = torch.randperm(len(table) // stride, device=source.device, dtype=torch.int32) * stride
    values = source.view(-1, width // 4)[: len(rows)]
    times = [best(lambda f=form: loops.scatter(values, rows, table, f)) for form in loops.FORMS]
    return 2 * values.nbytes / min(times)


def atomic_rates(source: Tensor, best: Best) -> dict[str, float]:
    from roofline import loops

    count = 1 << 24
    words = torch.zeros(len(source), dtype=torch.int32, device=source.device)
    spread = torch.randint(0, len(words), (count,), dtype=torch.int32, device=source.device)
    near = spread % (4 * MIB)  # 16 MiB of words
    one = torch.zeros_like(spread[: 1 << 20])
    return {
        "one": len(one) / best(lambda: loops.add(words, one)),
        "cached": count / best(lambda: loops.add(words, near)),
        "spread": count / best(lambda: loops.add(words, spread)),
    }


def cache_rate(source: Tensor, seen: Any, best: Best) -> float:
    """Bytes a second out of L2: a third of it read again and again."""
    small = source[: seen.L2_cache_size // 12 // 2048 * 2048]
    if find_spec("triton") is None:
        return 20 * small.nbytes / best(lambda: [small.sum() for _ in range(20)])
    from roofline import loops

    sink = source.new_empty(4 * seen.multi_processor_count)
    return 20 * small.nbytes / best(lambda: loops.read(small, sink, 20))


def products(device: torch.device, best: Best) -> dict[str, Any]:
    """Flops a second of a matrix product of random numbers: float32, tf32, bfloat16."""
    work = 2 * MATRIX**3
    a, b = (torch.randn(MATRIX, MATRIX, device=device) for _ in range(2))
    with precision("highest"):
        plain = work / best(lambda: torch.mm(a, b))
    tf32 = None
    if torch.cuda.get_device_capability(device) >= (8, 0):
        with precision("high"):
            tf32 = work / best(lambda: torch.mm(a, b))
    a, b = a.bfloat16(), b.bfloat16()
    return {"matmul": plain, "tf32": tf32, "bf16": work / best(lambda: torch.mm(a, b))}


@contextmanager
def precision(name: str) -> Iterator[None]:
    """float32 matrix products at "highest" (float32) or "high" (tf32) within."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def link(device: torch.device, best: Best) -> dict[str, Any]:
    """Bytes a second between pinned memory of the host and the device, each way."""
    host = torch.ones(LINK // 4, pin_memory=True)
    there = torch.ones(LINK // 4, device=device)
    return {
        "to_device": LINK / best(lambda: there.copy_(host, non_blocking=True)),
        "to_host": LINK / best(lambda: host.copy_(there, non_blocking=True)),
    }
