"""Overlap on a GPU: late streams and poisoned memory change nothing, and nobody waits."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
import traceback
import warnings
from functools import partial

import numpy as np
import pytest
import torch

import backends
from recis_core.embedding import Embedding
from tests.test_guard import Ordered
from tests.toy import MemoryReader, Record, ToyModel, toy_batches, toy_trainer

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
DEVICE = torch.device("cuda")
LATE = 4_000_000  # cycles: about 2 ms
BACKENDS = ("cuda", "triton", "cupy", "torch")


def load(name):
    try:
        return backends.load(name, device=DEVICE)
    except backends.BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def kernels():
    return load("cuda")


def poison(value: int) -> None:
    """Overwrite what the current stream's memory has free, small and large."""
    for _ in range(2):
        held = [
            torch.full((1 << k,), value, dtype=torch.uint8, device=DEVICE)
            for k in range(9, 21)
            for _ in range(4)
        ]
        del held


class Hostile(Embedding):
    """Late at every place, on whichever stream, and its streams' free memory overwritten."""

    value = 0xAB
    update = LATE  # how late rows are updated, after the loss and the norm are known

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        for group in self.groups:
            group.look = self._late(group.look)

    def _late(self, call):
        def late(*given):
            torch.cuda._sleep(LATE)
            poison(self.value)
            made = call(*given)
            torch.cuda._sleep(LATE)
            return made

        return late

    def prepare(self, batch, train):
        return self._late(super().prepare)(batch, train)

    def lookup(self, batch, train):
        torch.cuda._sleep(LATE)
        leaves = super().lookup(batch, train)
        torch.cuda._sleep(LATE)
        poison(self.value)
        return leaves

    def accumulate(self):
        torch.cuda._sleep(LATE)
        super().accumulate()


def late_update(step, cycles):
    def late(*given):
        torch.cuda._sleep(cycles)
        step(*given)

    return late


def losses(kernels, overlap, embedding=Embedding, steps=12, **given):
    record = Record()
    batches = toy_batches(steps * given.get("accumulation", 1) * 64, 64)
    trainer = toy_trainer(
        kernels,
        MemoryReader(batches),
        model=partial(ToyModel, weight="weight"),
        callbacks=(record,),
        overlap=overlap,
        embedding=partial(embedding, log2_rows=7),
        **given,
    )
    if issubclass(embedding, Hostile):
        trainer.row_optimizer.step = late_update(trainer.row_optimizer.step, embedding.update)
    trainer.train()
    assert [s.step for s in record.steps] == list(range(1, steps + 1))
    return np.array(record.losses)


@pytest.mark.parametrize("guard", [0, 10])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("name", BACKENDS)
def test_overlapped_losses_are_the_same(name, guard, accumulation):
    kernels, given = load(name), dict(guard=guard, accumulation=accumulation, clip=0.5)
    want = losses(kernels, 0, **given)
    for depth in (1, 2):
        np.testing.assert_allclose(losses(kernels, depth, **given), want, rtol=1e-6)


@pytest.mark.parametrize("guard", [0, 10])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_late_streams_and_poisoned_memory_change_nothing(kernels, guard, accumulation):
    given = dict(guard=guard, accumulation=accumulation)
    want = losses(kernels, 0, **given)
    for depth in (1, 2):
        got = losses(kernels, depth, Hostile, **given)
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_memory_that_is_not_held_is_caught(kernels):
    """What the test above would see if a batch's memory were free once its step is launched."""
    command = [sys.executable, "-m", "tests.unheld_run"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200)
    if run.returncode:
        assert re.search("illegal memory access|address space", run.stderr), run.stderr
        return
    found = np.array(run.stdout.split(), float)
    assert not np.allclose(found, losses(kernels, 0, guard=0), rtol=1e-4)


@pytest.mark.parametrize("guard", [0, 10])
def test_a_step_is_launched_while_the_device_is_busy(kernels, guard):
    """No number is waited for between the batch and the optimizers, new ids or not."""
    took = []

    class Timed(Record):
        def on_start(self, trainer):
            launch = trainer.launch_step

            def launch_late(*given):
                torch.cuda.synchronize()
                done = torch.cuda.Event()
                torch.cuda._sleep(50 * LATE)
                done.record()
                begin = time.perf_counter()
                launched = launch(*given)
                took.append((time.perf_counter() - begin, done.query()))
                return launched

            trainer.launch_step = launch_late

    batches = toy_batches(10 * 64, 64)
    trainer = toy_trainer(
        kernels,
        MemoryReader(batches),
        overlap=1,
        guard=guard,
        clip=0.5,
        callbacks=(Timed(),),
        # Room for all ids, as growing is not of a steady step.
        embedding=partial(Embedding, log2_rows=12),
    )
    trainer.train()
    # The first steps load kernels.
    assert not any(done for _, done in took[3:]), took


@pytest.mark.parametrize("guard", [0, 10])
def test_a_step_never_waits_for_all_that_was_launched(kernels, guard):
    """torch names every synchronisation of a steady step; waiting for one event is none."""
    found = []

    def seen(message, *about):
        if "called a synchronizing" in str(message):
            found.append("".join(traceback.format_stack(limit=12)))

    class Watching(Record):
        def on_step(self, trainer, step):
            torch.cuda.set_sync_debug_mode("warn" if 5 <= step.step < 10 else "default")

    batches = toy_batches(12 * 64, 64)
    trainer = toy_trainer(
        kernels,
        MemoryReader(batches),
        overlap=1,
        guard=guard,
        clip=0.5,
        callbacks=(Watching(),),
        embedding=partial(Embedding, log2_rows=12),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = seen
        try:
            trainer.train()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert not found, found[0]


@pytest.mark.parametrize("name", BACKENDS)
def test_a_step_that_the_device_leaves_out_changes_no_bit(name):
    kernels = load(name)
    batches = toy_batches(6 * 64, 64)
    for bad in batches[2:4]:
        bad.columns["dense"][3, 1] = math.nan
    found = []
    for own in (batches, batches[:2] + batches[4:]):
        trainer = toy_trainer(kernels, Ordered(own), guard=2, clip=0.5, callbacks=(Record(),))
        trainer.train()
        found.append((trainer.callbacks[0], trainer))
    (record, trainer), (expected, good) = found
    assert [s.skipped for s in record.steps] == [False, False, True, True, False, False]
    assert trainer.row_optimizer.state_dict() == good.row_optimizer.state_dict()
    kept = [s.loss for s in record.steps if not s.skipped]
    np.testing.assert_allclose(kept, expected.losses, rtol=1e-6)
    states = [list(t.dense_optimizer.state.values()) for t in (trainer, good)]
    for own, other in zip(*states, strict=True):
        assert own["step"] == other["step"]
        torch.testing.assert_close(own["exp_avg_sq"], other["exp_avg_sq"])


def test_the_watch_sees_a_wait(kernels):
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *about: found.append(str(message))
        torch.cuda.set_sync_debug_mode("warn")
        try:
            torch.ones(3, device=DEVICE).sum().item()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert any("called a synchronizing" in message for message in found)


def test_evaluation_overlapped_is_the_same(kernels):
    batches = toy_batches(400, 64)
    found = []
    for depth, embedding in ((0, Embedding), (2, Hostile)):
        trainer = toy_trainer(
            kernels, overlap=depth, embedding=partial(embedding, log2_rows=7)
        )  # fmt: skip
        trainer.train_step(batches[:2])
        found.append(trainer.evaluate(batches))
    assert found[0] == pytest.approx(found[1], rel=1e-6)
