"""DeepFM (Guo et al., IJCAI 2017) on a file in Criteo's format, in plain PyTorch on recis_core.

    python -m examples.deepfm_criteo [FILE] [--epochs 3] [--backend auto]

A line: label, 13 counts, 26 hexadecimal categories, apart by tabs or commas; cells may be empty.
Without FILE 4,000 lines are made up. The last fifth is held out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import backends
from recis_core.data import Batch, Ragged
from recis_core.embedding import Embedding
from recis_core.metrics import auc
from recis_core.optim import AdamW, RowOptimizer
from recis_core.schema import Bucketize, Feature, Table

COUNTS = tuple(f"i{i}" for i in range(1, 14))
CATEGORIES = tuple(f"c{i}" for i in range(1, 27))
DIM = 9  # one first-order weight and eight factors in the same row


class DeepFm(nn.Module):
    """First order + products of pairs + an MLP, over all features."""

    def __init__(self) -> None:
        super().__init__()
        octaves = Bucketize(tuple(2.0**k - 0.5 for k in range(20)))
        self.features = (
            *(Feature(n, n, Table(n, DIM), transforms=(octaves,)) for n in COUNTS),
            *(Feature(n, n, Table(n, DIM)) for n in CATEGORIES),
        )
        width = len(self.features) * (DIM - 1)
        self.mlp = nn.Sequential(nn.Dropout(0.3), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, leaves: dict[str, Tensor]) -> Tensor:
        x = torch.stack([leaves[f.name] for f in self.features], 1)
        first, factor = x[:, :, 0].sum(1), x[:, :, 1:]
        pairs = (factor.sum(1).square() - factor.square().sum(1)).sum(1) / 2
        return first + pairs + self.mlp(factor.flatten(1)).squeeze(1)


def cells_of(path: Path | None) -> list[list[str]]:
    if path is not None:
        lines = path.read_text().splitlines()
        rows = [line.split("\t" if "\t" in line else ",") for line in lines]
        return [row for row in rows if row[0] in ("0", "1")]  # without a header
    rng = np.random.default_rng(0)
    ids = (rng.zipf(1.3, (4000, 26)) % 1000).astype(int)
    label = rng.random(4000) < 1 / (1 + np.exp(1 - ids[:, 0] % 3 - ids[:, 1] % 2))
    counts = rng.poisson(3, (4000, 13))
    return [
        [str(int(y)), *map(str, c), *(f"{i:x}" for i in k)]
        for y, c, k in zip(label, counts, ids, strict=True)
    ]


def batch_of(rows: list[list[str]]) -> tuple[Batch, Tensor]:
    """Columns as lists of no value or one, and the labels."""
    columns: dict[str, Tensor | Ragged] = {}
    for at, name in enumerate((*COUNTS, *CATEGORIES), 1):
        cells = [row[at] for row in rows]
        given = [c for c in cells if c]
        ends = np.cumsum([0, *(c != "" for c in cells)])
        read = float if name in COUNTS else lambda c: int(c, 16)
        dtype = torch.float32 if name in COUNTS else torch.int64
        values = torch.tensor([read(c) for c in given], dtype=dtype)
        columns[name] = Ragged(values, torch.from_numpy(ends).int())
    return Batch(columns, len(rows)), torch.tensor([float(row[0]) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--backend", default="auto")
    asked = parser.parse_args()
    torch.manual_seed(0)
    rows = cells_of(asked.file)
    cut = len(rows) * 4 // 5
    held_out, truth = batch_of(rows[cut:])

    kernels = backends.load(asked.backend)
    model, rule = DeepFm(), AdamW(lr=3e-3, decay=0.1)
    tables = Embedding(model.features, kernels, rule)  # grow as ids appear
    optimizers = [torch.optim.AdamW(model.parameters(), lr=2e-3), RowOptimizer(tables, rule)]
    batches = [batch_of(rows[at : at + 256]) for at in range(0, cut, 256)]
    for epoch in range(asked.epochs):
        model.train()
        losses = []
        for at in torch.randperm(len(batches)).tolist():
            batch, label = batches[at]
            logits = model(tables.lookup(batch, train=True))
            loss = binary_cross_entropy_with_logits(logits, label)
            loss.backward()
            tables.accumulate()  # what backward() left in the leaves, summed by row
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            scores = model(tables.lookup(held_out, train=False))
        area = auc(kernels, scores, truth)
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, held-out AUC {area:.4f}")


if __name__ == "__main__":
    main()
