"""Measuring: what disagrees gets no time, state is restored, bytes become the right figures."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import backends
from backends.arrays import Variant
from backends.boundary import Bound
from backends.conformance import present
from recis_core import draw
from recis_core.kernels import Kernels, every_op, find_op
from recis_core.roofs import Roofs
from recis_core.spec import Case, Traffic
from recis_core.tolerance import SUMMED, Disagreement
from recis_core.types import Slots
from roofline import bound as bounds
from roofline import cpu, device, rounding
from roofline import subject as subject_module
from roofline.measure import Setting, measure
from roofline.rounding import ROUNDINGS, Rounding
from roofline.subject import Rows, subject_of
from roofline.timer import Timer, Timing

ROOFS = Roofs(
    device="a processor", kind="cpu", cores=2, threads=2, memory=1 << 34,
    caches={"L1": 1 << 15, "L2": 1 << 20}, copy=20e9, read=15e9, write=10e9, update=18e9,
    cache=100e9, random={64: 4e9, 256: 8e9}, matmul=1e11, working_set=1 << 30,
)  # fmt: skip
SETTING = Setting(ROOFS, Timer(torch.device("cpu"), torch.ones(1 << 12)), budget=0.01)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 64 rows: those of a bench have a million, each of which is compared."""
    monkeypatch.setattr(subject_module, "BENCH", Variant())


def kernels_with(**calls):
    """The reference's kernels with some ops replaced."""
    right = backends.load("reference")
    bound = {op.name: getattr(right, op.name) for op in every_op()}
    for name, call in calls.items():
        bound[name] = Bound.of(find_op(name), call, "mine", "cpu")
    return Kernels("mine", bound, {**right.origins, **dict.fromkeys(calls, "mine")})


def gather_case():
    op = find_op("rows_gather")
    return op, next(c for c in op.cases("test") if c.size["dim"] == 17)


def sgd_case():
    op = find_op("rows_sgd")
    return op, next(c for c in op.cases("test") if c.size["factors"] and c.size["n"] > 9)


def gathered(blocks, slot, rows):
    content = torch.cat(blocks.views(slot))
    return torch.where(rows[:, None] >= 0, content[rows.long()], 0)


def test_a_right_kernel_gets_a_time():
    op, case = gather_case()
    found = measure(kernels_with(rows_gather=gathered), op, case, SETTING)
    assert (found.status, found.reason) == ("ok", "")
    assert found.run == "mine"
    assert len(found.samples) >= 5
    assert found.median is not None
    assert found.minimum_bytes == subject_of(op, case).traffic.minimum
    assert found.mbu == pytest.approx(found.minimum_bytes / found.median / ROOFS.copy)
    assert found.row_bytes == 17 * 4


def plus_one(blocks, slot, rows):
    return gathered(blocks, slot, rows) + 1


def half_unwritten(blocks, slot, rows, out):
    out[: len(rows) // 2] = gathered(blocks, slot, rows)[: len(rows) // 2]


class OneBuffer:
    """Always hands out the same tensor."""

    def __call__(self, blocks, slot, rows):
        found = gathered(blocks, slot, rows)
        if not hasattr(self, "kept"):
            self.kept = found
        return self.kept.copy_(found)


class LastBuffer:
    """Computes once, then hands out what it had."""

    def __call__(self, blocks, slot, rows):
        if not hasattr(self, "kept"):
            self.kept = gathered(blocks, slot, rows)
        return self.kept


class TiresLater:
    """Right for the first calls, wrong from then on."""

    calls = 0

    def __call__(self, blocks, slot, rows):
        self.calls += 1
        return gathered(blocks, slot, rows) + (self.calls > 4)


def writes_argument(blocks, slot, rows):
    found = gathered(blocks, slot, rows)
    rows[0] = 0
    return found


@pytest.mark.parametrize(
    "call",
    [plus_one, half_unwritten, OneBuffer(), LastBuffer(), TiresLater(), writes_argument],
    ids=lambda call: getattr(call, "__name__", type(call).__name__),
)
def test_a_wrong_kernel_is_refused_a_time(call):
    op, case = gather_case()
    found = measure(kernels_with(rows_gather=call), op, case, SETTING)
    assert found.status == "wrong"
    assert found.reason
    assert found.median is None
    assert found.samples == ()
    assert found.mbu is None


def sgd(blocks, rows, grad, scale, rate, lr, decay):
    backends.load("reference").rows_sgd(blocks, rows, grad, scale, rate, lr, decay)


def half_sgd(blocks, rows, grad, scale, rate, lr, decay):
    half = len(rows) // 2
    sgd(blocks, rows[:half], grad[:half], scale, None if rate is None else rate[:half], lr, decay)


def stray_sgd(blocks, rows, grad, scale, rate, lr, decay):
    sgd(blocks, rows, grad, scale, rate, lr, decay)
    absent = next(r for r in range(blocks.capacity) if r not in rows.tolist())
    blocks.views("weight")[absent >> blocks.log2_rows][absent & ((1 << blocks.log2_rows) - 1)] += 1


@pytest.mark.parametrize("call", [half_sgd, stray_sgd])
def test_an_update_that_writes_too_little_or_elsewhere_is_refused(call):
    op, case = sgd_case()
    assert measure(kernels_with(rows_sgd=call), op, case, SETTING).status == "wrong"


def test_state_is_as_drawn_for_every_sample_and_every_contender():
    op, case = sgd_case()
    subject = subject_of(op, case)
    drawn = subject.args["blocks"].tensors[0].clone()
    seen = []

    def watching(blocks, *rest):
        seen.append(torch.equal(blocks.tensors[0], drawn))
        sgd(blocks, *rest)

    for call, status in ((half_sgd, "wrong"), (watching, "ok")):
        assert measure(kernels_with(rows_sgd=call), op, case, SETTING, subject).status == status
    assert len(seen) >= 5
    assert all(seen)


def test_the_last_step_of_a_machine_is_timed_on_a_fresh_one():
    op = find_op("id_map")
    case = next(c for c in op.cases("test") if c.size["last"] == "insert" and c.size["n"] > 100)
    found = measure(backends.load("reference"), op, case, SETTING)
    assert found.status == "ok"
    assert found.minimum_bytes > 0


def test_an_error_is_a_status_of_one_line():
    def breaks(blocks, slot, rows):
        raise ValueError("first line\nsecond line")

    op, case = gather_case()
    found = measure(kernels_with(rows_gather=breaks), op, case, SETTING)
    assert (found.status, found.reason) == ("error", "ValueError: first line")


def test_a_time_beyond_the_hardware_fails_only_above_the_caches():
    large = Traffic(read=5 << 20, written=0, requested=0)
    need = bounds.bound(large, ROOFS).seconds
    assert bounds.impossible(large, need / 1.04, ROOFS) is None
    assert "attainment 1.06" in str(bounds.impossible(large, need / 1.06, ROOFS))
    small = Traffic(read=4 << 20, written=0, requested=0)
    assert bounds.impossible(small, bounds.bound(small, ROOFS).seconds / 9, ROOFS) is None


def test_an_impossible_time_is_an_error():
    op, case = gather_case()
    tiny = replace(ROOFS, caches={"L1": 1}, read=1.0, write=1.0, copy=1.0)
    found = measure(backends.load("reference"), op, case, replace(SETTING, roofs=tiny))
    assert found.status == "error"
    assert found.median is None


def test_bounds_are_those_of_reads_writes_and_the_copy_in_both():
    copy = bounds.bound(Traffic(10**9, 10**9, requested=2 * 10**9, flops=10**9), ROOFS)
    assert copy.memory == pytest.approx(max(1 / 15, 1 / 10, 2 / 20))
    assert copy.cache == pytest.approx(2 / 100)
    assert copy.arithmetic == pytest.approx(1 / 100)
    assert copy.by == "memory"
    # Two reads and a write share the bus: no stream is faster than 20 GB/s.
    mixed = bounds.bound(Traffic(2 * 10**9, 10**9, requested=0), ROOFS)
    assert mixed.memory == pytest.approx(3 / 20)
    assert bounds.mbu(Traffic(10**9, 10**9, requested=0), 0.2, ROOFS) == pytest.approx(0.5)


def test_random_row_roofs_between_and_outside_the_measured_widths():
    assert ROOFS.random_rows(64) == 4e9
    assert ROOFS.random_rows(128) == pytest.approx((4e9 * 8e9) ** 0.5)
    assert ROOFS.random_rows(1024) == 8e9
    assert ROOFS.random_rows(32) == 2e9
    assert Roofs.from_dict(ROOFS.as_dict()) == ROOFS


def test_the_timer_prepares_outside_the_clock():
    order = []
    timer = SETTING.timer
    timing = timer.time(
        lambda: order.append("call"),
        lambda: (order.append("before"), time.sleep(0.002)),
        budget=0.01,
    )
    assert order[:2] == ["before", "call"]
    assert order.count("before") == order.count("call")
    assert timing.median < 0.002
    assert len(timing.samples) >= 5


def test_median_and_spread():
    timing = Timing((1.0, 2.0, 3.0, 4.0, 100.0))
    assert timing.median == 3
    assert timing.spread == pytest.approx(2 / 3)


def test_rows_are_taken_from_and_put_back_into_several_blocks():
    op, case = sgd_case()
    blocks = present(op, case.make(), Variant(log2_rows=3), torch.device("cpu"))["blocks"]
    rows = torch.tensor([0, 7, 8, 13, blocks.capacity - 1])
    before = torch.cat(blocks.tensors).clone()
    kept = Rows.of(blocks, rows)
    assert torch.equal(kept.content.tensors[0][:5], before[rows])
    for block in blocks.tensors:
        block.fill_(1)
    kept.put_back(blocks)
    now = torch.cat(blocks.tensors)
    assert torch.equal(now[rows], before[rows])
    assert bool((now[1:7] == 1).all())


def test_rounding_admits_the_error_of_large_terms_and_nothing_else():
    judge = Rounding(SUMMED.by_dtype, lambda: {"out": ROUNDINGS * np.array([1000.0, 1000.0])})
    want = np.array([0.0, 1.0])
    judge.check("out", want + 3e-4, want, "float32")
    for wrong in (want + 5e-3, want * np.nan, want[:1]):
        with pytest.raises(Disagreement):
            judge.check("out", wrong, want, "float32")
    with pytest.raises(Disagreement):
        judge.check("other", want + 3e-4, want, "float32")


def cancelling(rows=200, dim=4):
    """Arguments of a fused Adagrad: each row's gradient is the small rest of two large terms."""
    rng = np.random.default_rng(0)
    large = rng.normal(0, 1e4, (rows, dim))
    grad = np.concatenate([large, rng.normal(0, 1, (rows, dim)) - large]).astype(np.float32)
    segments = np.arange(2 * rows).reshape(2, rows).T.reshape(-1).astype(np.int64)
    return dict(
        blocks=draw.slots(rng, rows, dim, "weight", "sum"), rows=np.arange(rows),
        grad=grad.astype(np.float64), scale=None, starts=2 * np.arange(rows + 1),
        segments=segments, weights=None, rate=None, lr=0.1, eps=1e-10, decay=0.0,
    )  # fmt: skip


def test_rounding_of_a_sum_goes_through_the_update():
    """Squares of a nearly cancelled sum: allowed is what the sum's rounding moves them, by hand."""
    op, args = find_op("rows_reduce_adagrad"), cancelling()
    before = Slots({n: a.astype(np.float64) for n, a in args["blocks"].items()})
    args["blocks"] = want = Slots({n: a.copy() for n, a in before.items()})
    op.reference(*args.values())
    found = rounding.of_rows(op, args, before, want)
    pairs = args["grad"][args["segments"]].reshape(-1, 2, 4)
    g, error = pairs.sum(1), ROUNDINGS * np.abs(pairs).sum(1)
    by_hand = 2 * np.abs(g) * error + error**2 + ROUNDINGS * before["sum"]
    np.testing.assert_allclose(found["slot 'sum'"], by_hand, rtol=1e-6)
    # Adagrad moves a weight by lr at most, however wrong its gradient.
    assert (found["slot 'weight'"] < 0.2 + ROUNDINGS * np.abs(before["weight"])).all()


@pytest.mark.parametrize(("factor", "status"), [(1, "ok"), (1.001, "wrong")])
def test_a_fused_update_of_cancelled_sums_gets_a_time_unless_it_is_wrong(factor, status):
    op = find_op("rows_reduce_adagrad")
    right = backends.load("torch").rows_reduce_adagrad

    def backwards(blocks, rows, grad, scale, starts, segments, weights, rate, lr, eps, decay):
        order = segments.view(-1, 2).flip(1).reshape(-1)  # another order of each row's two terms
        rest = starts, order, weights, rate, lr * factor, eps, decay
        right(blocks, rows, grad * np.float32(1 + 2**-22), scale, *rest)

    case = Case("cancelling", {}, lambda rng: cancelling())
    record = measure(kernels_with(rows_reduce_adagrad=backwards), op, case, SETTING)
    assert record.status == status, record.reason


def test_measured_roofs_are_kept_and_used_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(cpu, "working_set", lambda _: 8 << 20)
    found = device.measure_roofs("cpu", 2, quick=True, folder=tmp_path)
    assert min(found.copy, found.read, found.write, found.update, found.cache, found.matmul) > 0
    assert sorted(found.random) == sorted(cpu.WIDTHS)
    assert all(rate > 0 for rate in found.random.values())
    monkeypatch.setattr(device, "measure_cpu", None)
    assert device.measure_roofs("cpu", 2, quick=True, folder=tmp_path) == found
    # A quick one is not enough where an exact one is asked for.
    with pytest.raises(TypeError):
        device.measure_roofs("cpu", 2, folder=tmp_path)
    with pytest.raises(TypeError):
        device.measure_roofs("cpu", 1, quick=True, folder=tmp_path)
