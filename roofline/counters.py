"""DRAM bytes of one call as a GPU's counters see them, through Nsight Compute, when it is there.

A child process draws each case and calls it once between sweeps of the L2 cache. The sweep before
leaves nothing dirty; the one after brings out what the call left there; what a sweep moves by
itself is measured too and taken off.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from recis_core.kernels import Kernels, find_op
from recis_core.roofs import Roofs
from recis_core.spec import Case, Op
from roofline.kinds import Counters
from roofline.stamp import stamp

READ, WRITTEN = "dram__bytes_read.sum", "dram__bytes_write.sum"
SWEEP_ROWS, SWEEP_WIDTH = 24_593, 1024  # 96 MiB of float32: an odd shape, to know its kernel by
SWEEPS = 2  # in front of a call; one follows it
TIMEOUT = 300.0
SCALE = {"byte": 1, "kbyte": 1e3, "mbyte": 1e6, "gbyte": 1e9, "tbyte": 1e12}


class Launch(NamedTuple):
    """One kernel: its name and grid, DRAM bytes read and written."""

    name: str
    read: float
    written: float


def count(
    kernels: Kernels, plan: Sequence[tuple[Op[..., Any], Case]], roofs: Roofs
) -> Iterator[Counters]:
    """A record for each case of the plan; what could not be counted says why."""
    device = torch.device(kernels.device)
    for op, case in plan:
        about: dict[str, Any] = dict(
            **stamp(roofs, f"recis roofline --ncu --device {device} --backend {kernels.name} "
                           f"--op {op.name} --case {case.name}"),
            op=op.name, op_version=op.version, case=case.name, asked=kernels.name,
            run=kernels.origins[op.name],
        )  # fmt: skip
        if reason := absent(device):
            yield Counters(**about, status="error", reason=reason)
            continue
        try:
            found, minimum = counted(kernels, op, case)
            read, written, launches = of_call(found)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            yield Counters(**about, status="error", reason=" ".join(str(error).split()))
            continue
        yield Counters(
            **about,
            status="ok",
            read_bytes=read,
            written_bytes=written,
            minimum_bytes=minimum,
            waste=(read + written) / minimum if minimum else None,
            kernels=launches,
        )


def absent(device: torch.device) -> str | None:
    """Why nothing can be counted, None if it can be tried."""
    if device.type != "cuda":
        return f"Nsight Compute counts on a GPU; the device is {device.type}"
    if shutil.which("ncu") is None:
        return "ncu is not on the PATH; it comes with the CUDA toolkit (Nsight Compute)"
    return None


def counted(kernels: Kernels, op: Op[..., Any], case: Case) -> tuple[list[Launch], int]:
    """The kernels of the child's profiled stretch, and the case's minimum bytes."""
    asked = json.dumps([kernels.name, kernels.device, op.name, case.name])
    words = [
        "ncu", "--csv", "--page", "raw", "--metrics", f"{READ},{WRITTEN}",
        "--profile-from-start", "off", "--cache-control", "none", "--clock-control", "none",
        sys.executable, "-m", "roofline.counters", asked,
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    said = done.stdout + done.stderr
    if "ERR_NVGPUCTRPERM" in said:
        raise ValueError("this user may not read the GPU's counters (ERR_NVGPUCTRPERM)")
    minimum = re.search(r"^minimum (\d+)$", done.stdout, re.M)
    if done.returncode or minimum is None:
        last = next(
            (line for line in reversed(said.splitlines()) if line.strip()), "it said nothing"
        )
        raise ValueError(f"ncu failed ({done.returncode}): {last}")
    return launches_of(done.stdout), int(minimum[1])


def launches_of(text: str) -> list[Launch]:
    """The kernels in what ncu printed as CSV of its raw page, in order; ValueError if it is not."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if first is None:
        raise ValueError("ncu printed no table of counters")
    rows = list(csv.DictReader(io.StringIO("\n".join(lines[first:]))))
    if not rows:
        raise ValueError("ncu counted no kernel")
    units, found = rows[0], []
    for row in rows[1:]:
        sizes = (
            float(row[name].replace(",", "")) * SCALE[units[name].lower()]
            for name in (READ, WRITTEN)
        )
        found.append(Launch(f"{row['Kernel Name']} {row.get('Grid Size', '')}", *sizes))
    return found


def of_call(found: Sequence[Launch]) -> tuple[int, int, int]:
    """DRAM bytes read and written by the call between the sweeps, and its number of kernels."""
    if len(found) < SWEEPS + 1:
        raise ValueError(f"ncu counted {len(found)} kernels, less than the sweeps")
    clean, last = found[SWEEPS - 1], found[-1]
    if not found[0].name == clean.name == last.name:
        raise ValueError(f"the sweeps are not single kernels: {found[0].name} and {last.name}")
    inside = found[SWEEPS:-1]
    read = sum(k.read for k in inside) + last.read - clean.read
    written = sum(k.written for k in inside) + last.written - clean.written
    return max(round(read), 0), max(round(written), 0), len(inside)


def child(asked: str) -> None:
    """What runs under ncu: the case warmed up, then sweeps, the call, a sweep."""
    from backends import load
    from roofline.subject import subject_of

    backend, device, op_name, case_name = json.loads(asked)
    names = [name for name in backend.split("+") if name]
    kernels = load(*names, device=device)
    op = find_op(op_name)
    subject = subject_of(op, op.case("bench", case_name), device)
    bound = getattr(kernels, op_name)
    call, before = subject.call(bound), subject.before(bound)
    scratch = torch.ones(SWEEP_ROWS, SWEEP_WIDTH, device=device)
    for _ in range(2):
        before()
        call()
    before()
    scratch.amax(1)
    torch.cuda.synchronize()
    runtime: Any = torch.cuda.cudart()
    runtime.cudaProfilerStart()
    for _ in range(SWEEPS):
        scratch.amax(1)
    kept = call()
    scratch.amax(1)
    torch.cuda.synchronize()
    runtime.cudaProfilerStop()
    del kept
    print(f"minimum {subject.traffic.minimum}", flush=True)


if __name__ == "__main__":
    child(sys.argv[1])
