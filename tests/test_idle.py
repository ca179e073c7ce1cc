"""How long a traced GPU did something."""

from __future__ import annotations

import pytest

from roofline.idle import busy_of, idle_of
from roofline.kineto import staged


def test_what_overlaps_counts_once():
    spans = [
        (900, 1000, 1, "last"),
        (300, 500, 1, "gather"),
        (400, 600, 2, "Memcpy HtoD"),
        (0, 100, 1, "first"),
    ]
    found = {name: 1e9 * seconds for name, seconds in busy_of(spans).items()}
    want = {"any": 500, "kernels": 400, "stream 1": 400, "stream 2": 200}
    assert found == pytest.approx(want)
    assert busy_of([]) == {"any": 0, "kernels": 0}


def test_idle_is_what_nothing_covers_of_the_second_half():
    spans = [(0, 10, 1, "first"), (600, 800, 1, "a"), (700, 850, 2, "b"), (950, 1000, 1, "last")]
    assert idle_of(spans) == pytest.approx(1 - 300 / 500)
    assert idle_of([(0, 1000, 1, "one")]) == pytest.approx(0)


def event(kind, name, begin, took):
    return {"cat": kind, "name": name, "ts": float(begin), "dur": float(took)}


def test_what_the_device_does_belongs_to_the_innermost_stage():
    events = [
        event("user_annotation", "recis:lookup:", 0, 100),
        event("user_annotation", "recis:prepare:", 10, 40),
        event("user_annotation", "Optimizer.step", 150, 50),
        event("kernel", "find", 12, 8),
        event("kernel", "beside find", 16, 8),
        event("kernel", "pool", 60, 20),
        event("gpu_memcpy", "Memcpy", 90, 4),
        event("kernel", "relu", 160, 5),
        event("cuda_runtime", "cudaLaunchKernel", 1, 100),
    ]
    found = {stage: 2e6 * seconds for stage, seconds in staged(events, 2).items()}
    assert found == pytest.approx({"prepare": 12, "lookup": 24, "": 5})
