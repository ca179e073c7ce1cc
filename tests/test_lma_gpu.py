"""`lma` on a GPU: odd batches at full length, precision, the same losses as on the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import backends
import workloads
from recis_core import optim
from recis_core.data import Batch
from recis_core.settings import Settings
from recis_core.train import Trainer
from reports.largest_batch import batch_of, users_of
from reports.run import adamw
from tests.test_lma import batch_of as batch_of_items
from workloads.lma_model import LmaModel, Shape

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
FULL = 100_000
SHAPE = Shape(FULL, 32, 512, 4, 4, (512, 128), items=20_000, positions=16_384)


def trainer_of(shape: Shape, device: str = "cuda", **how: Any) -> Trainer:
    torch.manual_seed(0)
    model = LmaModel(shape)
    settings = Settings(dense=lambda p: adamw(p, lr=5e-4), **how)
    kernels = backends.load("auto", device=device)
    return Trainer(model, kernels, optim.Adam(lr=1e-2), settings=settings)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    "lengths",
    [[FULL, 0, 0], [0, 0, FULL, 1], [0, 0], [], [1, 1], [FULL + 1000, 3], [64, 64, 0, 64]],
)
def test_odd_batches(lengths: list[int], precision: Any) -> None:
    # Attention in float32 takes twenty times as long.
    full = FULL if precision == "bfloat16" else 10_000
    lengths = [round(n * full / FULL) if n > 1 else n for n in lengths]
    trainer = trainer_of(replace(SHAPE, length=full), precision=precision)
    rng = np.random.default_rng(0)
    batch = batch_of_items([rng.integers(0, 20_000, n).tolist() for n in lengths])
    for _ in range(2):
        done = trainer.train_step([batch])
        assert np.isfinite(done["loss"])
        assert not done["skipped"]
    assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())


def test_all_ids_equal() -> None:
    trainer = trainer_of(replace(SHAPE, length=5_000), precision="bfloat16")
    for _ in range(2):
        assert np.isfinite(trainer.train_step([batch_of_items([[5] * 5_000, [5] * 7])])["loss"])


def losses(device: str, batches: list[Batch], **how: Any) -> list[float]:
    shape = replace(workloads.find("lma-16k").config("small").shape, positions=64)  # pyright: ignore
    trainer = trainer_of(shape, device, **how)
    return [trainer.train_step([batch])["loss"] for batch in batches]


def test_host_and_compiled_agree() -> None:
    """The first losses of float32: on the host, on the GPU, and compiled; bfloat16 nearly."""
    config: Any = workloads.find("lma-16k").config("small")
    batches = [batch_of(config.planted, users_of(config.planted, 6, seed)) for seed in range(4)]
    host = losses("cpu", batches)
    np.testing.assert_allclose(losses("cuda", batches), host, rtol=2e-4)
    np.testing.assert_allclose(losses("cuda", batches, compile=True), host, rtol=2e-4)
    half = losses("cuda", batches, precision="bfloat16", compile=True)
    np.testing.assert_allclose(half, host, rtol=1e-2)
