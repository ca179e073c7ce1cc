"""`mse` over TorchRec's fused collections (`pip install torchrec fbgemm-gpu-cpu`), unsharded.

One FusedEmbeddingBagCollection holds every bag, another every sequence as bags of one id, as its
collection of sequences runs on GPUs alone; rows are updated in the backward pass. On the CPU it
has Adagrad, by element and by row, and no Adam.
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
from workloads.baselines.fbgemm import EPS, OPTIMIZERS
from workloads.baselines.packed import Bags, bags_of, cut, joined, single
from workloads.baselines.plain_torch import trainer, unfit
from workloads.mse import Field, MseConfig, MseModel, fields


class Collections(nn.Module):
    """The model of `mse` over keyed jagged tensors."""

    def __init__(self, config: MseConfig, optimizer: str, lr: float) -> None:
        super().__init__()
        every = fields(config)
        self.dense = MseModel(config)
        self.bags = tuple(f for f in every if f.length is None)
        self.sequences = tuple(f for f in every if f.length is not None)
        self.tables: Any = nn.ModuleList(
            collection(own, optimizer, lr) for own in (self.bags, self.sequences)
        )

    def begin(self, name: str, rows: Tensor) -> None:
        """The first rows of a table."""
        for key, weights in self.tables.state_dict().items():
            if key.split(".")[-2] == name:
                weights[: len(rows)] = rows

    def forward(self, batch: pa.RecordBatch) -> dict[str, Tensor]:
        """The leaf of every feature: [rows, dim], of a sequence [rows, length, dim]."""
        pooled = self.tables[0](keyed(self.bags, [bags_of(batch, f) for f in self.bags]))
        leaves = dict(pooled.to_dict())
        parts = [single(cut(batch, f), f.length or 0) for f in self.sequences]
        for name, leaf in self.tables[1](keyed(self.sequences, parts)).to_dict().items():
            leaves[name] = leaf.reshape(batch.num_rows, -1, leaf.shape[1])
        return leaves


def keyed(own: Sequence[Field], parts: Sequence[Bags]) -> Any:
    jagged = import_module("torchrec.sparse.jagged_tensor")
    bags = joined(parts)
    names = [f.column.name for f in own]
    return jagged.KeyedJaggedTensor(names, bags.ids, bags.weights, lengths=bags.lengths)


def collection(own: Sequence[Field], optimizer: str, lr: float) -> Any:
    """The library's module over the tables of some fields."""
    configs = import_module("torchrec.modules.embedding_configs")
    modules = import_module("torchrec.modules.fused_embedding_modules")
    # The optimizer's class is by what the library chooses its fused one.
    rowwise = import_module("torchrec.optim").RowWiseAdagrad
    kind = torch.optim.Adagrad if optimizer == "adagrad" else rowwise
    rule = {"lr": lr, "eps": EPS, "stochastic_rounding": False}
    tables = [configs.EmbeddingBagConfig(**shape_of(f)) for f in own]
    return modules.FusedEmbeddingBagCollection(tables, kind, rule, True, torch.device("cpu"))


def shape_of(field: Field) -> dict[str, Any]:
    name = field.column.name
    return dict(name=name, embedding_dim=field.dim, num_embeddings=field.column.vocab,
                feature_names=[name])  # fmt: skip


@dataclass(frozen=True)
class TorchRec:
    """Fused collections over ids numbered offline, dense part with AdamW."""

    name: str = "torchrec"

    def absent(self, terms: Terms) -> str | None:
        missing = not_installed("torchrec", "torchrec") or not_installed(
            "fbgemm_gpu", "fbgemm-gpu-cpu"
        )
        return missing or unfit(terms, OPTIMIZERS, "TorchRec on the CPU")

    def contender(self, terms: Terms, rows: Rows) -> Contender:
        def made(config: MseConfig) -> Collections:
            return Collections(config, terms.optimizer, terms.lr)

        return trainer(terms, rows, made)


baselines = (TorchRec(),)
