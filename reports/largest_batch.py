"""The largest batch of `lma` that can be trained: the engine's and plain PyTorch's, by one search.

    python -m reports.largest_batch FILE --workload lma-16k [--device cuda] [--limit GB]

Batches are doubled until one does not fit, then halved in between. A batch of n users is the first
n of one drawn sequence; it fits if two steps on it succeed. Appends one record to FILE.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import backends
from recis_core import optim
from recis_core.data import Batch, Ragged
from recis_core.roofs import GB
from recis_core.settings import Settings
from recis_core.train import Trainer
from reports.console import say
from reports.failure import Failure
from reports.records import append
from reports.run import adamw
from roofline.kinds import LargestBatch
from roofline.stamp import place
from workloads import find
from workloads.baselines.plain_lma import PlainTrainer
from workloads.lma import LmaConfig
from workloads.lma_data import Planted, Users, draw_users
from workloads.lma_files import EVENTS, arrow
from workloads.lma_model import LmaModel

Step = Callable[[Batch], Any]
SIGNS = ("out of memory", "alloc_failed", "can't allocate memory", "not enough memory")


def largest(fits: Callable[[int], bool], within: float = 0.0, most: int = 1 << 16) -> int:
    """The largest n for which `fits`, 0 if not even 1; `fits` must not come back after it ended.

    `within`: end when what is not known to fit is at most this share larger.
    """
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    while high - low > max(1, within * low):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def users_of(planted: Planted, n: int, seed: int = 0) -> Users:
    """The first n users of a sequence that does not depend on n: each has its own stream."""
    each = [draw_users(planted, np.random.default_rng([seed, i]), 1) for i in range(n)]
    offsets = np.concatenate([[0], np.cumsum([len(u.items) for u in each])])
    names = ("items", "candidate", "label", "band", "click", "surprise")
    joined = {name: np.concatenate([getattr(u, name) for u in each]) for name in names}
    return Users(offsets=offsets, **joined)


def batch_of(planted: Planted, users: Users) -> Batch:
    """The columns a file of these users would give."""
    table = arrow(planted, users)
    offsets = torch.from_numpy(users.offsets.astype(np.int32))
    columns: dict[str, Any] = {}
    for name in table.column_names:
        own = table[name].combine_chunks()
        if name in EVENTS:
            columns[name] = Ragged(torch.tensor(own.flatten().to_numpy()), offsets)
        else:
            columns[name] = torch.tensor(own.to_numpy()).unsqueeze(1)
    return Batch(columns, len(users.label))


def engine(config: LmaConfig, device: str, precision: Any) -> Step:
    """A step of `recis train`, layers kept whole."""
    with torch.device(device):
        model = LmaModel(config.shape)
    settings = Settings(dense=lambda p: adamw(p, lr=1e-3), precision=precision)
    kernels = backends.load("auto", device=device)
    trainer = Trainer(model, kernels, optim.Adam(lr=1e-2), settings=settings)
    return lambda batch: trainer.train_step([batch])


def plain(config: LmaConfig, device: str, precision: Any) -> Step:
    return PlainTrainer(config.shape, config.planted, device, precision).step


CONTENDERS = {"engine": engine, "plain": plain}


class Search:
    """Tries batches of one contender; `tried`: of each size whether it fit, events, seconds."""

    def __init__(self, make: Callable[[], Step], planted: Planted, device: str) -> None:
        self.make, self.planted, self.device = make, planted, device
        self.tried: list[dict[str, Any]] = []

    def fits(self, users: int) -> bool:
        """Two steps from nothing: the second has the optimizers' slots."""
        drawn = batch_of(self.planted, users_of(self.planted, users))
        began, good = time.perf_counter(), True
        try:
            step = self.make()
            for _ in range(2):
                step(drawn)
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryError) and not is_memory(error):
                raise
            good = False
        step = None
        peak = self.clear()
        took = time.perf_counter() - began
        events = len(drawn.columns["item"].flat)  # pyright: ignore[reportAttributeAccessIssue]
        self.tried.append({"users": users, "events": events, "fits": good, "seconds": took,
                           "peak_bytes": peak})  # fmt: skip
        say(f"  {users} users, {events:,} events: {'fits' if good else 'does not fit'}, "
            f"{took:.1f} s" + ("" if peak is None else f", peak {peak / GB:.1f} GB"))  # fmt: skip
        return good

    def clear(self) -> int | None:
        """Free what a try left; -> the most torch had allocated on a GPU."""
        gc.collect()
        if torch.device(self.device).type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return peak


def is_memory(error: RuntimeError) -> bool:
    """Whether a library said that memory did not suffice."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(sign in said for sign in SIGNS)


@contextmanager
def limited(device: str, limit: int | None) -> Iterator[int]:
    """At most `limit` bytes more for this process while inside; -> how many there are."""
    if torch.device(device).type == "cuda":
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, (limit or total) / total))
        try:
            yield limit or total
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_AS, (used + limit, before[1]))
    try:
        yield limit or -1
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def compared(asked: argparse.Namespace) -> LargestBatch:
    """Both contenders searched one after the other."""
    config: Any = find(asked.workload).config(asked.size)
    searches = {}
    for name in asked.contender:

        def make(name: str = name) -> Step:
            return CONTENDERS[name](config, asked.device, asked.precision)

        searches[name] = Search(make, config.planted, asked.device)
        if not searches[name].fits(1):  # libraries are loaded before any memory is counted
            raise Failure(f"{name}: not even one user fits on {asked.device}")
    found = {}
    with limited(asked.device, None if asked.limit is None else int(asked.limit * GB)) as limit:
        for name, search in searches.items():
            say(f"{name}: {asked.workload} {asked.size}, {asked.precision}")
            search.tried.clear()
            found[name] = largest(search.fits, asked.within)
            say(f"{name}: {found[name]} users")
    tried = {name: search.tried for name, search in searches.items()}
    return LargestBatch(
        **place(asked.device, f"python -m reports.largest_batch FILE --workload {asked.workload} "
                f"--size {asked.size} --device {asked.device} --precision {asked.precision} "
                f"--within {asked.within}"),
        workload=asked.workload, size=asked.size, precision=asked.precision,
        limit=limit, within=asked.within, largest=found, tried=tried,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="records, appended to")
    parser.add_argument("--workload", default="lma-16k")
    parser.add_argument("--size", default="bench")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--limit", type=float, help="GB; default: all there is")
    parser.add_argument("--within", type=float, default=0.1, help="share to end the search at")
    parser.add_argument("--contender", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    asked = parser.parse_args()
    append(asked.file, [compared(asked)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
