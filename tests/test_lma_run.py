"""Planning `lma`, telling how fast it trains, its plain form, the search for the largest batch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import workloads
from recis_core.cross_entropy import block_of, blocked_norm
from reports import largest_batch
from reports.commands.train import begun
from reports.failure import Failure
from reports.page_records import shelves
from reports.page_training import section
from reports.plan import planned, require_memory
from reports.records import read_any
from tests.test_cli import recis
from workloads.baselines.plain_lma import PlainLma, PlainTrainer
from workloads.lma_data import draw_users
from workloads.lma_files import EVENTS, ids_of
from workloads.lma_flops import flops_of
from workloads.lma_plan import demands, kept_per_event, mean_flops, mean_length

KIND: Any = workloads.find("lma-16k")
TINY: Any = KIND.config("tiny")


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_demands_are_what_is_drawn(size: str) -> None:
    """Distinct ids of a few hundred users, and the mean length, as the plan expects them."""
    planted = KIND.config(size).planted
    users = draw_users(planted, np.random.default_rng(3), 400)
    asked = demands(planted)
    assert len(users.items) / 400 == pytest.approx(mean_length(planted), rel=0.1)
    share = len(users.items) / 400 / mean_length(planted)
    for name, ids in ids_of(planted, users.items).items():
        expected = asked[name].distinct(400 * share)
        assert len(np.unique(ids)) == pytest.approx(expected, rel=0.04), name


def test_mean_flops_are_those_of_drawn_lengths() -> None:
    config = KIND.config("small")
    drawn = np.diff(draw_users(config.planted, np.random.default_rng(4), 3000).offsets)
    each = flops_of(config.shape, drawn.tolist()).times(1 / 3000)
    expected = mean_flops(config.planted, config.shape, 1)
    for part in ("attention", "layers", "output", "forward"):
        assert getattr(each, part) == pytest.approx(getattr(expected, part), rel=0.06), part


def test_kept_bytes_are_what_autograd_keeps() -> None:
    """The plan's numbers an event against tensors saved in a forward pass."""
    config = replace(TINY, shape=replace(TINY.shape, items=0))
    step: Any = largest_batch.engine(config, "cpu", "float32")
    trainer = step.__closure__[0].cell_contents
    batch = largest_batch.batch_of(config.planted, largest_batch.users_of(config.planted, 60))
    leaves = trainer.embedding.lookup(batch, train=True)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        trainer.model(leaves)
    events = len(leaves["item.ids"])
    weights = sum(p.nbytes for p in trainer.model.parameters())
    assert (sum(kept.values()) - weights) / events / 4 == pytest.approx(
        kept_per_event(config.shape), rel=0.25
    )


@pytest.mark.parametrize("name", ["lma-16k", "lma-100k"])
def test_bench_fits_an_80_gb_gpu_and_no_small_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: Any = workloads.find(name)
    run = begun(kind, "bench", {})
    plan = planned(kind, "bench", run.row_rule(), run.batch_size)
    assert 20e9 < plan.peak < 80e9
    assert plan.parameters > 512e6
    monkeypatch.setattr("reports.plan.memory_of", lambda device: 16 << 30)
    with pytest.raises(Failure, match=f"{name} bench would need .* GB"):
        require_memory(run, "cpu")


def test_plain_form_has_the_same_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same parameters, same rows: the same losses, users without events and too long ones too."""
    config = replace(TINY, shape=replace(TINY.shape, length=40, positions=16))
    step: Any = largest_batch.engine(config, "cpu", "float32")
    trainer = step.__closure__[0].cell_contents
    users = largest_batch.users_of(replace(config.planted, idle=0.3), 24)
    assert 0 in np.diff(users.offsets)
    assert np.diff(users.offsets).max() > 40
    batch = largest_batch.batch_of(config.planted, users)
    plain = PlainLma(config.shape, config.planted)
    plain.dense.load_state_dict(trainer.model.state_dict())
    # Tables so large that the remainders of no two ids meet.
    plain.rows = dict.fromkeys(plain.rows, 100_003)
    plain.tables = nn.ModuleDict(
        {n: nn.EmbeddingBag(100_003, config.shape.dim, mode="sum", sparse=True) for n in EVENTS}
    )
    leaves = trainer.embedding.lookup(batch, train=True)
    asked = [(n, leaves[f"{n}.ids"], leaves[n]) for n in EVENTS]
    columns: Any = batch.columns
    asked += [(n, columns[f"candidate_{n}"].flatten(), leaves[f"candidate_{n}"])
              for n in EVENTS[:-1]]  # fmt: skip
    with torch.no_grad():
        for name, ids, rows in asked:
            table: Any = plain.tables[name]
            table.weight[torch.remainder(ids, 100_003)] = rows
    click, following = plain(batch)
    made = trainer.model(leaves)
    torch.testing.assert_close(following, made.loss)
    logits = made.logits.detach()
    own = nn.functional.binary_cross_entropy_with_logits(logits, columns["label"].squeeze(1))
    torch.testing.assert_close(click.detach(), own)
    (click + following).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in plain.dense.parameters())


def test_plain_form_learns() -> None:
    trainer = PlainTrainer(TINY.shape, TINY.planted, "cpu", "float32")
    batch = largest_batch.batch_of(TINY.planted, largest_batch.users_of(TINY.planted, 16))
    losses = [trainer.step(batch) for _ in range(6)]
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 100, 1000])
def test_largest_is_the_largest(limit: int) -> None:
    tried: list[int] = []

    def fits(n: int) -> bool:
        tried.append(n)
        return n <= limit

    assert largest_batch.largest(fits) == limit
    assert len(tried) < 25
    near = largest_batch.largest(lambda n: n <= limit, within=0.1)
    assert near <= limit <= near + max(1, 0.1 * near)


def test_users_do_not_depend_on_how_many() -> None:
    few, many = (largest_batch.users_of(TINY.planted, n) for n in (3, 7))
    np.testing.assert_array_equal(few.items, many.items[: len(few.items)])
    np.testing.assert_array_equal(few.label, many.label[:3])


# Contenders that need 10 and 40 MiB a user.
HUNGRY = """
import sys, torch
from reports import largest_batch
def hungry(size):
    return lambda *_: lambda batch: torch.ones(batch.rows * size, dtype=torch.uint8)
largest_batch.CONTENDERS = {"engine": hungry(10 << 20), "plain": hungry(40 << 20)}
sys.exit(largest_batch.main())
"""


def search(file: Path, limit: float, *program: str) -> Any:
    """In a process of its own: one that has trained before keeps memory it has freed."""
    words = f"{file} --size tiny --device cpu --precision float32 --limit {limit} --within 0.5"
    done = subprocess.run([sys.executable, *program, *words.split()], stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
    (record,) = read_any(file)
    for name, tried in record.tried.items():
        fit = {one["users"]: one["fits"] for one in tried}
        assert fit[record.largest[name]]
        assert not all(fit.values())
    (shelf,) = shelves([file])
    shown = section(shelf)
    assert shown is not None
    assert "times as many" in str(shown.blocks[0])
    return record


def test_search_under_a_limit(tmp_path: Path) -> None:
    """Memory really limited; of the limit, threads' arenas reserve some 64 MB each."""
    record = search(tmp_path / "found.jsonl", 0.8, "-c", HUNGRY)
    assert 32 <= record.largest["engine"] <= 76
    assert 8 <= record.largest["plain"] <= 19


@pytest.mark.slow
def test_search_of_both_forms(tmp_path: Path) -> None:
    record = search(tmp_path / "found.jsonl", 0.4, "-m", "reports.largest_batch")
    assert record.largest["engine"] >= record.largest["plain"] > 0


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Any:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        largest_batch.Search(make, TINY.planted, "cpu").fits(1)


def test_training_says_how_fast_it_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`recis train` of a tiny lma: the record's events are the data's, its page can be made."""
    done = recis("train", "lma-16k", "--length", "50", "--steps", "4", "--data", tmp_path / "data",
                 "--out", tmp_path / "run", "--no-trace", "--batch-size", "4")  # fmt: skip
    assert done == 0
    assert "events/s" in capsys.readouterr().err
    (record,) = read_any(tmp_path / "run" / "training.jsonl")
    assert record.steps == 4
    assert len(record.tokens) == 4
    assert record.tokens_per_s == pytest.approx(sum(record.tokens[2:]) / sum(record.seconds[2:]))
    assert record.reached["click"] == pytest.approx(np.mean(record.losses["click"][-2:]))
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert record.known == manifest["known"]["train"]
    (shelf,) = shelves([tmp_path / "run" / "training.jsonl"])
    assert section(shelf) is not None


@pytest.mark.parametrize("classes", [1, 7, 1000, 1024, 1009, 6000, 16_384])
def test_norm_by_blocks(classes: int) -> None:
    x = 30 * torch.randn(5, classes, generator=torch.Generator().manual_seed(classes)).double()
    torch.testing.assert_close(blocked_norm(x), x.logsumexp(1, keepdim=True))
    assert classes % block_of(classes) == 0
