"""`mse` in plain PyTorch: EmbeddingBag(sparse=True) with SparseAdam, the dense part with AdamW.

The same files, the same dense modules, the same batch size. A dense table cannot hold arbitrary
64-bit ids, so an id becomes `id mod vocabulary`, as one does without a dynamic table: a table has
as many rows as its column has possible ids, and some of them collide. This spares the baseline
the id map; its AUC is not compared. Batches are read by pyarrow in file order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from torch import Tensor, nn

from workloads.mse import Field, MseConfig, MseModel, fields


def rows_of(array: pa.Array, vocab: int) -> Tensor:
    """int64 rows of the table from ids: the remainder, never negative."""
    return torch.remainder(tensor_of(array), vocab)


def tensor_of(array: pa.Array) -> Tensor:
    # A copy where Arrow's memory is read-only would be as fast; torch only warns about it.
    return torch.from_numpy(np.require(array.to_numpy(zero_copy_only=False), requirements="W"))


class PlainMse(nn.Module):
    """The model of `mse` over PyTorch's own embeddings."""

    def __init__(self, config: MseConfig) -> None:
        super().__init__()
        self.config = config
        self.fields = fields(config)
        self.dense = MseModel(config)
        self.tables = nn.ModuleDict({f.column.name: table_of(f) for f in self.fields})

    def forward(self, batch: pa.RecordBatch) -> Tensor:
        inputs = {f.column.name: self.leaf(f, batch) for f in self.fields}
        for name in self.dense.dense:
            inputs[name] = tensor_of(batch[name]).unsqueeze(1)
        return self.dense(inputs)

    def leaf(self, field: Field, batch: pa.RecordBatch) -> Tensor:
        """[rows, dim], or [rows, length, dim] of a sequence."""
        name, vocab = field.column.name, field.column.vocab
        table, column = self.tables[name], batch[name]
        if field.column.mean is None:
            return table(rows_of(column, vocab).unsqueeze(1))
        offsets = tensor_of(column.offsets).long()
        offsets = offsets - offsets[0]
        ids = rows_of(column.flatten(), vocab)
        if field.length is not None:
            return table(padded(ids, offsets, field.length, vocab))
        if field.column.weighted:
            weights = tensor_of(batch[field.column.weight_name].flatten())
            if field.pooling == "mean":
                weights = normalized(weights, offsets)
            return table(ids, offsets[:-1], per_sample_weights=weights)
        return table(ids, offsets[:-1])


def table_of(field: Field) -> nn.Module:
    vocab, dim = field.column.vocab, field.dim
    if field.length is not None:
        table = nn.Embedding(vocab + 1, dim, padding_idx=vocab, sparse=True)
    else:
        # EmbeddingBag takes weights with mode "sum" alone; a weighted mean is normalised before.
        mode = "mean" if field.pooling == "mean" and not field.column.weighted else "sum"
        table = nn.EmbeddingBag(vocab, dim, mode=mode, sparse=True)
    with torch.no_grad():
        table.weight.normal_(0, 0.01)
        if field.length is not None:
            table.weight[vocab] = 0
    return table


def padded(ids: Tensor, offsets: Tensor, length: int, padding: int) -> Tensor:
    """[rows, length]: the first `length` ids of each row, then `padding`."""
    at = offsets[:-1, None] + torch.arange(length)
    inside = at < offsets[1:, None]
    if not len(ids):
        return torch.full(at.shape, padding)
    return torch.where(inside, ids[at.clamp(max=len(ids) - 1)], padding)


def normalized(weights: Tensor, offsets: Tensor) -> Tensor:
    """Weights divided by their row's sum."""
    rows = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
    total = torch.zeros(len(offsets) - 1).index_add_(0, rows, weights)
    return weights / total[rows].clamp(min=1e-12)


def batches(folder: Path, config: MseConfig, size: int) -> Iterator[pa.RecordBatch]:
    """Record batches of the training files, Parquet, over and over; one file read ahead of none."""
    while True:
        for path in sorted((folder / "train").glob("*.parquet")):
            for batch in parquet.ParquetFile(path).iter_batches(size):
                if batch.num_rows == size:
                    yield batch


class PlainTrainer:
    """One `step()` reads a batch and trains on it."""

    def __init__(
        self, config: MseConfig, folder: Path, batch_size: int, lr: float, dense_lr: float
    ) -> None:
        torch.manual_seed(0)
        self.model = PlainMse(config)
        self.batches = batches(folder, config, batch_size)
        self.sparse = torch.optim.SparseAdam(list(self.model.tables.parameters()), lr=lr)
        self.dense = torch.optim.AdamW(self.model.dense.parameters(), lr=dense_lr)

    def step(self) -> float:
        """-> the loss."""
        batch = next(self.batches)
        loss = nn.functional.binary_cross_entropy_with_logits(
            self.model(batch), tensor_of(batch["label"])
        )
        self.sparse.zero_grad()
        self.dense.zero_grad()
        loss.backward()
        self.sparse.step()
        self.dense.step()
        return float(loss.detach())
