"""The whole GPU run on a machine without network, in ten minutes: build, conformance, anchors.

    python3 -m reports.gpu_run reports/results/h100 [BACKEND …] [conformance | anchors]

writes `conformance.jsonl` (a record for each op of each GPU backend) and `anchors.jsonl` (a record
for each case of roofline/anchors.py and anchors_ids.py, with its share of the copy roof measured in
the same run).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import torch

import backends
from recis_core.kernels import Kernels
from reports.gpu_conformance import conform
from reports.gpu_record import DEVICE, record
from reports.records import append
from roofline.anchors import Anchor, partition, rows, segments, share
from roofline.anchors_ids import features, maps
from roofline.record import Record

LIMIT = 540.0  # seconds; what does not fit is left out, and said
SAMPLES, WARM = 15, 3
PATIENCE = 2.0  # seconds for a case
PARTS = partition, segments, rows, features, maps
SPIN = 2_000_000  # cycles the device is kept busy while a call is launched


def present() -> list[str]:
    """Backends that run on this GPU, the reference last left out."""
    return [
        b.name for b in backends.shipped() if b.absent(DEVICE) is None and b.name != "reference"
    ]


def build() -> None:
    from backends.cuda.build import SOURCES, library
    from backends.cuda.call import architecture_of

    names = [source.stem for source in sorted(SOURCES.glob("*.cu"))]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: library(name, (architecture_of(DEVICE),)), names))


def seconds(
    call: Callable[[], Any],
    cold: torch.Tensor,
    before: Callable[[], None] | None = None,
    samples: int | None = None,
    clean: bool = False,
) -> tuple[float, ...]:
    """Device times of single calls, L2 flushed before each; fewer of calls that take long.

    The flush writes `cold`, so that the call has to write back what it left: 6 to 10 µs of others'
    traffic, which anchors were taken with. `clean` reads it once more, which spares the call that.
    """
    found, patience = [], time.monotonic() + PATIENCE
    for turn in range(WARM + (samples or SAMPLES)):
        if time.monotonic() > patience and len(found) >= WARM:
            break
        if before:
            before()
        if turn < WARM:
            call()
            continue
        cold.fill_(1)
        if clean:
            cold.view(torch.int64).sum()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(SPIN)
        start.record()
        call()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1e3)
    return tuple(found)


def anchored(k: Kernels, anchor: Anchor, cold: torch.Tensor, copy: float) -> Record:
    try:
        samples = seconds(anchor.call, cold, anchor.before, anchor.samples)
        # A map's calls fill it up, and touch so much that what the L2 held does not matter.
        clean = samples
        if not anchor.pairs:
            clean = seconds(anchor.call, cold, anchor.before, anchor.samples, clean=True)
    except (RuntimeError, MemoryError) as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return record(k, anchor.op, anchor.case, "error", reason=said, kind="anchor")
    median = statistics.median(samples)
    low, _, high = statistics.quantiles(samples, n=4)
    part = share(anchor, median, copy)
    unit, rate = "%", f"{part:6.1%}"
    bare = statistics.median(clean)
    roofs: dict[str, Any] = {"copy": copy, "share_of_copy": part, "goal_percent": anchor.goal}
    roofs |= {"clean_seconds": bare, "clean_share_of_copy": share(anchor, bare, copy)}
    if anchor.pairs:
        pairs = anchor.pairs / median
        unit, rate = "G pairs/s", f"{pairs / 1e9:.1f} G pairs/s"
        roofs = {"copy": copy, "pairs": pairs, "goal_pairs": (anchor.goal or 0) * 1e9}
    goal = f", goal {anchor.goal} {unit}" if anchor.goal and k.name == "cuda" else ""
    clean_too = "" if anchor.pairs else f"({bare * 1e6:.1f} from a clean L2) "
    said = f"{median * 1e6:8.1f} us {clean_too}{rate}{goal}"
    print(f"{k.name:7} {anchor.op:17} {anchor.case:34} {said}", flush=True)
    return record(
        k,
        anchor.op,
        anchor.case,
        "ok",
        kind="anchor",
        samples=samples,
        median=median,
        spread=(high - low) / median,
        requested_bytes=anchor.nbytes,
        requested_gbs=anchor.nbytes / median / 1e9,
        roofs=roofs,
    )


def copy_roof(cold: torch.Tensor) -> float:
    """Bytes per second, read and written, of a device-to-device copy of 1 GiB."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=DEVICE).random_()
    target = torch.empty_like(source)
    return 2 * len(source) / statistics.median(seconds(lambda: target.copy_(source), cold))


def time_anchors(folder: Path, names: list[str], end: float) -> None:
    cold = torch.empty(256 << 20, dtype=torch.uint8, device=DEVICE)
    copy = copy_roof(cold)
    print(f"copy roof {copy / 1e9:.0f} GB/s", flush=True)
    for name in names:
        k = backends.load(name, device=DEVICE)
        for anchor in chain.from_iterable(part(k, DEVICE) for part in PARTS):
            if time.monotonic() > end:
                print(f"{name}: {anchor.op} and what follows left out, no time left")
                break
            append(folder / "anchors.jsonl", [anchored(k, anchor, cold, copy)])


def main(folder: Path, asked: list[str]) -> int:
    end = time.monotonic() + LIMIT
    parts = [word for word in asked if word in ("conformance", "anchors")]
    names = [word for word in asked if word not in parts] or present()
    print(f"backends {', '.join(names)} on {torch.cuda.get_device_name(DEVICE)}", flush=True)
    wrong = conform(folder, names, end - 60) if parts != ["anchors"] else 0
    if parts != ["conformance"]:
        if "cuda" in names:
            build()  # what conformance has not built already
        time_anchors(folder, names, end)
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]) > 0)
