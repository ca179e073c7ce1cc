"""Roofs of a CUDA device, through torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recis_core.roofs import Roofs
from roofline.timer import Timer

MIB = 1 << 20


def measure_gpu(device: torch.device, threads: int) -> Roofs:
    """The best of several times of each, the L2 cache flushed before every one."""
    seen = torch.cuda.get_device_properties(device)
    timer = Timer.of(device)
    size = min(4 << 30, seen.total_memory // 8)
    source = torch.ones(size // 4, device=device)
    target = torch.ones(size // 4, device=device)

    def best(call: Callable[[], object]) -> float:
        return min(timer.time(call, budget=0.5).samples)

    small = source[: seen.L2_cache_size // 16]
    matrix = torch.ones(8192, 8192, device=device)
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
        cache=20 * small.nbytes / best(lambda: [small.sum() for _ in range(20)]),
        random={w: _random_rows(source, target, w, best) for w in (64, 128, 256, 512, 1024)},
        matmul=2 * 8192**3 / best(lambda: torch.mm(matrix, matrix)),
        working_set=size,
    )


def _random_rows(
    source: Tensor, target: Tensor, width: int, best: Callable[[Callable[[], object]], float]
) -> float:
    table = source.view(-1, width // 4)
    rows = torch.randint(0, len(table), (256 * MIB // width,), device=source.device)
    out = target.view(-1, width // 4)[: len(rows)]
    return 2 * out.nbytes / best(lambda: torch.index_select(table, 0, rows, out=out))
