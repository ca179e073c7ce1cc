"""MovieLens-100K, next item: a transformer on this engine beside popularity and item-kNN.

python -m workloads.baselines.next_item --source FOLDER [--backend numba] [--seeds 3]

Leave-one-out by time, ranked among all items the user has not had. What is free (neighbours and
memory of item-kNN, epochs of the transformer) is chosen by NDCG@10 of the validation item alone;
then each is fitted again with the validation item in the histories and scored once on the test.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import backends
from recis_core import optim
from recis_core.embedding import Embedding
from recis_core.kernels import Kernels
from workloads.next_item import (
    Histories,
    NextItemConfig,
    NextItemModel,
    batch_of,
    ndcg,
    ranks,
    read_histories,
    recall,
    training_batches,
)

NEIGHBOURS = (10, 20, 50, 100, 200, 2000)
# How many of a user's last items item-kNN looks from; the largest: all, as it is usually defined.
MEMORIES = (1, 2, 3, 5, 10, 50, 1000)


def popularity(data: Histories) -> np.ndarray:
    """Scores [users, items]: how many users had the item."""
    counts = np.bincount(np.concatenate(data.each), minlength=data.items)
    return np.broadcast_to(counts, (len(data), data.items))


def similarities(data: Histories, neighbours: int) -> np.ndarray:
    """Cosine of the items' sets of users [items, items], only the `neighbours` largest of a row."""
    had = np.zeros((len(data), data.items), np.float32)
    for row, items in zip(had, data.each, strict=True):
        row[items] = 1
    norm = np.sqrt(had.sum(0)).clip(1)
    cosine = (had.T @ had) / norm / norm[:, None]
    np.fill_diagonal(cosine, 0)
    if neighbours < data.items:
        least = -np.partition(-cosine, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]
        cosine[cosine < least] = 0
    return cosine


def item_knn(data: Histories, neighbours: int, memory: int) -> np.ndarray:
    """Scores [users, items]: similarities to the last `memory` items of the user, summed."""
    near = similarities(data, neighbours)
    return np.stack([near[items[-memory:]].sum(0) for items in data.each])


class Transformer:
    """The model with its tables and optimizers, trained epoch by epoch."""

    def __init__(self, config: NextItemConfig, data: Histories, kernels: Kernels, seed: int):
        torch.manual_seed(seed)
        self.config, self.data = config, data
        self.rng = np.random.default_rng(seed)
        self.model = NextItemModel(config)
        self.tables = Embedding(
            self.model.features, kernels, optim.AdamW(lr=config.lr, decay=config.decay), seed=seed
        )
        self.rows = optim.RowOptimizer(self.tables, optim.AdamW(lr=config.lr, decay=config.decay))
        self.dense = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.decay
        )

    def epoch(self) -> float:
        """One pass over the data; -> the mean loss of its batches."""
        self.model.train()
        losses = []
        for batch in training_batches(self.data, self.config, self.rng):
            loss = self.model.loss(self.tables.lookup(batch, train=True))
            loss.backward()
            self.tables.accumulate()
            for optimizer in (self.dense, self.rows):
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        return statistics.mean(losses)

    @torch.no_grad()
    def scores(self) -> np.ndarray:
        """[users, items] after each user's whole history."""
        self.model.eval()
        found, last = [], self.config.length
        for at in range(0, len(self.data), 256):
            items = [own[-last:] for own in self.data.each[at : at + 256]]
            times = [own[-last:] for own in self.data.times[at : at + 256]]
            leaves = self.tables.lookup(batch_of(items, times, self.data.items), train=False)
            found.append(self.model.scores(leaves).numpy())
        return np.concatenate(found)


def measured(scores: np.ndarray, seen: Histories, target: np.ndarray) -> dict[str, float]:
    rank = ranks(scores, seen.each, target)
    return {"ndcg@10": ndcg(rank), "recall@10": recall(rank)}


def transformer(
    config: NextItemConfig, every: Histories, kernels: Kernels, seeds: int, say: Callable
) -> dict[str, Any]:
    """Epochs by the validation item, then a mean over `seeds` of the test's figures."""
    fit, valid = every.before(2), last_of(every.before(1))
    chosen = Transformer(config, fit, kernels, 0)
    curve = []
    for epoch in range(config.epochs):
        loss = chosen.epoch()
        curve.append(measured(chosen.scores(), fit, valid)["ndcg@10"])
        say(f"epoch {epoch + 1}: loss {loss:.4f}, validation NDCG@10 {curve[-1]:.4f}")
    # Neighbouring epochs differ by chance: the best of a running mean of three.
    smooth = np.convolve(curve, np.ones(3) / 3, "valid")
    epochs = int(np.argmax(smooth)) + 2
    tests = []
    for seed in range(seeds):
        model = Transformer(config, every.before(1), kernels, seed)
        for _ in range(epochs):
            model.epoch()
        tests.append(measured(model.scores(), every.before(1), last_of(every)))
        say(f"seed {seed}, {epochs} epochs: test {tests[-1]}")
    if not tests:
        return {"epochs": epochs, "validation": max(curve), "curve": curve}
    mean = {name: statistics.mean(own[name] for own in tests) for name in tests[0]}
    return {**mean, "epochs": epochs, "seeds": tests, "validation": max(curve), "curve": curve}


def knn(every: Histories, memories: tuple[int, ...]) -> dict[str, Any]:
    fit, valid = every.before(2), last_of(every.before(1))
    found = {
        pair: measured(item_knn(fit, *pair), fit, valid)["ndcg@10"]
        for pair in product(NEIGHBOURS, memories)
    }
    best = max(found, key=lambda pair: found[pair])
    test = measured(item_knn(every.before(1), *best), every.before(1), last_of(every))
    return {**test, "neighbours": best[0], "memory": best[1], "validation": found[best]}


def last_of(data: Histories) -> np.ndarray:
    return np.array([own[-1] for own in data.each])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=NextItemConfig.epochs)
    parser.add_argument("--dropout", type=float, default=NextItemConfig.dropout)
    parser.add_argument("--decay", type=float, default=NextItemConfig.decay)
    parser.add_argument("--lr", type=float, default=NextItemConfig.lr)
    parser.add_argument("--dim", type=int, default=NextItemConfig.dim)
    parser.add_argument("--layers", type=int, default=NextItemConfig.layers)
    asked = parser.parse_args()
    config = replace(
        NextItemConfig(), epochs=asked.epochs, dropout=asked.dropout, decay=asked.decay,
        lr=asked.lr, dim=asked.dim, layers=asked.layers,
    )  # fmt: skip
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    every = read_histories(asked.source)
    popular = measured(popularity(every.before(1)), every.before(1), last_of(every))
    say(f"popularity: test {popular}")
    whole, near = knn(every, MEMORIES[-1:]), knn(every, MEMORIES)
    say(f"item-kNN over whole histories: {whole}")
    say(f"item-kNN over the last events: {near}")
    ours = transformer(config, every, backends.load(asked.backend), asked.seeds, say)
    found = {"popularity": popular, "item_knn": whole, "item_knn_recent": near}
    found |= {"transformer": ours}
    print(json.dumps({**found, "config": vars(config), "users": len(every), "items": every.items}))


if __name__ == "__main__":
    main()
