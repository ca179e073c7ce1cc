"""Several tasks of a model, the precision of its dense part, its compilation."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

import backends
from recis_core import dense, objective
from recis_core.data import Batch
from recis_core.inference import evaluate
from recis_core.settings import Settings
from recis_core.task import Task, tasks_of
from tests import small_mse
from tests.toy import MemoryReader, Record, ToyModel, content, toy_batches, toy_trainer
from workloads import mse
from workloads.synthetic import properties
from workloads.teacher import auc

TWO = (Task("label", group="user"), Task("late", weight="weight", name="second", share=0.5))


class TwoTasks(ToyModel):
    """The toy with a second label, weighed, whose loss counts half."""

    def __init__(self) -> None:
        super().__init__(weight="weight")
        self.columns = (*self.columns, replace(self.columns[-1], name="late"))
        self.task = TWO
        self.mlp[2] = torch.nn.Linear(16, 2)


def batches(rows: int = 400) -> list[Batch]:
    made = toy_batches(rows, 100)
    rng = np.random.default_rng(1)
    late = [torch.from_numpy(rng.integers(0, 2, (b.rows, 1)).astype(np.float32)) for b in made]
    return [Batch({**b.columns, "late": own}, b.rows) for b, own in zip(made, late, strict=True)]


def test_loss_is_the_sum_of_shares() -> None:
    first, *_ = batches()
    target = objective.target_of(TWO, first)
    logits = torch.randn(first.rows, 2)
    loss = objective.loss_of(logits, target, objective.total_of([target]))
    weights = first.dense("weight")[:, 0]
    one = binary_cross_entropy_with_logits(logits[:, 0], first.dense("label")[:, 0])
    two = binary_cross_entropy_with_logits(
        logits[:, 1], first.dense("late")[:, 0], weight=weights, reduction="sum"
    )
    assert float(loss) == pytest.approx(float(one + 0.5 * two / weights.sum()), rel=1e-6)


def test_micro_batches_of_several_tasks_add_up() -> None:
    """Each task's loss is divided by its own weight of all micro-batches."""
    parts = batches(200)
    names = ("label", "late", "weight")
    whole = Batch({n: torch.cat([b.dense(n) for b in parts]) for n in names}, 200)
    logits = torch.randn(200, 2)
    target = objective.target_of(TWO, whole)
    once = objective.loss_of(logits, target, objective.total_of([target]))
    targets = [objective.target_of(TWO, b) for b in parts]
    total = objective.total_of(targets)
    each = zip(logits.split(100), targets, strict=True)
    apart = sum(float(objective.loss_of(own, target, total)) for own, target in each)
    assert apart == pytest.approx(float(once), rel=1e-5)


def test_second_task_is_trained_and_measured(tmp_path: Path) -> None:
    kernels = backends.load("torch")
    record = Record()
    trainer = toy_trainer(kernels, MemoryReader(batches()), model=TwoTasks, callbacks=[record])
    before = trainer.model.mlp[2].weight.detach().clone()
    trainer.train()
    assert (trainer.model.mlp[2].weight != before).any(1).all()
    found = evaluate(trainer.model, trainer.embedding, kernels, batches())
    assert {"auc", "grouped_auc", "second.auc", "second.log_loss"} <= set(found)
    assert "second.rows" not in found
    assert trainer.predict(batches(), tmp_path / "p.parquet") == 400
    table = parquet.read_table(tmp_path / "p.parquet")
    names = ["row", "label", "group", "second.label", "score", "second.score"]
    assert table.column_names == names
    second = auc(table["second.score"].to_numpy(), table["second.label"].to_numpy())
    assert found["second.auc"] == pytest.approx(second, abs=1e-9)


def test_bad_tasks() -> None:
    model = ToyModel()
    model.task = (Task("label"), Task("label"))  # type: ignore[assignment]
    with pytest.raises(ValueError, match="two tasks of the model are called 'label'"):
        tasks_of(model)
    model.task = ()  # type: ignore[assignment]
    with pytest.raises(ValueError, match="no task"):
        tasks_of(model)
    first, *_ = batches()
    first.dense("late")[7] = 2
    with pytest.raises(ValueError, match=r"column 'late', row 7 of a batch: 2\.0 is not in"):
        objective.target_of(TWO, first).checks.require()


def test_two_targets_from_files(tmp_path: Path) -> None:
    config = replace(small_mse.SMALL, targets=2, valid_rows=4000)
    manifest = mse.write_mse(config, "two", tmp_path)
    assert set(manifest["ceilings"]) == {"label", "label_1"}
    assert manifest["ceiling"] == manifest["ceilings"]["label"]
    other = properties(tmp_path, "label_1")
    assert other["ceiling"] > 0.6
    assert other["dense_auc"] < 0.5  # the dense part is turned round
    model = mse.MseModel(config)
    assert [task.share for task in tasks_of(model)] == [1.0, 0.5]


def test_processes_write_the_same_files(tmp_path: Path) -> None:
    """In any number of processes; progress reaches the total."""
    told: list[tuple[int, int]] = []
    config = replace(small_mse.SMALL, targets=2)
    mse.write_mse(config, "x", tmp_path / "one")
    mse.write_mse(config, "x", tmp_path / "two", workers=2, progress=lambda *at: told.append(at))
    for file in (tmp_path / "one").rglob("*.parquet"):
        if file.is_file():
            assert (
                file.read_bytes()
                == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()
            )
    assert told[-1] == (3600, 3600)


def test_no_room_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"3,600 rows as arrow take at least 0\.\d GB"):
        mse.write_mse(small_mse.SMALL, "x", tmp_path, "arrow")
    assert not list(tmp_path.rglob("*.arrow"))


def test_bfloat16_is_close_and_leaves_rows_float32() -> None:
    kernels = backends.load("torch")
    losses = {}
    for precision in ("float32", "bfloat16"):
        record = Record()
        trainer = toy_trainer(
            kernels, MemoryReader(batches(), epochs=3), callbacks=[record], precision=precision
        )
        trainer.train()
        losses[precision] = record.losses
        assert {p.dtype for p in trainer.parameters} == {torch.float32}
        assert trainer.embedding.groups[0].blocks.dtype("weight") == torch.float32
    assert losses["float32"] != losses["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.01)
    with pytest.raises(ValueError, match="precision is 'float8', not one of float32, bfloat16"):
        Settings(precision="float8")  # type: ignore[arg-type]


def test_a_graph_of_whole_groups_trains_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, the split of the groups' leaves included, it is the step of the model as it is."""
    kernels, found = backends.load("torch"), []
    forward_of = partial(dense.forward_of, backend="aot_eager")
    monkeypatch.setattr("recis_core.train.forward_of", forward_of)
    for compile in (False, True):
        record = Record()
        batches = toy_batches(4 * 20 + 7, 20)
        trainer = toy_trainer(kernels, MemoryReader(batches), callbacks=[record], compile=compile)
        trainer.train()
        found.append((record.losses, [s.norm for s in record.steps], trainer.evaluate(batches)))
    assert found[0] == found[1]


@pytest.mark.slow
def test_train_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_mse.shrink(monkeypatch)
    how = ("--precision", "bfloat16", "--compile", "--json", "--no-trace")
    assert small_mse.train(tmp_path, *how) == 0


def test_train_in_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_mse.shrink(monkeypatch)
    assert small_mse.train(tmp_path, "--precision", "bfloat16", "--json", "--no-trace") == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["log_loss"] < 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["precision"] == "bfloat16"
    assert small_mse.train(tmp_path, "--precision", "float8") == 2


def test_one_task_trains_as_before() -> None:
    """A tuple of one task is that task."""
    kernels, ends = backends.load("torch"), []
    for task in (Task("label", group="user"), (Task("label", group="user"),)):

        def model(task=task) -> ToyModel:
            made = ToyModel()
            made.task = task  # type: ignore[assignment]
            return made

        trainer = toy_trainer(kernels, MemoryReader(toy_batches(200, 50)), model=model)
        trainer.train()
        ends.append(content(trainer))
    assert ends[0] == ends[1]
