"""Gradients of the rows that the micro-batches of a step touched.

They stay in the leaves until somebody needs one a row: an optimizer that reduces them while it
updates never does, whereas a norm, a second micro-batch and an exchange between ranks do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recis_core import pooling
from recis_core.kernels import Kernels
from recis_core.pooling import Transposed


@dataclass(frozen=True)
class RowGradients:
    """rows [n] distinct; tables [n] int32, the table of each; grad [n, dim] float32."""

    rows: Tensor
    tables: Tensor
    grad: Tensor


@dataclass(frozen=True)
class LeafGradients:
    """Gradients still in the leaves: row i, of `rows` [n] distinct, is pair i of `transposed`.

    tables [n] int32, the table of each; leaves [leaf rows, dim] float32, their gradients; scale
    [leaf rows] float32 or None, what each leaf row was multiplied by.
    """

    rows: Tensor
    tables: Tensor
    leaves: Tensor
    scale: Tensor | None
    transposed: Transposed

    def reduced(self, kernels: Kernels) -> RowGradients:
        """The same, one a row."""
        grad = pooling.gradient(kernels, self.leaves, self.scale, self.transposed)
        return RowGradients(self.rows, self.tables, grad)


def merge(kernels: Kernels, first: RowGradients, second: RowGradients) -> RowGradients:
    """The sum of two micro-batches' gradients: rows of either, once each, as they first come."""
    rows = torch.cat([first.rows, second.rows])
    device = rows.device
    splits = torch.tensor([0, len(rows)], dtype=torch.int32, device=device)
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    unique, _, counts, inverse = kernels.ids_partition(rows.long(), splits, zero, zero, 1)
    distinct = int(counts)
    order, inverse = by_first(inverse, distinct)
    grad = kernels.rows_reduce(torch.cat([first.grad, second.grad]), inverse, distinct)
    # A row belongs to one table, so whichever write comes last is right.
    tables = first.tables.new_empty(distinct)
    tables[inverse.long()] = torch.cat([first.tables, second.tables])
    return RowGradients(unique[:distinct][order].to(rows.dtype), tables, grad)


def by_first(inverse: Tensor, distinct: int) -> tuple[Tensor, Tensor]:
    """The order [distinct] in which things first occur in `inverse`, and `inverse` in that order.

    A run that was resumed may have other row numbers; so nothing may follow their order, not even
    the sum in a norm.
    """
    at = torch.arange(len(inverse), device=inverse.device)
    first = at.new_full((distinct,), len(inverse))
    order = first.scatter_reduce(0, inverse.long(), at, "amin").argsort()
    place = torch.empty_like(order)
    place[order] = at[:distinct]
    return order, place[inverse.long()].to(inverse.dtype)
