"""What hangs on the loop: early stop, traces, TensorBoard, and the figures of the display."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest
from rich.console import Console

import backends
from recis_core.callbacks import Step
from recis_core.early_stop import EarlyStop
from recis_core.profile import Profile
from recis_core.progress import ProgressBar, memory_in_use
from recis_core.tensorboard import TensorBoard
from roofline.meter import Meter
from tests.small_mse import ROOFS, recis, shrink, train
from tests.toy import MemoryReader, Record, toy_batches, toy_trainer


@pytest.fixture(scope="module")
def kernels():
    return backends.load("torch")


@pytest.mark.parametrize(
    ("metric", "values", "failed"),
    [
        ("auc", [0.6, 0.7, 0.65, 0.7], [0, 0, 1, 2]),
        ("log_loss", [0.6, 0.7, 0.5, math.nan], [0, 1, 0, 1]),
        ("click.grouped_auc", [math.nan, 0.5], [1, 0]),
    ],
)
def test_patience_counts_evaluations_without_a_better_one(metric, values, failed):
    early = EarlyStop(metric, 2)
    for step, (value, want) in enumerate(zip(values, failed, strict=True), 1):
        early.see({"rows": 9.0, metric: value}, step)
        assert early.failed == want
        assert early.reached == (want >= 2)
    with pytest.raises(ValueError, match="the evaluation has no"):
        early.see({"rows": 9.0, "other": 1.0}, 9)
    with pytest.raises(ValueError, match="metric is 'loss', not one of auc"):
        EarlyStop("loss")


def stopping(kernels, aucs, callbacks=(), overlap=1, **given):
    """A run that evaluates every step, with `aucs` for results."""
    reader = MemoryReader(toy_batches(100, 20), epochs=None)
    trainer = toy_trainer(
        kernels, reader, callbacks=callbacks, evaluate_every=1, valid=list, overlap=overlap, **given
    )
    results = iter(aucs)
    trainer.evaluate = lambda batches: {"rows": 1.0, "auc": next(results)}
    return trainer


@pytest.mark.parametrize("overlap", [0, 1])
def test_training_stops_early_and_says_so(kernels, overlap):
    said, record = io.StringIO(), Record()
    bar = ProgressBar(Console(file=said, width=200), seconds=0.0)
    aucs = [0.6, 0.7, 0.7, 0.69, 0.8]
    trainer = stopping(kernels, aucs, (bar, record), overlap, patience=2)
    trainer.train()
    assert trainer.step == 4
    assert record.reasons == ["stopped"]
    assert "stopped early: auc was best, 0.7000, at step 2, 2 evaluations ago" in said.getvalue()
    assert trainer.reader.state() == {"epoch": 0, "at": 4}


def test_patience_survives_a_resumption(kernels, tmp_path):
    first = stopping(kernels, [0.7, 0.6], folder=tmp_path, steps=2, patience=3)
    first.train()
    second = stopping(kernels, [0.6, 0.65, 0.9], folder=tmp_path, patience=3)
    second.train(resume=True)
    assert (second.step, second.early.best, second.early.best_step) == (4, 0.7, 1)
    third = stopping(kernels, [], folder=tmp_path, patience=3)
    third.train(resume=True)
    assert third.step == 4


def test_a_trace_of_a_few_steps_is_written(kernels, tmp_path):
    reader = MemoryReader(toy_batches(160, 20))
    toy_trainer(kernels, reader, callbacks=(Profile(tmp_path / "p", warm=2, steps=2),)).train()
    [path] = (tmp_path / "p").iterdir()
    assert path.name == "step-3.json"
    names = [event.get("name", "") for event in json.loads(path.read_text())["traceEvents"]]
    assert any("addmm" in name or "linear" in name for name in names)


def test_a_run_shorter_than_its_trace_leaves_what_there_is(kernels, tmp_path):
    reader = MemoryReader(toy_batches(60, 20))
    toy_trainer(kernels, reader, callbacks=(Profile(tmp_path, warm=1, steps=9),)).train()
    assert [path.name for path in tmp_path.iterdir()] == ["step-2.json"]


def test_tensorboard_that_is_missing_is_said_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[tensorboard\]'"):
        TensorBoard(tmp_path)
    shrink(monkeypatch)
    assert train(tmp_path, "--tensorboard", tmp_path / "board") != 0
    assert "tensorboard is not installed" in capsys.readouterr().err
    assert not (tmp_path / "board").exists()


def test_tensorboard_gets_the_figures(kernels, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    batches = toy_batches(60, 20)
    reader = MemoryReader(batches)
    board = TensorBoard(tmp_path)
    record = Record()
    toy_trainer(kernels, reader, callbacks=(board, record), valid=lambda: batches).train()
    found = events.EventAccumulator(str(tmp_path))
    found.Reload()
    losses = [(e.step, e.value) for e in found.Scalars("train/loss")]
    assert losses == [(s.step, pytest.approx(s.loss)) for s in record.steps]
    assert found.Scalars("valid/auc")[0].step == 3


def test_the_display_has_memory_auc_and_what_is_lent(kernels):
    said = io.StringIO()
    batches = toy_batches(60, 20)
    bar = ProgressBar(Console(file=said, width=200), 0.0, lambda step: {"MBU": 0.125 * step.step})
    reader = MemoryReader(batches)
    toy_trainer(
        kernels, reader, callbacks=[bar], valid=lambda: batches, evaluate_every=2
    ).train()  # fmt: skip
    lines = [line for line in said.getvalue().splitlines() if "rows/s" in line]
    assert "MBU 12.5%" in lines[0]
    assert "AUC" not in lines[0]
    assert "AUC 0." in lines[2]
    assert all(" GB" in line for line in lines)
    held = bytearray(b"1") * (64 << 20)
    assert memory_in_use("cpu") > len(held)


def test_the_meter_measures_recent_steps():
    class Trace:
        needed = None

    meter = Meter(Trace(), ROOFS, flops=2e9)  # type: ignore[arg-type]
    step = Step(1, 0, 8, 0.5, None, False, 0.1)
    assert meter(step) == {"MFU": pytest.approx(2e9 / 0.1 / ROOFS.matmul)}
    Trace.needed = 1e6
    assert meter(step)["MBU"] == pytest.approx(1e6 / 0.1 / ROOFS.copy)


def test_the_command_takes_all_of_it(tmp_path, monkeypatch, capsys):
    shrink(monkeypatch)
    given = ("--evaluate-every", 6, "--patience", 1, "--metric", "log_loss", "--overlap", 1)
    assert train(tmp_path, *given, "--profile", tmp_path / "trace", "--epochs", 2) == 0
    err = capsys.readouterr().err
    assert "MBU" in err
    assert [path.name for path in (tmp_path / "trace").iterdir()] == ["step-6.json"]
    assert train(tmp_path / "x", "--metric", "speed") == 2
    assert "no metric 'speed'" in capsys.readouterr().err
    assert recis("train", "--help") == 0
    assert "--overlap" in capsys.readouterr().out
