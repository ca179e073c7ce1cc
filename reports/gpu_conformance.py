"""Conformance of several GPU backends at once: each op of each in a pool of processes.

Nothing is timed, and most of the time goes to compilers (Triton's, NVRTC), so every core helps.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, TimeoutError, as_completed
from functools import cache
from pathlib import Path

import backends
from backends.conformance import examine
from recis_core.kernels import Kernels, every_op
from reports.gpu_record import DEVICE, record
from reports.records import append
from roofline.record import Record

WORKERS = 12  # each has a CUDA context of its own


def conformance(k: Kernels, op: str) -> Record:
    """How many checks of `op` agreed, and what the first that did not said."""
    verdicts = list(examine(k, (op,)))
    bad = [v for v in verdicts if v.status != "ok"]
    status, reason = "ok", ""
    if bad:
        status, reason = "wrong", f"{bad[0].case} {bad[0].variant}: {bad[0].detail}"
    case = f"conformance, {len(verdicts) - len(bad)} of {len(verdicts)} checks"
    return record(k, op, case, status, reason=reason, kind="conformance")


@cache
def loaded(name: str) -> Kernels:
    return backends.load(name, device=DEVICE, checked=True)


def examined(name: str, op: str) -> Record:
    """What a process of the pool does."""
    return conformance(loaded(name), op)


def conform(folder: Path, names: Sequence[str], end: float) -> int:
    """Appends to `conformance.jsonl` until `end` (time.monotonic()); how many ops do not conform.

    Ops whose processes were not done by then are counted with those that do not, and said.
    """
    ops = [op.name for op in every_op()]
    workers = min(WORKERS, os.cpu_count() or 1)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    asked = {pool.submit(examined, name, op): (name, op) for op in ops for name in names}
    found: list[Record] = []
    try:
        for done in as_completed(asked, timeout=max(end - time.monotonic(), 0)):
            if error := done.exception():
                # Of the process, not of the op: what an op raises is in its record.
                print(f"  {' '.join(asked[done])}: {type(error).__name__}: {error}", flush=True)
                continue
            found.append(done.result())
            append(folder / "conformance.jsonl", found[-1:])
    except TimeoutError:
        left = sorted(" ".join(of) for future, of in asked.items() if not future.done())
        print(f"conformance left out, no time left: {', '.join(left)}", flush=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
    agreed = Counter(r.asked for r in found if r.status == "ok")
    for name in names:
        print(f"{name}: {agreed[name]} of {len(ops)} ops conform", flush=True)
    for r in found:
        if r.status != "ok":
            print(f"  {r.asked} {r.op}: {r.case}: {r.reason}", flush=True)
    return len(asked) - sum(agreed.values())
