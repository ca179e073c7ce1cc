"""A record of every kind, as a page may meet them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DEVICE = {"name": "a processor", "kind": "cpu", "host": "a processor", "cores": 2}
ROOFS = {
    "device": "a processor", "kind": "cpu", "cores": 2, "threads": 2, "memory": 1 << 34,
    "caches": {"L2": 1 << 20}, "copy": 20e9, "read": 15e9, "write": 10e9, "update": 18e9,
    "cache": 100e9, "random": {"64": 4e9, "256": 8e9}, "matmul": 1e11, "working_set": 1 << 30,
    "quick": False, "random_sets": {"1048576": {"64": 9e9}}, "atomics": {"one": 1e9},
}  # fmt: skip
STAMP: dict[str, Any] = {
    "device": DEVICE, "threads": 2, "versions": {"python": "3.12.1", "torch": "2.11"},
    "taken": "2026-01-01T00:00:00+00:00", "schema": 1,
}  # fmt: skip


def op(name: str, case: str, backend: str, seconds: float | None, **more: Any) -> dict[str, Any]:
    numbers: dict[str, Any] = {"status": "ok"}
    if seconds:
        numbers |= {
            "median": seconds, "spread": 0.02, "samples": [seconds] * 3,
            "minimum_bytes": 1_000_000, "minimum_gbs": 1e-3 / seconds,
            "requested_gbs": 2e-3 / seconds, "mbu": 1e6 / seconds / 20e9, "attainment": 0.5,
            "bound_by": "memory", "flops": 500_000, "recis_bytes": 3_000_000,
        }  # fmt: skip
    return {
        **STAMP, "op": name, "op_version": "v", "case": case, "asked": backend, "run": backend,
        "seed": 0, "roofs": ROOFS, **numbers, **more,
    }  # fmt: skip


def step(**more: Any) -> dict[str, Any]:
    return {
        **STAMP, "kind": "step", "workload": "mse", "size": "tiny", "backend": "numba",
        "origins": {}, "batch": 512, "steps": 20, "samples": [0.01], "seconds": 0.01,
        "rows_per_s": 51200.0, "bytes": 2e7, "mbu": 0.1,
        "stages": [
            {"stage": "pool", "seconds": 0.004, "share": 0.4, "bytes": 1e7, "gbs": 2.5,
             "mbu": 0.125, "calls": 3, "between": 0.001},
            {"stage": "idle", "seconds": None, "share": None, "bytes": 0, "gbs": None,
             "mbu": None, "calls": 0, "between": 0.0},
        ],
        "ops": [{"op": "segment_sum", "backend": "numba", "stage": "pool", "calls": 3,
                 "seconds": 0.003, "bytes": 1e7, "mbu": 0.16, "gbs": 3.3, "share": 0.3}],
        "waterfall": [{"name": "step minimum at the copy roof", "seconds": 0.001},
                      {"name": "dense arithmetic at its roof", "seconds": 0.002},
                      {"name": "ops above their bounds", "seconds": 0.008},
                      {"name": "overlap and rest", "seconds": -0.001}],
        "sparse": {"seconds": 0.006, "bytes": 2e7, "mbu": 0.17},
        "dense": {"seconds": 0.004, "flops": 2e8, "mfu": 0.5}, "exposed": 0.0, "idle": None,
        "busy": 0.9, "first": "ops above their bounds: most of it segment_sum", "roofs": ROOFS,
        "command": "recis roofline --step mse --size tiny", **more,
    }  # fmt: skip


def compare(**more: Any) -> dict[str, Any]:
    def contender(name: str, times: list[float], **facts: Any) -> dict[str, Any]:
        return {"name": name, "what": "backend", "status": "ok", "reason": "", "seconds": times,
                "rows_per_s": 5e4 if times else None, "losses": [0.7], "origins": {},
                "stages": [{"stage": "pool", "seconds": t / 2} for t in times[:1]],
                **facts}  # fmt: skip

    return {
        **STAMP, "kind": "compare", "workload": "mse", "size": "small", "batch": 512, "seed": 0,
        "warm": 3, "turn": 5, "rounds": 2, "agreed": True,
        "contenders": [
            contender("numba", [0.010, 0.011]), contender("torch", [0.020, 0.021]),
            contender("other", [], status="skipped", reason="not installed"),
        ],
        "ratios": [{"name": "torch", "over": "numba", "ratio": 1.95, "low": 1.9, "high": 2.0,
                    "level": 0.95}],
        "command": "recis compare mse --backend numba,torch", **more,
    }  # fmt: skip


def every() -> list[dict[str, Any]]:
    """All kinds; `ids_mod` on `numba` measured twice; one case wrong, one skipped."""
    gpu = {"name": "NVIDIA H100 80GB HBM3", "kind": "cuda", "host": "a host", "cores": 16}
    later = {"taken": "2026-02-01T00:00:00+00:00"}
    shared = {"copy": 3e12, "share_of_copy": 0.5, "goal_percent": 60}
    absent = dict.fromkeys(("mbu", "minimum_bytes", "minimum_gbs"))
    anchor = {"roofs": shared, "device": gpu, "requested_bytes": 10**7, **absent}
    sheet = {"name": "a part", "source": "a data sheet", "memory": 30e9, "matmul": 2e11}
    return [
        {**STAMP, "kind": "roofs", "roofs": ROOFS, "sheet": sheet, "command": "recis roofline"},
        op("ids_mod", "n=1-skew=0.0", "numba", 2e-4),
        op("ids_mod", "n=1-skew=0.0", "numba", 1e-4, **later),
        op("ids_mod", "n=1-skew=0.0", "torch", 3e-4),
        op("rows_gather", "<b>&", "numba", 4e-4, run="numba (composed)"),
        op("rows_gather", "n=2", "numba", None, status="wrong", reason="out: far <off>"),
        op("rows_gather", "n=2", "torch", None, status="skipped", reason="not enough memory"),
        op("rows_gather", "D=8", "cuda", 1e-3, **anchor),
        op("ids_mod", "conformance, 3 of 4 checks", "cuda", None, device=gpu, status="wrong",
           reason="empty int64: out differs"),
        step(),
        compare(),
        {**STAMP, "kind": "counters", "op": "ids_mod", "op_version": "v", "case": "n=1",
         "asked": "cuda", "run": "cuda", "status": "ok", "reason": "", "read_bytes": 2_000_000,
         "written_bytes": 1_000_000, "minimum_bytes": 2_000_000, "waste": 1.5, "kernels": 2,
         "device": gpu},
        {**STAMP, "kind": "something new", "value": 1},
    ]  # fmt: skip


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path
