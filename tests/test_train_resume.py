"""A run that stops and goes on ends where an uninterrupted one does, bit by bit."""

from __future__ import annotations

import json
import math
import signal
from functools import partial

import pytest
import torch

import backends
from recis_core import checkpoint
from recis_core.accumulator import RowGradients, merge
from recis_core.callbacks import JsonLog
from recis_core.checkpoint import CheckpointError
from recis_core.interrupt import Interrupt, Interrupted
from recis_core.io.reader import Reader
from recis_core.optim import Adam, RowwiseAdagrad
from tests.toy import MemoryReader, Record, ToyModel, content, toy_batches, toy_trainer

STEPS = 8
# Whatever a step may depend on is switched on: two epochs, the generator (dropout), the schedule,
# a norm over all rows (clip), several micro-batches, both optimizers' states.
SETTINGS = dict(
    model=partial(ToyModel, dropout=0.2, weight="weight", dtype="bfloat16"),
    scheduler=partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9),
    clip=0.1,
    accumulation=2,
)


@pytest.fixture(params=["torch", "numba"], scope="module")
def kernels(request):
    if reason := backends.find(request.param).absent():
        pytest.skip(reason)
    return backends.load(request.param)


@pytest.fixture(scope="module")
def batches():
    return toy_batches(8 * 30, 30)


def run(kernels, batches, folder=None, *, resume=False, scramble=False, **given):
    """Train the rest; -> the trainer and the loss and gradient norm of its steps."""
    record = Record()
    callbacks = (record, *given.pop("callbacks", ()))
    trainer = toy_trainer(
        kernels, MemoryReader(batches, 2), folder=folder, callbacks=callbacks, **SETTINGS, **given
    )
    if scramble:
        for group in trainer.embedding.groups:
            strangers = torch.randperm(300, generator=torch.Generator().manual_seed(0)) + 10**9
            tables = torch.zeros(300, dtype=torch.int32)
            group.insert(group.find(tables, strangers), tables, strangers)
    trainer.train(resume=resume)
    return trainer, [(step.loss, step.norm) for step in record.steps]


@pytest.mark.parametrize("rule", [Adam(lr=0.02), RowwiseAdagrad(lr=0.1)], ids=["adam", "rowwise"])
def test_resuming_at_every_step_is_exact(kernels, batches, tmp_path, rule):
    whole, losses = run(kernels, batches, rule=rule)
    assert len(losses) == STEPS
    for step in range(1, STEPS + 1) if isinstance(rule, Adam) else (1, 5):
        folder = tmp_path / str(step)
        run(kernels, batches, folder, rule=rule, steps=step)
        resumed, rest = run(kernels, batches, folder, rule=rule, resume=True)
        assert rest == losses[step:]
        assert content(resumed) == content(whole)
        assert resumed.epoch == whole.epoch
        assert resumed.rows == whole.rows
        assert list(resumed.running.losses) == list(whole.running.losses)


def test_numbers_of_rows_do_not_matter(kernels, batches, tmp_path):
    whole, losses = run(kernels, batches)
    run(kernels, batches, tmp_path, steps=5)
    resumed, rest = run(kernels, batches, tmp_path, resume=True, scramble=True)
    moved = [
        (where(whole, group), where(resumed, group)) for group in range(len(whole.embedding.groups))
    ]
    assert any(one != other for one, other in moved)
    assert rest == losses[5:]
    assert content(resumed) == content(whole)


def test_accumulated_norms_do_not_see_numbers_of_rows(kernels):
    """Sums of many magnitudes, whose last bits any other order of rows would change."""
    torch.manual_seed(0)
    tables = torch.zeros(3000, dtype=torch.int32)
    for _ in range(5):
        rows = [torch.randperm(4000)[:3000] for _ in range(2)]
        grads = [torch.randn(3000, 8) * torch.exp(3 * torch.randn(3000, 1)) for _ in range(2)]
        norms = []
        for number_of in (torch.arange(4000), torch.randperm(4000)):
            parts = [
                RowGradients(number_of[own].int(), tables, grad)
                for own, grad in zip(rows, grads, strict=True)
            ]
            norms.append(float(kernels.rows_norm(merge(kernels, *parts).grad)))
        assert norms[0] == norms[1]


def where(trainer, group):
    tables, ids, rows = trainer.embedding.groups[group].map.items()
    return dict(zip(zip(tables.tolist(), ids.tolist(), strict=True), rows.tolist(), strict=True))


def test_two_threads_resume_exactly_too(kernels, batches, tmp_path):
    whole, losses = run(kernels, batches, threads=2)
    run(kernels, batches, tmp_path, steps=4, threads=2)
    resumed, rest = run(kernels, batches, tmp_path, resume=True, threads=2)
    assert rest == losses[4:]
    assert content(resumed) == content(whole)


def test_resuming_from_files(kernels, tmp_path):
    """The real reader, shuffled, stopped in the midst of an epoch."""
    parquet = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    big = toy_batches(300, 300)[0]
    basket, amounts = (
        pa.ListArray.from_arrays(big.ragged(n).offsets.numpy(), big.ragged(n).flat.numpy())
        for n in ("basket", "amounts")
    )
    dense = pa.FixedSizeListArray.from_arrays(big.dense("dense").reshape(-1).numpy(), 2)
    single = {n: big.dense(n)[:, 0].numpy() for n in ("user", "weight", "label")}
    table = pa.table({**single, "basket": basket, "amounts": amounts, "dense": dense})
    parquet.write_table(table, tmp_path / "data.parquet", row_group_size=70)

    def trained(folder=None, resume=False, **given):
        columns = ToyModel(weight="weight").columns
        reader = Reader(
            tmp_path / "data.parquet", columns, 32, shuffle=True, seed=3, epochs=2, kernels=kernels
        )
        valid = Reader(tmp_path / "data.parquet", columns, 64, kernels=kernels)
        record = Record()
        trainer = toy_trainer(
            kernels,
            reader,
            folder=folder,
            callbacks=(record,),
            valid=lambda: valid,
            **{**SETTINGS, "accumulation": 1},
            **given,
        )
        trainer.train(resume=resume)
        return trainer, record

    whole, record = trained()
    assert [s.rows for s in record.steps] == [*[32] * 9, 12] * 2
    assert [step for step, _ in record.evaluations] == [10, 20]
    for step in (3, 10, 13):
        trained(tmp_path / f"at{step}", steps=step)
        resumed, rest = trained(tmp_path / f"at{step}", resume=True)
        assert rest.losses == record.losses[step:]
        assert content(resumed) == content(whole)
        assert resumed.metrics == whole.metrics


def test_a_folder_with_checkpoints_is_not_trained_over(kernels, batches, tmp_path):
    run(kernels, batches, tmp_path, steps=2)
    with pytest.raises(CheckpointError, match="holds checkpoints up to step 2"):
        run(kernels, batches, tmp_path, steps=2)
    with pytest.raises(CheckpointError, match="no complete checkpoint in"):
        run(kernels, batches, tmp_path / "empty", resume=True)


def test_the_log_of_a_resumed_run_is_that_of_a_whole_one(kernels, batches, tmp_path):
    def lines(path):
        made = [json.loads(line) for line in path.read_text().splitlines()]
        steps = [line for line in made if line["event"] == "step"]
        return [{k: v for k, v in line.items() if k != "seconds"} for line in steps]

    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    run(kernels, batches, callbacks=[JsonLog(whole)])
    run(kernels, batches, tmp_path / "c", steps=5, save_every=3, callbacks=[JsonLog(broken)])
    # As if it had been killed after step 5, before the last checkpoint, while writing a line.
    checkpoint.layout.remove(checkpoint.find(tmp_path / "c").path)
    with broken.open("a") as log:
        log.write('{"event": "step", "st')
    run(kernels, batches, tmp_path / "c", resume=True, callbacks=[JsonLog(broken)])
    assert [line["step"] for line in lines(broken)] == list(range(1, STEPS + 1))
    assert lines(broken) == lines(whole)
    events = [json.loads(line)["event"] for line in broken.read_text().splitlines()]
    assert events.count("start") == 2
    assert events[-1] == "end"


def test_logs_hold_no_nan(tmp_path, kernels):
    log = JsonLog(tmp_path / "log.jsonl")
    trainer = toy_trainer(kernels, MemoryReader(toy_batches(20, 20)), callbacks=[log], valid=list)
    trainer.train()
    text = (tmp_path / "log.jsonl").read_text()
    parsed = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert next(line for line in parsed if line["event"] == "evaluate")["auc"] is None


class StopAt(Record):
    """Sends this process Ctrl-C while step `at` is told."""

    def __init__(self, at, times=1):
        super().__init__()
        self.at, self.times = at, times

    def on_step(self, trainer, step):
        super().on_step(trainer, step)
        if step.step == self.at:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


def test_ctrl_c_saves_and_resumes(kernels, batches, tmp_path):
    whole, losses = run(kernels, batches)
    stop = StopAt(4)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="saved step 4, resume with --resume"):
        run(kernels, batches, tmp_path, callbacks=[stop])
    assert signal.getsignal(signal.SIGINT) is before
    assert stop.reasons == ["interrupted"]
    resumed, rest = run(kernels, batches, tmp_path, resume=True)
    assert rest == losses[4:]
    assert content(resumed) == content(whole)


def test_a_second_ctrl_c_stops_at_once(kernels, batches, tmp_path):
    stop = StopAt(4, times=2)
    with pytest.raises(KeyboardInterrupt):
        run(kernels, batches, tmp_path, callbacks=[stop], save_every=3)
    assert stop.reasons == ["interrupted"]
    assert checkpoint.find(tmp_path).path.name == "step-00000003"


def test_ctrl_c_without_a_folder_says_so(kernels, batches):
    with pytest.raises(Interrupted, match="stopped after step 2; nothing saved"):
        run(kernels, batches, callbacks=[StopAt(2)])


def test_interrupt_counts():
    with Interrupt() as interrupt:
        assert not interrupt.requested
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_failing_run_ends_its_callbacks(kernels, batches):
    class Fail(Record):
        def on_step(self, trainer, step):
            raise OSError("the disk of the log is full")

    fail = Fail()
    with pytest.raises(OSError, match="the disk of the log"):
        run(kernels, batches, callbacks=[fail])
    assert fail.reasons == ["failed"]


def test_metrics_survive(kernels, batches, tmp_path):
    trained, _ = run(kernels, batches, tmp_path, valid=lambda: batches[:2])
    again, rest = run(kernels, batches, tmp_path, valid=pytest.fail, resume=True)
    assert rest == []
    assert again.metrics == trained.metrics
    assert math.isfinite(again.metrics["auc"])
