"""Plans: expected rows against drawn ones, the step's bytes against a traced step, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import backends
from recis_core import draw
from recis_core.io import Reader
from recis_core.optim import AdamW
from recis_core.settings import Settings
from recis_core.train import Trainer
from roofline.trace import StepTrace
from tests import small_mse
from workloads import mse
from workloads.demand import Demand, shown
from workloads.plan import plan_of


@pytest.mark.parametrize(("vocab", "draws"), [(10, 5), (300, 4000), (50_000, 9000)])
@pytest.mark.parametrize("skew", [0.0, 1.0, 1.05])
def test_expected_distinct_ids(vocab: int, draws: int, skew: float) -> None:
    rng = np.random.default_rng(0)
    counts = [len(np.unique(draw.zipf(rng, draws, vocab, skew))) for _ in range(40)]
    error = np.std(counts) / np.sqrt(len(counts))
    expected = Demand(1.0, vocab, skew).distinct(draws)
    assert abs(np.mean(counts) - expected) < 4 * error + 0.002 * expected


def test_no_draws_no_ids() -> None:
    assert Demand(0.0, 10, 1.05).distinct(100) == 0
    assert Demand(3.0, 1, 1.05).distinct(100) == 1


def test_shown_of_a_cut_row() -> None:
    lengths = np.random.default_rng(0).poisson(6, 200_000)
    assert shown(6, 8) == pytest.approx(np.minimum(lengths, 8).mean(), rel=5e-3)
    assert shown(6, 100) == pytest.approx(6)


def test_plan_of_a_step_is_what_the_tracer_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the tables and the minimum bytes of a step, planned and then measured."""
    monkeypatch.setitem(mse.CONFIGS, "tiny", replace(small_mse.SMALL, parts=1))
    mse.workload.write("tiny", tmp_path, "arrow")
    trace, rule = StepTrace(warm=0, every=1, most=3), AdamW(decay=0.0)
    kernels = trace.wrap(backends.load("torch"))
    model = mse.workload.model("tiny")
    reader = Reader(tmp_path / "train", model.columns, 1000, kernels=kernels)
    trainer = Trainer(model, kernels, rule, reader, settings=Settings(), callbacks=[trace])
    trainer.train()
    seen = trace.summary(small_mse.ROOFS)
    plan = plan_of(mse.workload.model("tiny"), mse.workload.demands("tiny"), rule, batch=1000,
                   train_rows=3000)  # fmt: skip
    assert seen is not None
    assert plan.step.total == pytest.approx(seen.bytes, rel=0.02)
    assert sum(t.rows for t in plan.tables) == pytest.approx(trainer.embedding.rows, rel=0.02)
    assert plan.parameters == sum(p.numel() for p in trainer.parameters)


def test_flops_of_a_step() -> None:
    """Two per multiplication, three times forward; the sequences' sums and the first layer's
    input, whose gradient the leaves need, included."""
    plan = plan_of(mse.workload.model("tiny"), mse.workload.demands("tiny"), AdamW(), batch=64,
                   train_rows=64)  # fmt: skip
    config = mse.CONFIGS["tiny"]
    width = sum(dim * n for dim, n in config.dims) + config.dense
    layers = 2 * width * config.cross_rank + width * 64 + 64 * 32 + 32
    assert plan.flops == pytest.approx(3 * 2 * 64 * layers, rel=0.05)


def test_bench_fits_one_gpu() -> None:
    """16 M ids a step as the README says; an 80 GB GPU holds tables, slots and a step."""
    plan = plan_of(mse.workload.model("bench"), mse.workload.demands("bench"), AdamW(),
                   batch=8192, train_rows=mse.CONFIGS["bench"].train_rows)  # fmt: skip
    assert mse.ids_of_row(mse.CONFIGS["bench"]) * 8192 == pytest.approx(16e6, rel=0.01)
    assert plan.peak < 60e9


def test_plan_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert small_mse.recis("plan", "mse", "--size", "small", "--json") == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["peak"] == sum(found["memory"].values())
    assert "memory needed" in said.err
    assert small_mse.recis("plan", "movielens") == 2
    assert "cannot be planned" in capsys.readouterr().err


def test_too_little_memory_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import reports.plan

    small_mse.shrink(monkeypatch)
    monkeypatch.setattr(reports.plan, "memory_of", lambda device: 1000)
    assert small_mse.train(tmp_path) == 1
    said = capsys.readouterr().err
    assert "mse tiny would need" in said
    assert "largest table 'bag_001'" in said
    assert "rows of 96 bytes" in said
    assert not (tmp_path / "data").exists()
    assert small_mse.train(tmp_path, "--no-plan", "--no-trace", "--steps", 1) == 0


def test_paper_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert small_mse.recis("train", "mse", "--size", "paper") == 1
    assert "GB; its largest table" in capsys.readouterr().err


def test_meta_model_costs_no_memory() -> None:
    model = mse.workload.model("tiny")
    plan_of(model, mse.workload.demands("tiny"), AdamW(), batch=8, train_rows=8)
    assert all(p.device == torch.device("meta") for p in model.parameters())
