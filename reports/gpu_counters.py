"""What Nsight Compute counts of each kernel of some anchors: what bounds them.

    python3 -m reports.gpu_counters FILE.csv [BACKEND]

writes one line for each kernel of one call, L2 flushed before: its case, shape and the counters of
METRICS, stalls as warps that wait for each instruction issued. Needs ncu and leave to count.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch

import backends
from roofline.anchors import Anchor, partition, rows, segments
from roofline.anchors_ids import maps

# Cases by op and how they begin.
CASES = (
    "rows_gather D=8 ", "rows_gather D=64 ", "rows_scatter D=8 ", "rows_scatter D=64 ",
    "segment_sum D=8 ", "segment_sum D=16 ", "segment_sum D=32 S=65536 ",
    "segment_sum_grad D=8 ", "segment_sum_grad D=16 ", "segment_sum_grad D=32 S=262144 ",
    "segment_sum_grad D=64 S=262144 ", "segment_sum_grad D=128 S=65536 ", "ids_transpose ",
    "ids_partition n=1048576 uniform P=8", "ids_partition n=4194304 uniform P=8",
    "ids_partition n=16777216 uniform P=8", "id_map ",
)  # fmt: skip
STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
METRICS = {
    "registers": "launch__registers_per_thread",
    "microseconds": "gpu__time_duration.sum",
    "dram_read_mb": "dram__bytes_read.sum",
    "dram_written_mb": "dram__bytes_write.sum",
    "dram_percent": "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
    "l2_percent": "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "l2_sectors": "lts__t_sectors.sum",
    "l2_hit_percent": "lts__t_sector_hit_rate.pct",
    "l1_percent": "l1tex__throughput.avg.pct_of_peak_sustained_active",
    "sm_percent": "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "warps_percent": "sm__warps_active.avg.pct_of_peak_sustained_active",
    **{
        f"stall_{name}": STALL.format(name)
        for name in ("long_scoreboard", "short_scoreboard", "barrier", "mio_throttle", "wait")
    },
}
# To MB and microseconds.
SCALE = {"byte": 1e-6, "kbyte": 1e-3, "mbyte": 1.0, "gbyte": 1e3, "ns": 1e-3, "us": 1.0, "ms": 1e3}


def chosen(k: Any, device: torch.device) -> Iterator[Anchor]:
    for anchor in chain.from_iterable(
        part(k, device) for part in (partition, segments, rows, maps)
    ):
        if f"{anchor.op} {anchor.case} ".startswith(CASES):
            yield anchor


def child(backend: str) -> None:
    """What runs under ncu: each case warmed up, then called once within a range of its name."""
    device = torch.device("cuda")
    k = backends.load(backend, device=device)
    cold = torch.empty(256 << 20, dtype=torch.uint8, device=device)
    runtime: Any = torch.cuda.cudart()
    for anchor in chosen(k, device):
        # The map's first case fills it: counted is a call when it is nearly full.
        for _ in range((anchor.samples or 1) + 1):
            if anchor.before:
                anchor.before()
            anchor.call()
        if anchor.before:
            anchor.before()
        cold.fill_(1)
        torch.cuda.synchronize()
        print("CASE", anchor.op, anchor.case, flush=True)
        torch.cuda.nvtx.range_push(f"{anchor.op} {anchor.case}".replace(" ", "~"))
        runtime.cudaProfilerStart()
        kept = anchor.call()
        torch.cuda.synchronize()
        runtime.cudaProfilerStop()
        torch.cuda.nvtx.range_pop()
        del kept


def counted(backend: str) -> str:
    """The raw page of ncu as CSV; RuntimeError with its words if it fails."""
    command = [
        "ncu", "--profile-from-start", "off", "--nvtx", "--csv", "--page", "raw", "--metrics",
        ",".join(METRICS.values()), "--cache-control", "none", "--clock-control", "none",
        sys.executable, "-m", "reports.gpu_counters", "--child", backend,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ncu failed: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def table(text: str) -> list[dict[str, str]]:
    """One row for each kernel in what ncu printed; ValueError if there is no table in it."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if first is None:
        raise ValueError("ncu printed no table of counters")
    given = [line for line in lines[first:] if line.startswith('"')]
    units, *found = csv.DictReader(io.StringIO("\n".join(given)))
    ranges = next(name for name in units if "Push/Pop" in name)
    rows = []
    for row in found:
        case = row[ranges].partition(":")[2].partition(":")[0].replace("~", " ")
        words = {"case": case, "kernel": row["Kernel Name"].partition("(")[0]}
        words |= {"grid": row["Grid Size"], "block": row["Block Size"]}
        for name, metric in METRICS.items():
            value = float(row[metric].replace(",", "")) * SCALE.get(units[metric].lower(), 1)
            words[name] = f"{value:.6g}"
        rows.append(words)
    return rows


def main(file: Path, backend: str) -> None:
    rows = table(counted(backend))
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} kernels in {file}")


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(sys.argv[2])
    else:
        main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "cuda")
