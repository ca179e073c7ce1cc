"""Batches prepared ahead: the same training bit by bit, however far and whatever happens."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import backends
from recis_core.data import Batch, Ragged
from recis_core.embedding import Embedding
from recis_core.pipeline import Pipeline
from tests.toy import MemoryReader, Record, ToyModel, content, toy_batches, toy_trainer

ALL = dict(model=partial(ToyModel, dropout=0.2, weight="weight", dtype="bfloat16"), clip=0.1)


def load(name):
    if reason := backends.find(name).absent():
        pytest.skip(reason)
    return backends.load(name)


@pytest.fixture(scope="module")
def kernels():
    return backends.load("torch")


def run(kernels, batches, overlap, *, epochs=1, resume=False, **given):
    record = Record()
    given = {**ALL, **given}
    reader = MemoryReader(batches, epochs)
    trainer = toy_trainer(kernels, reader, callbacks=(record,), overlap=overlap, **given)
    trainer.train(resume=resume)
    return trainer, [(s.loss, s.norm) for s in record.steps]


@pytest.mark.parametrize("accumulation", [1, 2, 3])
@pytest.mark.parametrize("name", ["reference", "torch", "numba"])
def test_overlapped_steps_are_the_same_bits(name, accumulation):
    kernels, batches = load(name), toy_batches(7 * 20, 20)
    expected, losses = run(kernels, batches, 0, accumulation=accumulation)
    assert len(losses) == -(-7 // accumulation)
    for depth in (1, 2):
        trainer, got = run(kernels, batches, depth, accumulation=accumulation)
        assert got == losses
        assert content(trainer) == content(expected)
        assert trainer.rows == expected.rows
        assert trainer.epoch == expected.epoch == 1


def test_ids_that_came_and_went_meanwhile_are_looked_up_again(kernels):
    """Rows inserted and erased between `prepare` and `lookup`, which the pipeline avoids."""
    trainers = [toy_trainer(kernels) for _ in range(2)]
    first, second = toy_batches(40, 20)
    tables = torch.zeros(30, dtype=torch.int32)
    ids = torch.arange(30) - 30
    losses = []
    for trainer, ahead in zip(trainers, (True, False), strict=True):
        engine = trainer.embedding
        trainer.train_step([first])
        prepared = engine.prepare(second, True) if ahead else None
        engine.groups[0].erase(tables, ids)
        trainer.train_step([first])
        leaves = engine.lookup(prepared or second, train=True)
        losses.append(sum(leaf.detach().double().sum() for leaf in leaves.values()))
        engine.clear()
    assert losses[0] == losses[1]
    assert content(trainers[0]) == content(trainers[1])


class Breaking(MemoryReader):
    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number == 3:
                raise ValueError("part-7.parquet: column 'user': no such bytes")
            yield batch


class Odd(Embedding):
    """Refuses the fourth batch."""

    prepared = 0

    def prepare(self, batch, train):
        self.prepared += 1
        if self.prepared == 4:
            raise ValueError("part-7.parquet: column 'user': no such bytes")
        return super().prepare(batch, train)


@pytest.mark.parametrize("where", [dict(reader=Breaking), dict(embedding=Odd)], ids=str)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_failures_ahead_come_out_at_their_own_step(kernels, depth, where):
    record, reader = Record(), where.get("reader", MemoryReader)(toy_batches(100, 20))
    embedding = partial(where.get("embedding", Embedding), log2_rows=7)
    trainer = toy_trainer(
        kernels, reader, callbacks=(record,), overlap=depth, embedding=embedding
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"part-7\.parquet: column 'user': no such bytes"):
        trainer.train()
    assert len(record.steps) == trainer.step == 3
    assert record.reasons == ["failed"]
    assert reader.state() == {"epoch": 0, "at": 3}


@pytest.mark.parametrize("depth", [0, 1])
def test_a_bad_batch_is_named_at_its_own_step(kernels, depth):
    reader = MemoryReader(toy_batches(100, 20))
    order = list(MemoryReader(reader.batches))
    order[2].columns["label"][4] = 2.0
    record = Record()
    trainer = toy_trainer(kernels, reader, callbacks=(record,), overlap=depth)
    with pytest.raises(ValueError, match=r"column 'label', row 4 of a batch: 2\.0"):
        trainer.train()
    assert len(record.steps) == 2


def test_a_failing_step_leaves_the_reader_where_it_was(kernels):
    class Tired(Record):
        def on_step(self, trainer, step):
            raise KeyError("no more")

    reader = MemoryReader(toy_batches(100, 20), epochs=None)
    with pytest.raises(KeyError, match="no more"):
        toy_trainer(kernels, reader, callbacks=(Tired(),), overlap=2).train()
    assert reader.state() == {"epoch": 0, "at": 1}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_resuming_is_exact_with_batches_read_ahead(kernels, tmp_path, accumulation):
    batches = toy_batches(6 * 20, 20)
    given = dict(epochs=2, accumulation=accumulation)
    whole, losses = run(kernels, batches, 0, **given)
    for step in (1, 3, 5):
        folder = tmp_path / str(step)
        stopped, _ = run(kernels, batches, 2, folder=folder, steps=step, **given)
        # Where a run in memory goes on, too, though it had read further.
        assert stopped.reader.state() == stopped.position
        resumed, rest = run(kernels, batches, 2, folder=folder, resume=True, **given)
        assert rest == losses[step:]
        assert content(resumed) == content(whole)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_next_step_is_prepared_once_this_one_is_launched(kernels, accumulation):
    order = []

    class Ordered(Embedding):
        def prepare(self, batch, train):
            order.append("prepared")
            return super().prepare(batch, train)

        def lookup(self, batch, train):
            order.append("looked up")
            return super().lookup(batch, train)

    reader = MemoryReader(toy_batches(120, 20))
    embedding, given = partial(Ordered, log2_rows=7), dict(accumulation=accumulation)
    toy_trainer(kernels, reader, overlap=1, embedding=embedding, **given).train()
    assert order == (["prepared"] * accumulation + ["looked up"] * accumulation) * (
        6 // accumulation
    )


def test_evaluation_and_prediction_are_the_same(kernels, tmp_path):
    batches = toy_batches(130, 40)
    found = []
    for depth in (0, 2):
        trainer = toy_trainer(kernels, overlap=depth)
        trainer.train_step(batches[:2])
        path = tmp_path / f"{depth}.parquet"
        trainer.predict(batches, path)
        found.append((trainer.evaluate(batches), path.read_bytes()))
    assert found[0] == found[1]


def test_a_pipeline_makes_what_is_to_be_ahead_and_reads_one_more():
    read, made = [], []

    def source():
        try:
            for number in range(9):
                read.append(number)
                yield number
        finally:
            read.append("closed")

    with Pipeline(source(), lambda one: made.append(one) or one, "cpu", 2) as ahead:
        assert not read
        assert next(ahead) == 0
        assert (read, made) == ([0], [0])
        ahead.fill()
        ahead.fill()
        assert (read, made) == ([0, 1, 2, 3], [0, 1, 2])
        assert [next(ahead) for _ in range(3)] == [1, 2, 3]
        assert made == [0, 1, 2, 3]
    assert read == [0, 1, 2, 3, "closed"]
    with pytest.raises(ValueError, match="depth is -1"):
        Pipeline([], made.append, "cpu", -1)


def test_a_pipeline_ends_with_its_source():
    with Pipeline(range(3), lambda one: -one, "cpu", 2) as ahead:
        found = []
        for item in ahead:
            found.append(item)
            ahead.fill()
        assert found == [0, -1, -2]
        assert next(ahead, None) is None


# What a batch of files may be: each after an ordinary batch and before one.
def oddly(kind, batch):
    columns = dict(batch.columns)
    rows = batch.rows
    if kind == "empty":
        rows = 0
        columns = {n: c[:0] if torch.is_tensor(c) else emptied(c, 0) for n, c in columns.items()}
    elif kind == "all new":
        columns["user"] = columns["user"] + 10**6
        basket = columns["basket"]
        columns["basket"] = Ragged(torch.arange(len(basket.flat)) + 10**9, basket.offsets)
    elif kind == "all equal":
        columns["user"] = torch.zeros_like(columns["user"])
        basket = columns["basket"]
        columns["basket"] = Ragged(torch.full_like(basket.flat, 7), basket.offsets)
    elif kind == "no baskets":
        columns["basket"] = emptied(columns["basket"], rows)
        columns["amounts"] = emptied(columns["amounts"], rows)
    return Batch(columns, rows)


def emptied(column, rows):
    return Ragged(column.flat[:0], torch.zeros(rows + 1, dtype=torch.int32))


ODD = ["empty", "all new", "all equal", "no baskets"]


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["reference", "torch", "numba"])
def test_odd_batches_do_not_break_a_step(name, kind):
    kernels, (first, second, odd, last) = load(name), toy_batches(4 * 12, 12)
    batches = [first, oddly(kind, odd), second, oddly(kind, odd), last, oddly(kind, odd)]
    found = []
    for depth in (0, 1):
        for accumulation in (1, 2):
            given = dict(accumulation=accumulation, valid=lambda: batches)
            trainer, losses = run(kernels, batches, depth, **given)
            assert all(loss == loss and abs(loss) < 10 for loss, _ in losses)
            assert trainer.rows == sum(b.rows for b in batches)
            found.append((losses, content(trainer), str(trainer.metrics)))
    assert found[:2] == found[2:]
    assert found[0] != found[1]


def test_an_evaluation_of_only_empty_batches(kernels):
    trainer = toy_trainer(kernels)
    trainer.train_step(toy_batches(20, 20))
    none = oddly("empty", toy_batches(20, 20)[0])
    assert trainer.evaluate([none, none])["rows"] == 0
