"""`mse` over tables of a fixed size: PyTorch's own, and what any library's need around them.

The same files, the same dense modules, the same batch size. A fixed table cannot hold arbitrary
64-bit ids, so they are numbered offline, untimed; this spares a baseline the id map. A table has
as many rows as its column has possible ids. Batches are read by pyarrow in the order of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from torch import Tensor, nn

from workloads.baselines.definition import Rows, Terms
from workloads.baselines.numbered import numbered
from workloads.mse import Field, Mse, MseConfig, MseModel, fields


def tensor_of(array: pa.Array) -> Tensor:
    # A copy where Arrow's memory is read-only would be as fast; torch only warns about it.
    return torch.from_numpy(np.require(array.to_numpy(zero_copy_only=False), requirements="W"))


class PlainMse(nn.Module):
    """The model of `mse` over PyTorch's own embeddings."""

    def __init__(self, config: MseConfig) -> None:
        super().__init__()
        self.fields = fields(config)
        self.dense = MseModel(config)
        self.tables = nn.ModuleDict({f.column.name: table_of(f) for f in self.fields})

    def begin(self, name: str, rows: Tensor) -> None:
        """The first rows of a table."""
        table: Any = self.tables[name]
        with torch.no_grad():
            table.weight[: len(rows)] = rows

    def forward(self, batch: pa.RecordBatch) -> dict[str, Tensor]:
        """The leaf of every feature: [rows, dim], of a sequence [rows, length, dim]."""
        return {f.column.name: self.leaf(f, batch) for f in self.fields}

    def leaf(self, field: Field, batch: pa.RecordBatch) -> Tensor:
        name, vocab = field.column.name, field.column.vocab
        table, column = self.tables[name], batch[name]
        if field.column.mean is None:
            return table(tensor_of(column).unsqueeze(1))
        ids, offsets = ids_of(column)
        if field.length is not None:
            return table(padded(ids, offsets, field.length, vocab))
        if field.column.weighted:
            weights = tensor_of(batch[field.column.weight_name].flatten())
            if field.pooling == "mean":
                weights = normalized(weights, offsets)
            return table(ids, offsets[:-1], per_sample_weights=weights)
        return table(ids, offsets[:-1])


def ids_of(column: pa.Array) -> tuple[Tensor, Tensor]:
    """The ids of a column of lists, and their offsets [rows + 1] from 0."""
    offsets = tensor_of(column.offsets).long()
    return tensor_of(column.flatten()), offsets - offsets[0]


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


def batches(folder: Path, size: int) -> Iterator[pa.RecordBatch]:
    """Record batches of the training files, Parquet, over and over; one file read ahead of none."""
    while True:
        for path in sorted((folder / "train").glob("*.parquet")):
            for batch in parquet.ParquetFile(path).iter_batches(size):
                if batch.num_rows == size:
                    yield batch


class Tables(Protocol):
    """Tables with the model of `mse` on top: `dense`; calling it with a batch gives the leaves."""

    dense: nn.Module

    def begin(self, name: str, rows: Tensor) -> None: ...

    def __call__(self, batch: pa.RecordBatch) -> dict[str, Tensor]: ...


class PlainTrainer:
    """One `step()` reads a batch and trains on it. `sparse`: the tables' optimizer, None where
    their backward pass updates them."""

    def __init__(
        self,
        model: Any,
        sparse: torch.optim.Optimizer | None,
        source: Iterator[pa.RecordBatch],
        dense_lr: float,
    ) -> None:
        self.model, self.batches = model, source
        dense = torch.optim.AdamW(model.dense.parameters(), lr=dense_lr)
        self.columns = model.dense.dense
        self.optimizers = [dense] if sparse is None else [sparse, dense]

    def step(self) -> float:
        """-> the loss."""
        batch = next(self.batches)
        inputs = self.model(batch)
        for name in self.columns:
            inputs[name] = tensor_of(batch[name]).unsqueeze(1)
        loss = nn.functional.binary_cross_entropy_with_logits(
            self.model.dense(inputs), tensor_of(batch["label"])
        )
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return float(loss.detach())


def unfit(terms: Terms, optimizers: Sequence[str], who: str) -> str | None:
    """Why `mse` over fixed tables cannot be trained on these terms; None if it can."""
    if not isinstance(terms.workload, Mse):
        return f"it has a model for mse alone, not for {terms.workload.name}"
    if terms.workload.config(terms.size).targets > 1:
        return f"its loss is of one target, and mse {terms.size} has more"
    if terms.device.type != "cpu":
        return f"it reads to the CPU; the device is {terms.device.type}"
    if not any((terms.data / "train").glob("*.parquet")):
        return f"it reads Parquet, and {terms.data / 'train'} has none"
    if terms.optimizer not in optimizers:
        return f"{who} has {' and '.join(optimizers)} for rows, not {terms.optimizer}"
    return None


def trainer(
    terms: Terms,
    rows: Rows,
    made: Callable[[MseConfig], Any],
    sparse: Callable[[Any], torch.optim.Optimizer] | None = None,
) -> PlainTrainer:
    """Tables over ids numbered offline, begun with the engine's rows, and their trainer."""
    workload: Any = terms.workload
    config = workload.config(terms.size)
    found = fields(config)
    names = [field.column.name for field in found]
    ready = numbered(terms.data, terms.scratch, names, terms.batch, terms.steps)
    torch.manual_seed(0)  # the dense part begins as the engine's
    model = made(config)
    for field in found:
        name = field.column.name
        model.begin(name, rows(name, ready.ids[name], field.dim))
    source = batches(ready.folder, terms.batch)
    return PlainTrainer(model, sparse and sparse(model), source, terms.dense_lr)
