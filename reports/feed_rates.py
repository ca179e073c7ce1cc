"""How many rows a second the host reads, decodes and stages, by format and number of cores.

    python3 -m reports.feed_rates FOLDER --arrow DATA --parquet DATA [--cores 2 4 8 16]

Nothing else runs meanwhile; files are in the page cache if they were just written. Every figure is
of a process of its own that may run on so many cores, as a JSON object appended to
`feed_rates.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from roofline.processor import describe
from roofline.record import versions

WARM = 6  # buffers are page-locked, Arrow's pool has its memory


def rate(asked: argparse.Namespace, data: Path, cores: int) -> dict[str, Any]:
    """Read the training files over and over on so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    import pyarrow as pa

    import backends
    from recis_core.allocator import keep_freed_memory
    from recis_core.io.stream import Position
    from reports.step_feeds import reader_of
    from workloads import find

    pa.set_cpu_count(cores)
    keep_freed_memory()
    kind: Any = find("mse")
    batch = asked.batch_size or kind.defaults(asked.size).batch_size
    model = kind.model(asked.size)
    reader = reader_of(data, model, batch, backends.load("torch", device=asked.device))
    moments, rows, nbytes = [], 0, 0
    stream = replace(reader.stream, shuffle=asked.shuffle)
    with closing(stream.staged(Position())) as source:
        for _ in islice(source, WARM):
            pass
        busy = time.process_time()
        moments.append(time.perf_counter())
        for staged, _ in islice(source, asked.batches):
            moments.append(time.perf_counter())
            rows, nbytes = rows + staged.rows, nbytes + staged.nbytes
        busy = time.process_time() - busy
    seconds = moments[-1] - moments[0]
    return {
        "rows_per_s": rows / seconds,
        "bytes_per_s": nbytes / seconds,
        "batch_s": seconds / asked.batches,
        "cpu_s": busy / asked.batches,
        "samples": [b - a for a, b in pairwise(moments)],
    }


def worker(asked: argparse.Namespace, data: Path, cores: int, out: Any) -> None:
    out.put(rate(asked, data, cores))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the record goes")
    parser.add_argument("--arrow", type=Path)
    parser.add_argument("--parquet", type=Path)
    parser.add_argument("--cores", type=int, nargs="*", default=[os.cpu_count() or 1])
    parser.add_argument("--size", default="bench")
    parser.add_argument("--device", default="cuda", help="cpu: buffers are not page-locked")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--shuffle", action="store_true", help="rows of a piece in another order")
    parser.add_argument("--batches", type=int, default=24)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    apart = get_context("spawn")
    for feed, data in (("arrow", asked.arrow), ("parquet", asked.parquet)):
        for cores in asked.cores if data else ():
            out = apart.SimpleQueue()
            process = apart.Process(target=worker, args=(asked, data, cores, out))
            process.start()
            process.join()
            if process.exitcode:
                return process.exitcode
            own = {"what": "feed", "feed": feed, "size": asked.size, "cores": cores}
            own |= {"shuffle": asked.shuffle, "device": asked.device, "host": describe().name}
            own |= {"taken": datetime.now(UTC).isoformat(timespec="seconds"), **versions()}
            own |= out.get()
            order = "shuffled" if asked.shuffle else "in order"
            print(
                f"{feed} {order}, {cores} cores: {own['rows_per_s']:,.0f} rows/s, "
                f"{own['bytes_per_s'] / 1e9:.2f} GB/s, {own['batch_s'] * 1e3:.1f} ms a batch, "
                f"{own['cpu_s'] * 1e3:.1f} ms of CPU",
                flush=True,
            )
            with (asked.folder / "feed_rates.jsonl").open("a") as file:
                file.write(json.dumps(own) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
