"""The training loop: it learns, alike on every backend; accumulation is one large batch."""

from __future__ import annotations

import io
import math
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

import backends
from recis_core.data import Batch, Ragged
from recis_core.optim import Adam, AdamW, RowwiseAdagrad, Sgd
from recis_core.progress import ProgressBar
from recis_core.tolerance import LOSS
from recis_core.train import Trainer
from tests.toy import MemoryReader, Record, ToyModel, content, ragged, toy_batches, toy_trainer

BACKENDS = ("reference", "torch", "numba")


def load(name):
    if reason := backends.find(name).absent():
        pytest.skip(reason)
    return backends.load(name)


@pytest.fixture(scope="module")
def kernels():
    return backends.load("torch")


def losses(kernels, steps=10, batch=40, **given):
    record = Record()
    accumulation = given.get("accumulation", 1)
    reader = MemoryReader(toy_batches(steps * accumulation * batch, batch), epochs=1)
    trainer = toy_trainer(kernels, reader, callbacks=(record,), **given)
    trainer.train()
    assert len(record.losses) == steps
    return np.array(record.losses), trainer, record


@pytest.mark.parametrize("name", ["torch", "numba"])
def test_it_learns(name):
    batches = toy_batches(6000, 100)
    record = Record()
    trainer = toy_trainer(
        load(name),
        MemoryReader(batches[:50], epochs=4),
        rule=Adam(lr=0.01),
        callbacks=(record,),
        valid=lambda: batches[50:],
    )
    untrained = trainer.evaluate(batches[50:])
    measured = trainer.train()
    assert abs(untrained["auc"] - 0.5) < 0.1
    assert measured["auc"] > 0.75
    assert measured["grouped_auc"] > 0.55
    assert measured["log_loss"] < 0.62
    assert 0.8 < measured["calibration"] < 1.2
    assert np.mean(record.losses[-50:]) < np.mean(record.losses[:5]) - 0.1
    assert trainer.running.mean == pytest.approx(np.mean(record.losses[-100:]))
    # At the end of each epoch, and not a second time at the end of all.
    assert [step for step, _ in record.evaluations] == [50, 100, 150, 200]
    assert record.reasons == ["done"]
    assert trainer.fraction == 1.0
    assert trainer.epoch == 4


VARIANTS = {
    "plain": {},
    "accumulated": dict(accumulation=3),
    "clipped": dict(clip=0.05),
    "weighted": dict(model=partial(ToyModel, weight="weight")),
    "all": dict(accumulation=2, clip=0.05, model=partial(ToyModel, weight="weight")),
    "sgd": dict(rule=Sgd(lr=0.5), clip=0.1),
    "rowwise": dict(rule=RowwiseAdagrad(lr=0.1), accumulation=2),
    "adamw": dict(rule=AdamW(lr=0.01, form="recis")),
}


@pytest.fixture(scope="module")
def expected():
    """Losses on the reference, each variant computed once."""
    known = {}

    def of(variant):
        if variant not in known:
            known[variant] = losses(load("reference"), **VARIANTS[variant])[0]
        return known[variant]

    return of


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["torch", "numba"])
def test_ten_losses_agree(name, variant, expected):
    got, _, _ = losses(load(name), **VARIANTS[variant])
    LOSS.check("losses", got, expected(variant), "float32")


def test_variants_differ(expected):
    """What the comparison above compares is not one and the same run."""
    runs = [expected(variant) for variant in VARIANTS]
    for i, one in enumerate(runs):
        for other in runs[:i]:
            assert not np.allclose(one, other, rtol=1e-4)


def joined(batches):
    """Batches end to end as one."""
    columns = {}
    for name, column in batches[0].columns.items():
        parts = [b.columns[name] for b in batches]
        if isinstance(column, Ragged):
            lengths = np.concatenate([p.offsets.diff().numpy() for p in parts])
            values = torch.cat([p.flat for p in parts]).numpy()
            columns[name] = ragged(values, np.concatenate([[0], lengths.cumsum()]))
        else:
            columns[name] = torch.cat(parts)
    return Batch(columns, sum(b.rows for b in batches))


@pytest.mark.parametrize("weight", [None, "weight"])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_four_quarters_are_one_batch(kernels, weight, clip):
    model = partial(ToyModel, weight=weight)
    # Quarters of unequal size, so a mean of means would be another number.
    cuts = [(0, 10), (10, 45), (45, 50), (50, 120)]
    rows = [toy_batches(120, 1, seed=seed) for seed in range(6)]
    quarters = [joined(own[a:b]) for own in rows for a, b in cuts]
    whole = [joined(own) for own in rows]
    runs = []
    for batches, accumulation in ((whole, 1), (quarters, 4)):
        reader, record = MemoryReader(batches), Record()
        reader.__class__ = InOrder
        trainer = toy_trainer(
            kernels,
            reader,
            model=model,
            rule=Sgd(lr=1.0),
            clip=clip,
            accumulation=accumulation,
            dense=partial(torch.optim.SGD, lr=0.3),
            callbacks=(record,),
        )
        trainer.train()
        runs.append((np.array(record.losses), trainer, [s.norm for s in record.steps]))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-6)
    assert runs[0][2] == pytest.approx(runs[1][2], rel=1e-5)
    for one, other in zip(runs[0][1].parameters, runs[1][1].parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    first, second = content(runs[0][1]), content(runs[1][1])
    assert first.keys() == second.keys()
    for key, values in first.items():
        got, want = (np.frombuffer(raw, np.float32) for raw in (second[key], values))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


class InOrder(MemoryReader):
    def __iter__(self):
        for batch in self.batches[self.at :]:
            self.at += 1
            yield batch


def test_weights_are_counts_of_rows(kernels):
    """A row of weight w is w rows; one of weight 0 is none, but for the table row it gets."""
    batch = toy_batches(50, 50)[0]
    counts = batch.dense("weight")[:, 0].long()
    assert set(counts.tolist()) == {0, 1, 2, 3}
    trainers = [
        toy_trainer(kernels, model=partial(ToyModel, weight=weight)) for weight in ("weight", None)
    ]
    pieces = split(batch)
    repeated = joined([pieces[i] for i, n in enumerate(counts.tolist()) for _ in range(n)])
    first = trainers[0].train_step([batch])
    second = trainers[1].train_step([repeated])
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-6)
    assert first["norm"] == pytest.approx(second["norm"], rel=1e-5)


def split(batch):
    """Each row as a batch of its own."""
    rows = []
    for i in range(batch.rows):
        own = {}
        for name, column in batch.columns.items():
            if isinstance(column, Ragged):
                part = column.flat[column.offsets[i] : column.offsets[i + 1]].numpy()
                own[name] = ragged(part, np.array([0, len(part)]))
            else:
                own[name] = column[i : i + 1]
        rows.append(Batch(own, 1))
    return rows


def test_a_step_without_any_weight_changes_nothing(kernels):
    trainer = toy_trainer(
        kernels,
        model=partial(ToyModel, weight="weight"),
        rule=Sgd(lr=1.0),
        dense=partial(torch.optim.SGD, lr=1.0),
    )
    batch = toy_batches(20, 20)[0]
    batch.columns["weight"].zero_()
    before = {n: t.clone() for n, t in trainer.model.state_dict().items()}
    done = trainer.train_step([batch])
    assert done["loss"] == 0.0
    assert done["norm"] == 0.0
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("where", ["dense", "rows"])
def test_the_guard_leaves_a_bad_step_out(kernels, where):
    trainer = toy_trainer(kernels, guard=1)
    good, bad = toy_batches(40, 20)
    trainer.train_step([good])
    if where == "dense":
        bad.columns["dense"][3, 1] = math.nan
    else:
        trainer.embedding.groups[1].blocks.views("weight")[0][:] = math.nan
    before = content(trainer)
    done = trainer.train_step([bad])
    assert done["skipped"]
    assert trainer.skipped == 1
    after = content(trainer)
    assert {key: after[key] for key in before} == before
    assert math.isfinite(trainer.running.mean)
    with pytest.raises(FloatingPointError, match=r"step 3: .* 2 successive steps"):
        trainer.train_step([bad])


def test_dense_and_rows_follow_the_scheduler(kernels):
    trainer = toy_trainer(
        kernels,
        MemoryReader(toy_batches(60, 20)),
        scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5),
    )
    trainer.train()
    assert trainer.dense_optimizer.param_groups[0]["lr"] == 1e-3 / 8
    assert {g["lr"] for g in trainer.row_optimizer.param_groups} == {0.02 / 8}


def test_steps_bound_the_training(kernels):
    record = Record()
    reader = MemoryReader(toy_batches(100, 20), epochs=None)
    trainer = toy_trainer(
        kernels, reader, steps=7, callbacks=(record,), evaluate_every=3, valid=list
    )
    trainer.train()
    assert [s.step for s in record.steps] == list(range(1, 8))
    assert [s.epoch for s in record.steps] == [0] * 5 + [1] * 2
    assert [step for step, _ in record.evaluations] == [3, 6, 7]
    assert trainer.rows == sum(s.rows for s in record.steps) == 140


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", 2.0, r"column 'label', row 4 of a batch: 2\.0 is not in \[0, 1\]"),
        ("label", math.nan, "column 'label', row 4"),
        ("weight", -1.0, r"column 'weight', row 4 of a batch: -1\.0 is not a finite weight"),
        ("weight", math.inf, "column 'weight', row 4"),
    ],
)
def test_bad_targets_are_named(kernels, column, value, message):
    batch = toy_batches(20, 20)[0]
    batch.columns[column][4] = value
    trainer = toy_trainer(kernels, model=partial(ToyModel, weight="weight"))
    with pytest.raises(ValueError, match=message):
        trainer.train_step([batch])


def test_a_model_must_give_a_logit_a_row(kernels):
    trainer = toy_trainer(kernels)
    trainer.model.forward = lambda inputs: inputs["dense"]
    with pytest.raises(ValueError, match=r"shape \(20, 2\), not \(20,\)"):
        trainer.train_step(toy_batches(20, 20))


def test_evaluation_changes_nothing(kernels):
    trainer = toy_trainer(kernels, model=partial(ToyModel, dropout=0.5))
    batches = toy_batches(60, 20)
    trainer.train_step(batches[:1])
    before, state = content(trainer), torch.get_rng_state()
    first = trainer.evaluate(batches)
    assert first == trainer.evaluate(batches)
    assert content(trainer) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert trainer.model.training


def test_predictions_are_what_evaluation_measured(kernels, tmp_path):
    metrics = pytest.importorskip("sklearn.metrics")
    trainer = toy_trainer(kernels)
    batches = toy_batches(130, 40)
    trainer.train_step(batches)
    path = tmp_path / "sub" / "scores.parquet"
    assert trainer.predict(batches, path) == 130
    table = pq.read_table(path).to_pandas()
    assert list(table.columns) == ["row", "label", "group", "score"]
    assert table["row"].tolist() == list(range(130))
    assert table["group"].tolist() == joined(batches).dense("user")[:, 0].tolist()
    measured = trainer.evaluate(batches)
    assert metrics.roc_auc_score(table["label"], table["score"]) == pytest.approx(measured["auc"])
    assert [p.name for p in path.parent.iterdir()] == ["scores.parquet"]


def test_predictions_without_labels(kernels, tmp_path):
    trainer = toy_trainer(kernels)
    batches = toy_batches(40, 20)
    for batch in batches:
        del batch.columns["label"]
    trainer.predict(batches, tmp_path / "scores.parquet")
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.column_names == ["row", "group", "score"]
    trainer.predict([], tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_a_failed_prediction_leaves_the_old_file(kernels, tmp_path):
    trainer = toy_trainer(kernels)
    path = tmp_path / "scores.parquet"
    trainer.predict(toy_batches(40, 20), path)
    before = path.read_bytes()

    def failing():
        yield from toy_batches(20, 20)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        trainer.predict(failing(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["scores.parquet"]
    assert path.read_bytes() == before
    with pytest.raises(OSError, match="cannot write predictions"):
        trainer.predict(toy_batches(20, 20), path / "below")


def test_a_model_without_dense_parameters(kernels):
    class Sum(ToyModel):
        def __init__(self):
            super().__init__()
            del self.mlp

        def forward(self, inputs):
            return inputs["user"].sum(1) + inputs["basket"].sum(1)

    _, trainer, record = losses(kernels, model=Sum, rule=Sgd(lr=0.1))
    assert trainer.dense_optimizer is None
    assert record.losses[-1] < record.losses[0]


def test_settings_are_checked():
    for name in ("accumulation", "keep", "steps", "save_every", "evaluate_every", "threads"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            toy_trainer(backends.load("torch"), **{name: 0})
    with pytest.raises(ValueError, match="clip is 0"):
        toy_trainer(backends.load("torch"), clip=0)


def test_any_kernels_will_do(kernels):
    """What traces a run hands the trainer kernels that count."""
    calls = []

    def counting(name, call):
        def counted(*args):
            calls.append(name)
            return call(*args)

        return counted

    bound = {name: counting(name, call) for name, call in vars(kernels).items() if callable(call)}
    wrapped = type(kernels)("counted", bound, kernels.origins)
    trainer: Trainer = toy_trainer(wrapped)
    trainer.train_step(toy_batches(20, 20))
    assert {"id_map", "ids_partition", "rows_adam", "segment_mean"} <= set(calls)


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_told_to_a_human(kernels, terminal):
    said = io.StringIO()
    console = Console(file=said, force_terminal=terminal, width=100)
    batches = toy_batches(60, 20)
    bar = ProgressBar(console, seconds=0.0)
    reader = MemoryReader(batches)
    toy_trainer(kernels, reader, callbacks=[bar], valid=lambda: batches[:1]).train()
    text = said.getvalue()
    assert "validation  auc" in text
    assert "rows/s" in text
    assert "loss 0." in text
    if not terminal:
        steps = [line for line in text.splitlines() if line.startswith("step") and "%" in line]
        assert [line.split()[-1] for line in steps] == ["33%", "67%", "100%"]
