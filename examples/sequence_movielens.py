"""Next items by a causal transformer over ragged histories, in plain PyTorch on recis_core.

    python -m examples.sequence_movielens [FOLDER] [--epochs 10] [--backend auto]

FOLDER holds MovieLens-100K's ml-100k.inter (user, item, rating, time; a header, tabs). Without it
200 users are made up. The last item of each user is held out and ranked among all items.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import backends
from recis_core.attention import causal_attention
from recis_core.cross_entropy import linear_cross_entropy
from recis_core.data import Batch, Ragged
from recis_core.embedding import Embedding
from recis_core.optim import AdamW, RowOptimizer
from recis_core.schema import Feature, Initializer, Table, Truncate
from recis_core.sequences import Sequences

DIM, HEADS, LENGTH = 64, 2, 100


class Transformer(nn.Module):
    """One layer: leaves of items and of places [events, DIM] -> a state after every event."""

    def __init__(self, items: int) -> None:
        super().__init__()
        start, last = Initializer("normal", 0.0, 0.05), (Truncate(LENGTH, "last"),)
        self.features = (
            Feature("item", "item", Table("item", DIM, start), "ragged", transforms=last),
            Feature("ago", "ago", Table("ago", DIM, start), "ragged", transforms=last),
        )
        self.drop, self.norm = nn.Dropout(0.2), nn.LayerNorm(DIM)
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.classes = nn.Linear(DIM, items, bias=False)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Sequences]:
        sequences = Sequences.of(inputs["item.offsets"])
        x = self.drop(inputs["item"] + inputs["ago"])
        qkv = self.qkv(self.norm(x)).unflatten(1, (3, HEADS, DIM // HEADS))
        # Sequences lie end to end: nothing is padded, no mask is made.
        attended = causal_attention(qkv, sequences).flatten(1)
        return self.norm(x + self.drop(self.out(attended))), sequences

    def loss(self, inputs: dict[str, Tensor]) -> Tensor:
        x, sequences = self(inputs)
        at, following = sequences.last(LENGTH)
        return linear_cross_entropy(x[at], self.classes.weight, inputs["item.ids"][following])


def read(folder: Path | None) -> list[np.ndarray]:
    """The items of each user in order of time, numbered from 0."""
    if folder is None:
        rng = np.random.default_rng(0)
        return [np.cumsum(rng.choice([1, 2, 7], 40)) for _ in range(200)]
    path = folder / "ml-100k.inter"
    user, item, _, when = np.loadtxt(path, skiprows=1, dtype=np.float64, unpack=True)
    order, number = np.lexsort((when, user)), np.unique(item, return_inverse=True)[1]
    return np.split(number[order], np.flatnonzero(np.diff(user[order])) + 1)


def batch_of(histories: list[np.ndarray]) -> Batch:
    ends = torch.from_numpy(np.cumsum([0, *map(len, histories)])).int()
    ago = [np.arange(len(own))[::-1].copy() for own in histories]
    columns = {"item": histories, "ago": ago}
    return Batch(
        {n: Ragged(torch.from_numpy(np.concatenate(c)), ends) for n, c in columns.items()},
        len(histories),
    )


@torch.no_grad()
def recall(model: Transformer, tables: Embedding, histories: list[np.ndarray]) -> float:
    """Share of users whose last item is among the ten best that they have not had before."""
    model.eval()
    x, sequences = model(tables.lookup(batch_of([own[:-1] for own in histories]), train=False))
    scores = x[torch.tensor(sequences.starts[1:]) - 1] @ model.classes.weight.T
    hits = []
    for row, own in zip(scores, histories, strict=True):
        row[own[:-1]] = -torch.inf
        hits.append(int(own[-1]) in row.topk(10).indices.tolist())
    return float(np.mean(hits))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--backend", default="auto")
    asked = parser.parse_args()
    torch.manual_seed(0)
    histories = read(asked.folder)
    model = Transformer(1 + max(int(own.max()) for own in histories))
    rule = AdamW(lr=4e-3, decay=0.0)
    tables = Embedding(model.features, backends.load(asked.backend), rule)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=4e-3), RowOptimizer(tables, rule)]
    for epoch in range(asked.epochs):
        model.train()
        losses = []
        for users in torch.randperm(len(histories)).split(32):
            batch = batch_of([histories[i][:-1] for i in users.tolist()])
            loss = model.loss(tables.lookup(batch, train=True))
            loss.backward()
            tables.accumulate()  # what backward() left in the leaves, summed by row
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        found = recall(model, tables, histories)
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, recall@10 {found:.4f}")


if __name__ == "__main__":
    main()
