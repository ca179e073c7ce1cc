"""Every op the engine calls, on one page. The class is the contract; an instance is bound code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from recis_core.ops.auc_grouped import auc_grouped
from recis_core.ops.columns_unpack import columns_unpack
from recis_core.ops.id_map import id_map
from recis_core.ops.ids_hash import ids_hash
from recis_core.ops.ids_mod import ids_mod
from recis_core.ops.ids_partition import ids_partition
from recis_core.ops.ids_transpose import ids_transpose
from recis_core.ops.rows_adagrad import rows_adagrad
from recis_core.ops.rows_adagrad_rowwise import rows_adagrad_rowwise
from recis_core.ops.rows_adam import rows_adam
from recis_core.ops.rows_adamw import rows_adamw
from recis_core.ops.rows_gather import rows_gather
from recis_core.ops.rows_init import rows_init
from recis_core.ops.rows_norm import rows_norm
from recis_core.ops.rows_pool import rows_pool
from recis_core.ops.rows_reduce import rows_reduce
from recis_core.ops.rows_reduce_adagrad import rows_reduce_adagrad
from recis_core.ops.rows_reduce_adagrad_rowwise import rows_reduce_adagrad_rowwise
from recis_core.ops.rows_reduce_adam import rows_reduce_adam
from recis_core.ops.rows_reduce_adamw import rows_reduce_adamw
from recis_core.ops.rows_reduce_sgd import rows_reduce_sgd
from recis_core.ops.rows_scatter import rows_scatter
from recis_core.ops.rows_sgd import rows_sgd
from recis_core.ops.segment_mean import segment_mean
from recis_core.ops.segment_mean_grad import segment_mean_grad
from recis_core.ops.segment_sum import segment_sum
from recis_core.ops.segment_sum_grad import segment_sum_grad
from recis_core.ops.segment_tile import segment_tile
from recis_core.ops.segment_tile_grad import segment_tile_grad
from recis_core.ops.values_bucketize import values_bucketize
from recis_core.spec import Op


class Kernels:
    """One implementation of each op, chosen once, when constructed; complete or refused."""

    # columns and features
    columns_unpack = columns_unpack
    ids_hash = ids_hash
    ids_mod = ids_mod
    values_bucketize = values_bucketize
    # routing
    ids_partition = ids_partition
    ids_transpose = ids_transpose
    id_map = id_map
    # rows
    rows_init = rows_init
    rows_gather = rows_gather
    rows_scatter = rows_scatter
    # pooling
    segment_sum = segment_sum
    segment_mean = segment_mean
    segment_tile = segment_tile
    segment_sum_grad = segment_sum_grad
    segment_mean_grad = segment_mean_grad
    segment_tile_grad = segment_tile_grad
    rows_pool = rows_pool
    # gradients and optimizers
    rows_reduce = rows_reduce
    rows_norm = rows_norm
    rows_sgd = rows_sgd
    rows_adagrad = rows_adagrad
    rows_adagrad_rowwise = rows_adagrad_rowwise
    rows_adam = rows_adam
    rows_adamw = rows_adamw
    # the same with the gradient reduced on the way
    rows_reduce_sgd = rows_reduce_sgd
    rows_reduce_adagrad = rows_reduce_adagrad
    rows_reduce_adagrad_rowwise = rows_reduce_adagrad_rowwise
    rows_reduce_adam = rows_reduce_adam
    rows_reduce_adamw = rows_reduce_adamw
    # metrics
    auc_grouped = auc_grouped

    def __init__(
        self,
        name: str,
        bound: Mapping[str, Callable[..., Any]],
        origins: Mapping[str, str],
        device: str = "cpu",
    ) -> None:
        """`origins`: the backend each op came from, "X (composed)" for a fused op's default."""
        missing = [op.name for op in every_op() if op.name not in bound]
        if missing:
            raise TypeError(f"kernels {name!r} lack {', '.join(missing)}")
        self.__dict__.update(bound)
        self.name, self.origins, self.device = name, dict(origins), device

    def __repr__(self) -> str:
        return self.name


def every_op() -> Iterator[Op[..., Any]]:
    return (value for value in vars(Kernels).values() if isinstance(value, Op))


def find_op(name: str) -> Op[..., Any]:
    """The declared op called `name`, or KeyError naming those there are."""
    for op in every_op():
        if op.name == name:
            return op
    raise KeyError(f"no op {name!r}; there are {', '.join(op.name for op in every_op())}")
