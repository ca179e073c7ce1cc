"""A tiny learnable problem in memory: every kind of feature, weights, groups, dropout."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recis_core.data import Batch, Ragged
from recis_core.embedding import Embedding
from recis_core.optim import Adam
from recis_core.schema import Column, Feature, Initializer, Table
from recis_core.settings import Settings
from recis_core.task import Task
from recis_core.train import Trainer

USERS, ITEMS = 60, 300
START = Initializer("uniform", -0.1, 0.1)


class ToyModel(nn.Module):
    """Users and baskets share a group; the history of items has another dim."""

    def __init__(self, dropout: float = 0.0, weight: str | None = None, dtype: str = "float32"):
        super().__init__()
        history = Table("history", 8, START, dtype=dtype)  # type: ignore[arg-type]
        self.features = (
            Feature("user", "user", Table("user", 4, START)),
            Feature("basket", "basket", Table("item", 4, START), "mean", weights="amounts"),
            Feature("history", "basket", history, "tile", length=3),
        )
        self.columns = (
            Column("user", "ids", 1),
            Column("basket", "ids"),
            Column("amounts", "values"),
            Column("dense", "values", 2),
            Column("label", "values", 1),
            *([Column(weight, "values", 1)] if weight else []),
        )
        self.task = Task("label", weight=weight, group="user")
        self.drop = nn.Dropout(dropout)
        self.mlp = nn.Sequential(nn.Linear(4 + 4 + 24 + 2, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        assert set(inputs) == {"user", "basket", "history", "dense"}
        parts = inputs["user"], inputs["basket"], inputs["history"].flatten(1), inputs["dense"]
        return self.mlp(self.drop(torch.cat(parts, 1))).squeeze(1)


def toy_batches(rows: int, batch: int, seed: int = 0) -> list[Batch]:
    """Labels follow a hidden weight of each user and item."""
    rng = np.random.default_rng(seed)
    taste = np.random.default_rng(99).normal(size=USERS + ITEMS)
    batches = []
    for start in range(0, rows, batch):
        n = min(batch, rows - start)
        user = rng.integers(0, USERS, n)
        lengths = rng.integers(0, 6, n)
        offsets = np.concatenate([[0], lengths.cumsum()])
        items = (ITEMS * rng.random(offsets[-1]) ** 2).astype(np.int64)
        pull = np.bincount(np.repeat(np.arange(n), lengths), taste[USERS + items], n)
        logit = 1.5 * taste[user] + pull / np.maximum(lengths, 1)
        tensors = {
            "user": torch.from_numpy(user[:, None] - 30),
            "basket": ragged(items * 10**15 + np.iinfo(np.int64).min, offsets),
            "amounts": ragged(rng.random(offsets[-1]).astype(np.float32), offsets),
            "dense": torch.from_numpy(rng.normal(size=(n, 2)).astype(np.float32)),
            "weight": torch.from_numpy(rng.integers(0, 4, (n, 1)).astype(np.float32)),
            "label": torch.from_numpy((rng.random(n) < 1 / (1 + np.exp(-logit)))[:, None]).float(),
        }
        batches.append(Batch(tensors, n))
    return batches


def ragged(values: np.ndarray, offsets: np.ndarray) -> Ragged:
    return Ragged(torch.from_numpy(values), torch.from_numpy(offsets.astype(np.int32)))


class MemoryReader:
    """Batches from a list, in another order each epoch; a position like the file reader's."""

    def __init__(self, batches: list[Batch], epochs: int | None = 1) -> None:
        self.batches, self.epochs = batches, epochs
        self.epoch = self.at = 0

    @property
    def rows(self) -> int:
        return sum(batch.rows for batch in self.batches)

    def __iter__(self):
        while self.epochs is None or self.epoch < self.epochs:
            order = np.random.default_rng(self.epoch).permutation(len(self.batches))
            batch = self.batches[order[self.at]]
            self.at += 1
            if self.at == len(self.batches):
                self.epoch, self.at = self.epoch + 1, 0
            yield batch

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "at": self.at}

    def restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.at = state["epoch"], state["at"]


class Record:
    """A callback that keeps what it is told."""

    def __init__(self) -> None:
        self.steps, self.evaluations, self.paths, self.reasons = [], [], [], []

    def on_start(self, trainer):
        self.began = trainer.step

    def on_step(self, trainer, step):
        self.steps.append(step)

    def on_evaluate(self, trainer, metrics):
        self.evaluations.append((trainer.step, dict(metrics)))

    def on_save(self, trainer, path):
        self.paths.append(path)

    def on_end(self, trainer, reason):
        self.reasons.append(reason)

    @property
    def losses(self) -> list[float]:
        return [step.loss for step in self.steps]


def toy_trainer(kernels, reader=None, *, model=None, rule=None, callbacks=(), **given) -> Trainer:
    """A trainer of the toy model, made alike every time; settings by name.

    One thread unless said: so small a model only waits for more."""
    given.setdefault("threads", 1)
    given.setdefault("embedding", partial(Embedding, log2_rows=7))
    fields = {name: given.pop(name) for name in list(given) if name in Settings.__annotations__}
    torch.manual_seed(5)
    return Trainer(
        model() if model else ToyModel(),
        kernels,
        rule or Adam(lr=0.02),
        reader,
        settings=Settings(**fields),
        callbacks=callbacks,
        **given,
    )


def content(trainer: Trainer) -> dict[Any, bytes]:
    """Every parameter and, by table and id, every slot: equal for equal training states."""
    found: dict[Any, bytes] = {n: raw(t) for n, t in trainer.model.state_dict().items()}
    for group in trainer.embedding.groups:
        tables, ids, rows = group.map.items()
        for slot in group.blocks.slots:
            values = trainer.kernels.rows_gather(group.blocks, slot, rows)
            for table, one, value in zip(tables.tolist(), ids.tolist(), values, strict=True):
                found[group.tables[table].name, one, slot] = raw(value)
    return found


def raw(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
