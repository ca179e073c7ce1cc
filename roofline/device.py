"""Measured roofs of a device; measured once per machine and kept in the user's cache folder."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from recis_core.roofs import Roofs
from roofline.processor import Processor, describe

# Raise when a loop or the way of counting changes; older measurements are then made again.
VERSION = 1
WIDTHS = (64, 128, 256, 512, 1024)
MIB = 1 << 20
Run = Callable[..., float]


def measure_roofs(
    device: torch.device | str = "cpu",
    threads: int | None = None,
    *,
    quick: bool = False,
    fresh: bool = False,
    folder: Path | None = None,
) -> Roofs:
    """The roofs of `device` with `threads` CPU threads (default: torch's), from the cache if there.

    `quick` takes fewer samples and accepts a stored measurement of either kind; `fresh` measures
    again. `folder` replaces the user's cache folder.
    """
    device = torch.device(device)
    threads = threads or torch.get_num_threads()
    if device.type == "cuda":
        from roofline.gpu import measure_gpu

        name = torch.cuda.get_device_name(device)
    else:
        name = f"{(cpu := describe()).name}-{cpu.cores}c"
    path = (folder or cache_folder()) / f"roofs-{_slug(name)}-{threads}t-v{VERSION}.json"
    if not fresh and path.exists():
        kept = Roofs.from_dict(json.loads(path.read_text()))
        if quick or not kept.quick:
            return kept
    roofs = measure_gpu(device, threads) if device.type == "cuda" else measure_cpu(threads, quick)
    store(path, roofs)
    return roofs


def store(path: Path, roofs: Roofs) -> None:
    """Write aside and rename, so that two commands at once never see half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(roofs.as_dict()))
        aside.replace(path)
    except OSError:
        # A home that cannot be written costs the next command a measurement, not this one.
        return


def cache_folder() -> Path:
    """Where this platform keeps a user's cached files."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "recis-suite"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def measure_cpu(threads: int, quick: bool) -> Roofs:
    """Roofs of the CPU: the best of several ways and several times of each."""
    from roofline import streams

    cpu = describe()
    size = working_set(cpu)
    # A quick copy still moves four times the last-level cache.
    length = size // 2 if quick else size
    source = np.ones(size // 4, np.float32)
    target = np.ones(size // 4, np.float32)
    a, b = (np.array_split(x[: length // 4], threads) for x in (source, target))
    samples = 2 if quick else 9
    one = np.float32(1)
    with ThreadPoolExecutor(threads) as pool:

        def run(work: Callable[[int], object], prepare: Callable[[], None] | None = None) -> float:
            times = [timed(pool, work, prepare, threads) for _ in range(samples + 1)]
            return min(times[1:])

        copy = min(
            run(lambda t: streams.copy_loop(a[t], b[t])), run(lambda t: np.copyto(b[t], a[t]))
        )
        read = run(lambda t: streams.read_loop(a[t]))
        write = min(run(lambda t: streams.write_loop(b[t], one)), run(lambda t: b[t].fill(1)))
        update = run(lambda t: streams.update_loop(b[t], one))
        small = [part[: cpu.caches.get("L2", MIB) // 8] for part in a]
        again = run(lambda t: streams.read_again(small[t], 200))
        ahead = (0, 8) if quick else (0, 4, 8, 16)
        random = {w: random_rows(source, target, w, ahead, threads, run) for w in WIDTHS}
    return Roofs(
        device=cpu.name,
        kind="cpu",
        cores=cpu.cores,
        threads=threads,
        memory=cpu.memory,
        caches=cpu.caches,
        copy=2 * length / copy,
        read=length / read,
        write=length / write,
        update=2 * length / update,
        cache=200 * sum(part.nbytes for part in small) / again,
        random=random,
        matmul=matmul("cpu", 1024 if quick else 2048, samples),
        working_set=size,
        quick=quick,
    )


def timed(
    pool: ThreadPoolExecutor,
    work: Callable[[int], object],
    prepare: Callable[[], None] | None,
    threads: int,
) -> float:
    """Seconds of `work(0) … work(threads - 1)` at once; `prepare` runs before, untimed."""
    if prepare:
        prepare()
    start = time.perf_counter()
    list(pool.map(work, range(threads)))
    return time.perf_counter() - start


def working_set(cpu: Processor) -> int:
    """At least 1 GiB or four times the last-level cache, but no more than an eighth of memory."""
    wanted = max(1 << 30, 4 * max(cpu.caches.values()))
    return min(wanted, max(cpu.memory // 8, 64 * MIB)) // 4096 * 4096


def random_rows(
    source: np.ndarray,
    target: np.ndarray,
    width: int,
    distances: tuple[int, ...],
    threads: int,
    run: Run,
) -> float:
    """Bytes a second of random rows of `width` bytes: read from `source`, written in order.

    The best over prefetch distances. Every call takes rows, and a stretch of output, that the
    calls before it did not, so that no cache keeps them.
    """
    from roofline import streams

    elements = width // 4
    count = min(64 * MIB // width, len(target) // elements // 2) // threads * threads
    stretches = np.array_split(
        target[: len(target) // (count * elements) * count * elements],
        len(target) // (count * elements),
    )
    rng = np.random.default_rng(width)
    best = float("inf")
    for ahead in distances:
        drawn: list[np.ndarray] = []
        calls = [0] * threads

        def prepare(drawn: list[np.ndarray] = drawn) -> None:
            drawn.append(rng.integers(0, len(source) // elements, count, np.int32))

        def work(
            t: int, drawn: list[np.ndarray] = drawn, calls: list[int] = calls, ahead: int = ahead
        ) -> None:
            k, calls[t] = calls[t], calls[t] + 1
            rows = np.array_split(drawn[k], threads)[t]
            out = np.array_split(stretches[k % len(stretches)], threads)[t]
            streams.gather_loop(source, rows, out, elements, ahead)

        best = min(best, run(work, prepare))
    return 2 * count * width / best


def matmul(device: torch.device | str, size: int, samples: int) -> float:
    """Flops a second of a float32 matrix product through torch."""
    a = torch.ones(size, size, device=device)
    times = []
    for _ in range(samples + 1):
        start = time.perf_counter()
        torch.mm(a, a)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times[1:])
