"""`mse` over FBGEMM's table-batched embeddings (`pip install fbgemm-gpu-cpu`): two calls a step.

One module holds every bag, another every sequence as bags of one id; both update their rows in
the backward pass. On the CPU FBGEMM has Adagrad, by element and by row, and no Adam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from workloads.baselines.definition import Contender, Rows, Terms, not_installed
from workloads.baselines.packed import Bags, bags_of, cut, joined, single
from workloads.baselines.plain_torch import trainer, unfit
from workloads.mse import Field, MseConfig, MseModel, fields

EPS = 1e-10  # as the engine's Adagrad has it
OPTIMIZERS = ("adagrad", "adagrad_rowwise")


class Tables(nn.Module):
    """The model of `mse`; tables of a kind of feature are one table-batched module."""

    def __init__(self, config: MseConfig, optimizer: str, lr: float) -> None:
        super().__init__()
        every = fields(config)
        self.dense = MseModel(config)
        self.bags = tuple(f for f in every if f.length is None)
        self.sequences = tuple(f for f in every if f.length is not None)
        self.tables: Any = nn.ModuleList(
            table_batched(own, optimizer, lr) for own in (self.bags, self.sequences)
        )

    def begin(self, name: str, rows: Tensor) -> None:
        """The first rows of a table."""
        for own, tables in zip((self.bags, self.sequences), self.tables, strict=True):
            for field, weights in zip(own, tables.split_embedding_weights(), strict=True):
                if field.column.name == name:
                    weights[: len(rows)] = rows

    def forward(self, batch: pa.RecordBatch) -> dict[str, Tensor]:
        """The leaf of every feature: [rows, dim], of a sequence [rows, length, dim]."""
        rows = batch.num_rows
        leaves = looked_up(self.tables[0], self.bags, [bags_of(batch, f) for f in self.bags])
        # All sequences of a configuration are of one length.
        parts = [single(cut(batch, f), f.length or 0) for f in self.sequences]
        for name, leaf in looked_up(self.tables[1], self.sequences, parts).items():
            leaves[name] = leaf.view(rows, -1, leaf.shape[1])
        return leaves


def table_batched(own: Sequence[Field], optimizer: str, lr: float) -> Any:
    """The library's module over the tables of some fields."""
    configs = import_module("fbgemm_gpu.split_embedding_configs")
    ops = import_module("fbgemm_gpu.split_table_batched_embeddings_ops_training")
    place = import_module("fbgemm_gpu.split_table_batched_embeddings_ops_common")
    host, cpu = place.EmbeddingLocation.HOST, ops.ComputeDevice.CPU
    kinds = {
        "adagrad": configs.EmbOptimType.EXACT_ADAGRAD,
        "adagrad_rowwise": configs.EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    }
    return ops.SplitTableBatchedEmbeddingBagsCodegen(
        [(f.column.vocab, f.dim, host, cpu) for f in own],
        optimizer=kinds[optimizer],
        learning_rate=lr,
        eps=EPS,
        stochastic_rounding=False,
        device=torch.device("cpu"),
    )


def looked_up(tables: Any, own: Sequence[Field], parts: Sequence[Bags]) -> dict[str, Tensor]:
    """[bags, dim] of each field; one call for all."""
    bags = joined(parts)
    out = tables(bags.ids, bags.offsets, per_sample_weights=bags.weights)
    leaves = torch.split(out, [f.dim for f in own], 1)
    return {f.column.name: leaf for f, leaf in zip(own, leaves, strict=True)}


@dataclass(frozen=True)
class Fbgemm:
    """Table-batched embeddings over ids numbered offline, dense part with AdamW."""

    name: str = "fbgemm"

    def absent(self, terms: Terms) -> str | None:
        missing = not_installed("fbgemm_gpu", "fbgemm-gpu-cpu")
        return missing or unfit(terms, OPTIMIZERS, "FBGEMM on the CPU")

    def contender(self, terms: Terms, rows: Rows) -> Contender:
        def made(config: MseConfig) -> Tables:
            return Tables(config, terms.optimizer, terms.lr)

        return trainer(terms, rows, made)


baselines = (Fbgemm(),)
