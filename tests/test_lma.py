"""`lma`: what its data hold is exactly known, the model learns it, odd batches do not break it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch

import backends
import workloads
from recis_core import optim
from recis_core.data import Batch, Ragged
from recis_core.io import Reader
from recis_core.settings import Settings
from recis_core.train import Trainer
from workloads.lma import write_lma
from workloads.lma_data import (
    BAND,
    BANDS,
    Planted,
    draw_users,
    entropy,
    lengths,
    likelihood,
    popularity,
)
from workloads.lma_files import EVENTS, Rows
from workloads.lma_flops import flops_of
from workloads.lma_model import LmaModel

TINY: Any = workloads.find("lma-16k").config("tiny")
FEW = replace(TINY, rows=Rows(96, 16, 2), planted=replace(TINY.planted, length=20))


def test_likelihoods_are_distributions() -> None:
    """P(next item | item before, band) over all items is 1 for every band, and is what is drawn."""
    planted = Planted(items=256, categories=4 + 1, shops=3, length=9)
    planted = replace(planted, items=5 * 64)
    every = np.arange(planted.items)
    pairs = np.stack([np.full_like(every, 7), every], 1).ravel()
    table = likelihood(planted, pairs, np.zeros(len(pairs), bool))[1::2]
    assert table.shape == (planted.items, BANDS)
    np.testing.assert_allclose(table.sum(0), 1)
    own = -(table * np.log(table)).sum(0)
    np.testing.assert_allclose(own, entropy(planted))


def test_bayes_is_calibrated() -> None:
    """The mean surprise is the entropy once the band is certain; clicks come as often as told."""
    users = draw_users(TINY.planted, np.random.default_rng(5), 6000)
    place = np.arange(len(users.items)) - np.repeat(users.offsets[:-1], np.diff(users.offsets))
    late = users.surprise[place >= 20]
    error = late.std() / np.sqrt(len(late))
    assert abs(late.mean() - entropy(TINY.planted)) < 5 * error
    assert (users.surprise[place == 0] == 0).all()
    deviation = np.sqrt((users.click * (1 - users.click)).sum())
    assert abs(users.label.sum() - users.click.sum()) < 4 * deviation
    empty = np.diff(users.offsets) == 0
    assert 0 < empty.mean() < 0.03
    # Without events a candidate tells the band itself: shown ones are half of the favourite band.
    np.testing.assert_allclose(users.click[empty], 0.5)


def test_frequencies_are_as_planted() -> None:
    users = draw_users(TINY.planted, np.random.default_rng(6), 3000)
    rank = users.items // TINY.planted.categories
    owner = np.repeat(users.band, np.diff(users.offsets))
    keen = (rank // BAND == owner).mean()
    stray, items = TINY.planted.stray, TINY.planted.items
    by_chance = BAND * TINY.planted.categories / items
    assert keen == pytest.approx((1 - stray) * TINY.planted.keen + stray * by_chance, abs=0.01)
    assert popularity(TINY.planted).sum() == pytest.approx(1)


def test_lengths_are_skewed() -> None:
    found = lengths(Planted(1024, 16, 4, 10_000), np.random.default_rng(0), 20_000)
    assert found.max() == 10_000
    assert 0.1 < (found == 10_000).mean() < 0.2
    assert np.median(found) < 0.95 * found.mean()
    assert 0 < (found == 0).mean() < 0.02


def test_same_seed_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_lma(FEW, "lma-16k", "few", tmp_path / name, seed=seed)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 7  # two train parts and one held out, what is known of each, the manifest
    for file in files:
        first = (tmp_path / "a" / file).read_bytes()
        assert first == (tmp_path / "b" / file).read_bytes()
        assert first != (tmp_path / "c" / file).read_bytes()


def test_manifest_and_columns(tmp_path: Path) -> None:
    manifest = write_lma(FEW, "lma-16k", "few", tmp_path)
    table = parquet.read_table(tmp_path / "train")
    assert len(table) == manifest["rows"]["train"] == 96
    sizes = [table[name].combine_chunks().value_lengths().to_pylist() for name in EVENTS]
    assert all(own == sizes[0] for own in sizes)
    assert max(sizes[0]) == 20
    for row in table["age"].to_pylist():
        assert row == [int(np.log2(len(row) - i)) + 1 for i in range(len(row))]
    known = manifest["known"]["train"]
    assert known["events"] == sum(max(n - 1, 0) for n in sizes[0])
    assert 0 < known["click"] < np.log(2)
    with pytest.raises(ValueError, match="seed is 0, asked for 1"):
        write_lma(FEW, "lma-16k", "few", tmp_path, seed=1)


def test_data_of_another_structure_are_refused(tmp_path: Path, monkeypatch) -> None:
    write_lma(FEW, "lma-16k", "few", tmp_path)
    monkeypatch.setattr("workloads.lma_files.BANDS", 2 * BANDS)
    with pytest.raises(ValueError, match=r"structure\.bands is 4, asked for 8"):
        write_lma(FEW, "lma-16k", "few", tmp_path)


def trainer_of(config: Any, reader: Any = None, **how: Any) -> Trainer:
    torch.manual_seed(0)
    return Trainer(
        LmaModel(config.shape),
        backends.load("torch"),
        optim.Adam(lr=config.lr),
        reader,
        settings=Settings(dense=lambda p: torch.optim.AdamW(p, lr=config.dense_lr), **how),
    )


def test_learns(tmp_path: Path) -> None:
    """A few steps of `tiny`: the next item's loss falls from ln 1024 to below what any model
    without the band or the chain could reach, the click's below chance."""
    config = replace(TINY, rows=Rows(3_840, 100, 1))
    manifest = write_lma(config, "lma-16k", "few", tmp_path)
    trainer = trainer_of(config)
    reader = Reader(
        tmp_path / "train", trainer.model.columns, 64, shuffle=True, kernels=trainer.kernels
    )
    found = []
    for batch in reader:
        loss = trainer.train_step([batch])["loss"]
        own = float(trainer.model.next_loss)
        found.append((loss - own, own))
    click, following = np.mean(found[-10:], 0)
    known = manifest["known"]["train"]
    assert found[0][1] > 6.5
    assert known["next"] < following < known["next"] + 0.95
    assert click < 0.65


def batch_of(rows: list[list[int]], seed: int = 0) -> Batch:
    """Users of these items; the candidate is item 3."""
    ends = torch.tensor([0, *map(len, rows)]).cumsum(0).int()
    items = torch.tensor([i for row in rows for i in row], dtype=torch.int64)
    columns: dict[str, Any] = {name: Ragged(items.clone(), ends) for name in EVENTS}
    for name in EVENTS[:-1]:
        columns[f"candidate_{name}"] = torch.full((len(rows), 1), 3)
    return Batch({**columns, "label": torch.ones(len(rows), 1)}, len(rows))


@pytest.mark.parametrize(
    "rows",
    [
        [[], [], []],  # nobody has events
        [list(range(64)), [], []],  # one of full length beside users with none
        [[5] * 9, [5] * 9],  # all ids equal
        [[1]],  # no event has a successor
        [list(range(200))],  # longer than the model reads
        [],
    ],
)
@pytest.mark.parametrize("layers", [0, 2])
def test_odd_batches(rows: list[list[int]], layers: int) -> None:
    config = replace(TINY, shape=replace(TINY.shape, layers=layers))
    trainer = trainer_of(config)
    for _ in range(2):
        done = trainer.train_step([batch_of(rows)])
        assert np.isfinite(done["loss"])
        assert not done["skipped"]
    assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())


def test_checkpointed_layers_give_the_same_gradients() -> None:
    grads = []
    for checkpointed in (False, True):
        trainer = trainer_of(TINY)
        trainer.model.checkpointed = checkpointed
        leaves = trainer.embedding.lookup(batch_of([[1, 2, 3], [4, 5]]), train=True)
        made = trainer.model(leaves)
        (made.logits.sum() + made.loss).backward()
        trainer.embedding.accumulate()
        sparse = [g.grad for g in trainer.embedding.accumulated.values()]
        grads.append([*(p.grad for p in trainer.model.parameters()), *sparse])
    assert all(g is not None for g in grads[0])
    torch.testing.assert_close(*grads)


def test_bfloat16_is_near_float32() -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        trainer = trainer_of(TINY, precision=precision)
        rows = [[i % 50 for i in range(n)] for n in (30, 4, 17)]
        losses.append([trainer.train_step([batch_of(rows)])["loss"] for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-2)
    assert losses[0] != losses[1]


def test_unequal_events_are_refused() -> None:
    trainer = trainer_of(TINY)
    batch = batch_of([[1, 2]])
    short = Ragged(torch.tensor([1]), torch.tensor([0, 1]).int())
    batch = Batch({**batch.columns, "shop": short}, 1)
    with pytest.raises(ValueError, match="'shop' has 1 events, 'item' 2"):
        trainer.train_step([batch])


def test_flops_are_counted_from_lengths() -> None:
    shape = workloads.find("lma-100k").config("bench").shape
    one, two = flops_of(shape, [100_000]), flops_of(shape, [50_000, 50_000])
    assert one.attention == pytest.approx(2 * two.attention, rel=1e-4)
    assert one.layers == two.layers == 24 * 4 * 512**2 * 100_000
    assert one.output == 2 * 512 * 1_000_000 * 16_384
    assert one.training == 3 * one.forward
