"""Columns of a record batch laid end to end, as libraries of batched tables take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from workloads.baselines.plain_torch import ids_of, normalized, tensor_of
from workloads.mse import Field


class Bags(NamedTuple):
    """Field after field, bag after bag: ids int64 [n], lengths int64 [bags], weights [n]."""

    ids: Tensor
    lengths: Tensor
    weights: Tensor

    @property
    def offsets(self) -> Tensor:
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])


def joined(parts: Sequence[Bags]) -> Bags:
    return Bags(*(torch.cat(each) for each in zip(*parts, strict=True)))


def bags_of(batch: pa.RecordBatch, field: Field) -> Bags:
    """A bag for each row, its weights such that their sum is the pooling: 1, given, or a mean's."""
    column, rows = batch[field.column.name], batch.num_rows
    if field.column.mean is None:
        return Bags(tensor_of(column), torch.ones(rows, dtype=torch.int64), torch.ones(rows))
    ids, offsets = ids_of(column)
    weights = torch.ones(len(ids))
    if field.column.weighted:
        weights = tensor_of(batch[field.column.weight_name].flatten())
    if field.pooling == "mean":
        weights = normalized(weights, offsets)
    return Bags(ids, offsets.diff(), weights)


def cut(batch: pa.RecordBatch, field: Field) -> Bags:
    """A sequence's rows, each with its first `field.length` ids at most."""
    ids, offsets = ids_of(batch[field.column.name])
    lengths = offsets.diff()
    place = torch.arange(len(ids)) - torch.repeat_interleave(offsets[:-1], lengths)
    kept = ids[place < (field.length or 0)]
    return Bags(kept, lengths.clamp(max=field.length), torch.ones(len(kept)))


def single(bags: Bags, length: int) -> Bags:
    """`length` bags for each bag, of one id or none."""
    full = torch.arange(length) < bags.lengths[:, None]
    return bags._replace(lengths=full.flatten().long())
