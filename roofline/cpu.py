"""Roofs of the CPU: the best of several ways and several times of each, all threads at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recis_core.roofs import Roofs
from roofline.processor import Processor, describe

MIB = 1 << 20
WIDTHS = (64, 128, 256, 512, 1024)  # bytes of a row
SETS = (MIB, 32 * MIB)  # working sets below the one of the roof
SET_WIDTHS = (64, 256)
Work = Callable[[int], object]


@dataclass(frozen=True)
class Team:
    """Threads that work at once, and how often each measurement is made."""

    pool: ThreadPoolExecutor
    threads: int
    samples: int

    def best(self, work: Work, prepare: Callable[[], None] | None = None) -> float:
        """The least seconds of `work(0) … work(threads - 1)`; the first time does not count."""
        return min([self.timed(work, prepare) for _ in range(self.samples + 1)][1:])

    def timed(self, work: Work, prepare: Callable[[], None] | None = None) -> float:
        """Seconds of all threads' work at once; `prepare` runs before, untimed."""
        if prepare:
            prepare()
        start = time.perf_counter()
        list(self.pool.map(work, range(self.threads)))
        return time.perf_counter() - start


def measure_cpu(threads: int, quick: bool) -> Roofs:
    """The roofs with `threads` threads; `quick` takes fewer samples and leaves out details."""
    cpu = describe()
    size = working_set(cpu)
    source = np.ones(size // 4, np.float32)
    target = np.ones(size // 4, np.float32)
    with ThreadPoolExecutor(threads) as pool:
        team = Team(pool, threads, 2 if quick else 9)
        # A quick copy still moves four times the last-level cache.
        rates = streams_of(team, source, target, cpu, size // 2 if quick else size)
        rows = random_rates(team, source, target, quick)
    return Roofs(
        device=cpu.name,
        kind="cpu",
        cores=cpu.cores,
        threads=threads,
        memory=cpu.memory,
        caches=cpu.caches,
        **rates,
        **rows,
        **products(1024 if quick else 2048, 2 if quick else 5, quick),
        working_set=size,
        quick=quick,
    )


def working_set(cpu: Processor) -> int:
    """At least 1 GiB or four times the last-level cache, but no more than an eighth of memory."""
    wanted = max(1 << 30, 4 * max(cpu.caches.values()))
    return min(wanted, max(cpu.memory // 8, 64 * MIB)) // 4096 * 4096


def streams_of(
    team: Team, source: np.ndarray, target: np.ndarray, cpu: Processor, length: int
) -> dict[str, Any]:
    """Bytes a second of what goes through memory in order, and out of the second cache."""
    from roofline import streams

    a, b = (np.array_split(x[: length // 4], team.threads) for x in (source, target))
    one = np.float32(1)
    copy = min(
        team.best(lambda t: streams.copy_loop(a[t], b[t])),
        team.best(lambda t: np.copyto(b[t], a[t])),
    )
    write = min(
        team.best(lambda t: streams.write_loop(b[t], one)), team.best(lambda t: b[t].fill(1))
    )
    small = [part[: cpu.caches.get("L2", MIB) // 8] for part in a]
    again = team.best(lambda t: streams.read_again(small[t], 200))
    return {
        "copy": 2 * length / copy,
        "read": length / team.best(lambda t: streams.read_loop(a[t])),
        "write": length / write,
        "update": 2 * length / team.best(lambda t: streams.update_loop(b[t], one)),
        "cache": 200 * sum(part.nbytes for part in small) / again,
    }


def random_rates(team: Team, source: np.ndarray, target: np.ndarray, quick: bool) -> dict[str, Any]:
    """Random rows by width and working set, rows written at random, and atomic additions."""
    ahead = (0, 8) if quick else (0, 4, 8, 16)
    found: dict[str, Any] = {
        "random": {w: random_rows(team, source, target, w, ahead) for w in WIDTHS}
    }
    if quick:
        return found
    found["random_sets"] = {
        size: {w: random_rows(team, source[: size // 4], target, w, (0, 8)) for w in SET_WIDTHS}
        for size in SETS
        if size < source.nbytes
    }
    found["scatter"] = {w: scattered_rows(team, source, target, w) for w in WIDTHS}
    found["atomics"] = atomic_rates(team, target.view(np.int64))
    return found


def random_rows(
    team: Team, source: np.ndarray, target: np.ndarray, width: int, distances: tuple[int, ...]
) -> float:
    """Bytes a second of random rows of `width` bytes: read from `source`, written in order.

    The best over prefetch distances. Every call takes rows, and a stretch of output, that the
    calls before it did not, so that no cache keeps them.
    """
    from roofline import streams

    elements = width // 4
    count = rows_of_call(target, width, team.threads)
    stretches = stretches_of(target, count * elements)
    rng = np.random.default_rng(width)
    best = float("inf")
    for ahead in distances:
        drawn: list[np.ndarray] = []
        calls = [0] * team.threads

        def prepare(drawn: list[np.ndarray] = drawn) -> None:
            drawn.append(rng.integers(0, len(source) // elements, count, np.int32))

        def work(
            t: int, drawn: list[np.ndarray] = drawn, calls: list[int] = calls, ahead: int = ahead
        ) -> None:
            k, calls[t] = calls[t], calls[t] + 1
            rows = np.array_split(drawn[k], team.threads)[t]
            out = np.array_split(stretches[k % len(stretches)], team.threads)[t]
            streams.gather_loop(source, rows, out, elements, ahead)

        best = min(best, team.best(work, prepare))
    return 2 * count * width / best


def scattered_rows(team: Team, source: np.ndarray, target: np.ndarray, width: int) -> float:
    """Bytes a second of rows read in order and written at random."""
    from roofline import streams

    elements = width // 4
    count = rows_of_call(target, width, team.threads)
    stretches = stretches_of(source, count * elements)
    rng = np.random.default_rng(width)
    drawn: list[np.ndarray] = []
    calls = [0] * team.threads

    def prepare() -> None:
        drawn.append(rng.integers(0, len(target) // elements, count, np.int32))

    def work(t: int) -> None:
        k, calls[t] = calls[t], calls[t] + 1
        rows = np.array_split(drawn[k], team.threads)[t]
        part = np.array_split(stretches[k % len(stretches)], team.threads)[t]
        streams.scatter_loop(part, rows, target, elements)

    return 2 * count * width / team.best(work, prepare)


def rows_of_call(target: np.ndarray, width: int, threads: int) -> int:
    return max(min(64 * MIB, target.nbytes // 2) // width // threads * threads, threads)


def stretches_of(array: np.ndarray, length: int) -> list[np.ndarray]:
    count = len(array) // length
    return np.array_split(array[: count * length], count)


def atomic_rates(team: Team, words: np.ndarray) -> dict[str, float]:
    """Atomic additions a second of int64: all threads to one word, or to random ones."""
    from roofline import streams

    count = 1 << 20
    one = [np.zeros(count // 8, np.int32) for _ in range(team.threads)]
    rng = np.random.default_rng(0)
    spread = [rng.integers(0, len(words), count, np.int32) for _ in range(team.threads)]
    return {
        name: sum(map(len, places))
        / team.best(lambda t, p=places: streams.atomic_loop(words, p[t]))
        for name, places in (("one", one), ("spread", spread))
    }


def products(size: int, samples: int, quick: bool) -> dict[str, Any]:
    """Flops a second of a matrix product through torch: float32, and bfloat16 unless `quick`."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return {
        "matmul": product(a, b, samples),
        "bf16": None if quick else product(a.bfloat16(), b.bfloat16(), samples),
    }


def product(a: torch.Tensor, b: torch.Tensor, samples: int) -> float:
    times = []
    for _ in range(samples + 1):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return 2 * len(a) ** 3 / min(times[1:])
