"""DeepFM (Guo et al., IJCAI 2017) in ordinary PyTorch on top of declared features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recis_core.schema import Column, Feature
from recis_core.task import Task
from workloads.dense import mlp


class DeepFm(nn.Module):
    """First order + pairwise products of factors + an MLP over all factors.

    Every feature has one dim, and a row holds both of its roles: the first value is its first-order
    weight, the others are its factor. `forward(inputs)`: leaves [rows, dim] -> logits [rows].
    """

    def __init__(
        self,
        features: Sequence[Feature],
        columns: Sequence[Column],
        task: Task,
        *,
        hidden: Sequence[int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        dims = {f.table.dim for f in features}
        if len(dims) != 1:
            raise ValueError(f"DeepFM's features need one dim, but have {sorted(dims)}")
        self.features, self.columns, self.task = tuple(features), tuple(columns), task
        self.bias = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(dropout)
        self.mlp = mlp(len(self.features) * (dims.pop() - 1), hidden, dropout)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        x = torch.stack([inputs[f.name] for f in self.features], 1)
        first, factor = x[:, :, 0].sum(1), x[:, :, 1:]
        pairs = (factor.sum(1).square() - factor.square().sum(1)).sum(1) / 2
        deep = self.mlp(self.dropout(factor.flatten(1))).squeeze(1)
        return self.bias + first + pairs + deep
