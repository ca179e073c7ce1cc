"""A training step against the roofs: every moment has one stage, the waterfall adds up."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from recis_core.kernels import every_op
from recis_core.spec import Traffic
from reports import records
from roofline.kinds import StepRecord
from roofline.kineto import summed, union
from roofline.observer import Counted, Seen
from roofline.stages import STAGES, WAIT, Span, Timeline, parts_of, stage_of
from roofline.step import first_to_fix, step_facts, step_time, waterfall
from tests.small_mse import ROOFS, recis, shrink

# A step of one second: read, route, forward, gradient, update.
SPANS = [
    Span(0.10, 0.15, "read", "columns_unpack"),
    Span(0.25, 0.30, "route", "ids_partition"),
    Span(0.30, 0.35, "locate", "id_map.find"),
    Span(0.40, 0.50, "forward"),
    Span(0.80, 0.90, "gradient", "segment_sum_grad"),
    Span(0.92, 0.97, "update", "rows_adam"),
]


def test_every_op_has_a_stage():
    for op in every_op():
        if op.name != "auc_grouped":  # of evaluation, not of a step
            assert stage_of(op.name) in STAGES
    assert stage_of("rows_reduce_adamw") == "update"
    assert stage_of("rows_reduce") == "gradient"
    with pytest.raises(KeyError, match="new_thing"):
        stage_of("new_thing")


def test_every_moment_of_a_step_has_one_stage():
    parts = parts_of(SPANS, 0.0, 1.0)
    assert sum(p.seconds for p in parts) == pytest.approx(1.0)
    assert all(a.end == b.begin for a, b in pairwise(parts))
    between = {}
    for p in parts:
        if not p.op:
            between[p.stage] = between.get(p.stage, 0.0) + p.seconds
    assert between == pytest.approx(
        {WAIT: 0.10, "transform": 0.10, "forward": 0.05, "backward": 0.30, "update": 0.05}
    )
    line = Timeline(parts)
    assert [line.at(t).stage for t in (0.05, 0.12, 0.2, 0.45, 0.6)] == [
        WAIT, "read", "transform", "forward", "backward",
    ]  # fmt: skip
    assert line.at(1.5) is None


def test_spans_within_spans_are_not_counted_twice():
    parts = parts_of([Span(0, 4, "pool", "outer"), Span(1, 2, "pool", "inner")], 0.0, 5.0)
    assert [(p.op, p.seconds) for p in parts] == [("outer", 4.0), ("", 1.0)]


def seen(device=None):
    parts = parts_of(SPANS, 0.0, 1.0)
    moved = Traffic(10**9, 10**9, 2 * 10**9)
    calls = [Counted("rows_adam", moved, 10**9), Counted("ids_partition", moved, 10**6)]
    return Seen(
        seconds=[1.0, 1.0], rows=[100, 100], cores=[1.5, 1.5], parts=[parts, parts],
        beside=[0.0, 0.0], losses=[0.7, 0.6], counted=[calls], flops=[10**9], device=device,
    )  # fmt: skip


ORIGINS = {"rows_adam": "a", "ids_partition": "b", "id_map": "c", "segment_sum_grad": "a",
           "columns_unpack": "a"}  # fmt: skip


def test_the_waterfall_adds_up_from_the_bound_to_the_step():
    step = step_time(seen(), ROOFS)
    parts = {p["name"]: p["seconds"] for p in waterfall(step, ROOFS)}
    assert sum(parts.values()) == pytest.approx(1.0)
    assert parts["step minimum at the copy roof"] == pytest.approx(1.001e9 / 20e9)
    assert parts["dense arithmetic at its roof"] == pytest.approx(0.01)
    assert parts["dense above its roof"] == pytest.approx(0.45 - 0.01)
    assert parts[WAIT] == pytest.approx(0.1)
    # Two calls of 1 GB each way: 0.1 s each by the copy, 0.1 s by the write roof of 10 GB/s.
    assert parts["bytes beyond the minimum"] == pytest.approx(0.2 - 1.001e9 / 20e9)
    assert "overlap and rest" not in parts
    assert first_to_fix(step, ROOFS).startswith("dense above its roof: 440.00 ms of 1000.00 ms")


def test_the_figures_of_a_step_are_those_of_its_parts():
    facts = step_facts(seen(), ROOFS, ORIGINS)
    assert sum(s["seconds"] for s in facts["stages"]) == pytest.approx(1.0)
    assert facts["rows_per_s"] == 100
    assert facts["busy"] == pytest.approx(0.75)
    assert facts["mbu"] == pytest.approx(1.001e9 / 20e9)
    assert facts["dense"]["mfu"] == pytest.approx(0.01 / 0.45)
    assert facts["sparse"]["seconds"] == pytest.approx(1.0 - 0.45 - 0.1)
    assert facts["ops"][0]["op"] == "segment_sum_grad"


def trace():
    """Microseconds: a forward on the main thread, autograd's launches beside it, a side stream."""

    def mark(name, ts, dur, tid=1):
        return dict(cat="user_annotation", name=f"recis:{name}", ts=ts, dur=dur, tid=tid)

    def work(launched, tid, ts, dur, number):
        yield dict(cat="cuda_runtime", name="launch", ts=launched, dur=1, tid=tid,
                   args={"correlation": number})  # fmt: skip
        yield dict(cat="kernel", name="k", ts=ts, dur=dur, tid=7, args={"correlation": number})

    return [
        mark("pool:rows_pool", 0, 10), mark("forward:", 20, 10), mark("update:rows_adam", 60, 10),
        mark("route:ids_partition", 0, 50, tid=2),
        *work(5, 1, 100, 40, 1),  # rows_pool
        *work(25, 1, 140, 10, 2),  # the forward
        *work(40, 3, 150, 30, 3),  # autograd's thread, while the main one waits in the backward
        *work(65, 1, 200, 20, 4),  # rows_adam
        *work(15, 2, 110, 20, 5),  # a stream beside the first kernel
        dict(cat="gpu_memcpy", name="copy", ts=240, dur=5, tid=7, args={}),
        dict(cat="gpu_user_annotation", name="recis:forward:", ts=100, dur=1, tid=7),
    ]  # fmt: skip


def test_device_work_goes_to_what_launched_it():
    found = summed(trace(), 1)
    micro = {key: round(seconds * 1e6) for key, seconds in found.ops.items()}
    assert micro == {
        ("pool", "rows_pool"): 40, ("forward", ""): 10, ("backward", ""): 30,
        ("update", "rows_adam"): 20, ("route", "ids_partition"): 20, ("update", ""): 5,
    }  # fmt: skip
    # 40 + 10 + 30 + 20 + 5; the side stream's ran beside the first kernel.
    assert found.busy == pytest.approx(105e-6)
    assert found.kernels == 6
    assert summed(trace(), 2).busy == pytest.approx(found.busy / 2)


def test_a_device_is_idle_when_nothing_runs():
    device = summed(trace(), 1)
    scaled = seen(device)
    scaled.seconds[:] = [200e-6] * 2
    step = step_time(scaled, ROOFS)
    assert step.idle is not None
    assert step.exposed + step.idle == pytest.approx(95e-6)
    assert step.hidden == pytest.approx(20e-6)
    parts = waterfall(step, ROOFS)
    assert sum(p["seconds"] for p in parts) == pytest.approx(200e-6)


def test_union_counts_overlaps_once():
    assert union([(0, 2), (1, 3), (5, 6), (5, 5.5)]) == 4


def test_the_command_traces_a_real_step(tmp_path, monkeypatch, capsys):
    shrink(monkeypatch)
    out = tmp_path / "r.jsonl"
    words = ("--data", tmp_path / "data", "--batch-size", 200, "--steps", 3, "--out", out)
    assert recis("roofline", "--step", "mse", "--backend", "torch", *words, "--json") == 0
    said = capsys.readouterr()
    [r] = records.read(out, StepRecord)
    assert json.loads(said.out.splitlines()[-1])["kind"] == "step"
    assert r.steps == 3
    assert sum(s["seconds"] for s in r.stages) == pytest.approx(r.seconds)
    assert sum(p["seconds"] for p in r.waterfall) == pytest.approx(r.seconds)
    by_stage = {s["stage"]: s for s in r.stages}
    for stage in ("read", "route", "locate", "pool", "gradient", "update"):
        assert by_stage[stage]["bytes"] > 0, stage
        assert by_stage[stage]["calls"] >= 1, stage
    assert by_stage["forward"]["seconds"] > 0
    assert by_stage["backward"]["seconds"] > 0
    # Forward and backward of the dense layers: six flops a weight and row, and a little.
    assert r.dense["flops"] > 0
    assert r.bytes > 0
    assert f"fix first: {r.first}" in said.err


def test_a_step_and_ops_are_not_asked_for_at_once(capsys):
    assert recis("roofline", "--step", "mse", "--op", "ids_mod") == 2
    assert "--step measures a training step" in capsys.readouterr().err
