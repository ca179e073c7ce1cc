"""The dense part as a CUDA graph is the same step: late, of other sizes, not finite."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from recis_core.dense_graph import WARM, DenseGraph
from tests.test_guard import Ordered
from tests.test_pipeline_gpu import BACKENDS, Hostile, load, losses
from tests.toy import MemoryReader, Record, ToyModel, toy_batches, toy_trainer

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", BACKENDS)
def test_losses_are_the_same(name: str) -> None:
    kernels = load(name)
    want = losses(kernels, 0, clip=0.5)
    for depth in (0, 1, 2):
        got = losses(kernels, depth, clip=0.5, graph=True)
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("guard", [0, 10])
def test_late_streams_and_poisoned_memory_change_nothing(guard: int) -> None:
    kernels = load("cuda")
    want = losses(kernels, 0, guard=guard)
    for depth in (0, 1):
        got = losses(kernels, depth, Hostile, guard=guard, graph=True)
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_batches_of_other_sizes_go_without_it(dropout: float) -> None:
    """Dropout draws the same numbers, too."""
    found = []
    for graph in (False, True):
        record = Record()
        reader = MemoryReader(toy_batches(9 * 64 - 20, 64), epochs=2)
        model = partial(ToyModel, weight="weight", dropout=dropout)
        trainer = toy_trainer(
            load("cuda"), reader, model=model, callbacks=(record,), graph=graph, overlap=1
        )
        trainer.train()
        found.append(record.losses)
        run = trainer.run
        assert not graph or (isinstance(run, DenseGraph) and run.replays == 16 - WARM)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    kernels = load("cuda")
    batches = toy_batches(10 * 64, 64)
    for bad in batches[6:8]:
        bad.dense("dense")[3, 1] = math.nan
    found = []
    for own in (batches, batches[:6] + batches[8:]):
        record = Record()
        trainer = toy_trainer(kernels, Ordered(own), guard=2, graph=True, callbacks=(record,))
        trainer.train()
        found.append([s.loss for s in record.steps if not s.skipped])
        assert sum(s.skipped for s in record.steps) == len(own) - 8
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_what_cannot_be_captured_is_said() -> None:
    class Asking(ToyModel):
        def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            made = super().forward(inputs)
            assert math.isfinite(float(made.sum()))
            return made

    reader = MemoryReader(toy_batches(10 * 64, 64))
    trainer = toy_trainer(load("cuda"), reader, model=Asking, graph=True)
    with pytest.raises(RuntimeError, match="cannot be a CUDA graph"):
        trainer.train()
    torch.randn(4, device="cuda")  # the generator is not left inside the capture that failed
