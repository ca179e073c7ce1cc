"""Bytes counted by hand, in one small call of every op, and what holds for every case."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from backends.arrays import BASE
from backends.conformance import present
from recis_core.blocks import Blocks, Slot
from recis_core.kernels import every_op, find_op

NONE = None


def f32(*shape: int) -> Tensor:
    return torch.ones(shape)


def i32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def i64(*values: int) -> Tensor:
    return torch.tensor(values)


def blocks(*slots: str) -> Blocks:
    """Rows of dim 2, 8 bytes a slot; "row_sum" has dim 1, 4 bytes."""
    made = Blocks([Slot(name, 1 if name == "row_sum" else 2) for name in slots], log2_rows=3)
    made.grow(8)
    return made


ROWS = i32(0, -1, 3)  # 12 bytes, two rows touched
ADAM = (0.1, 0.9, 0.999, 1e-8, 0.0, 0.9, 0.999, "torch")
INDEX = i32(0, 1, 2, 4), i32(1, 2, 1, 3), NONE  # starts, segments, weights of ROWS
FLAGS = torch.tensor([True, False, True, True])
PIECES = torch.zeros(2, 6, dtype=torch.int64)

# op, arguments, bytes read, bytes written, bytes requested
BY_HAND: list[tuple[str, tuple[Any, ...], int, int, int]] = [
    # buffer 32 + pieces 2·6·8; 2 ids·8 + 3 values·4 + 5 octets + 3 bounds·4
    ("columns_unpack", (torch.zeros(32, dtype=torch.uint8), PIECES, 2, 3, 5, 3), 128, 45, 173),
    # 5 characters + 3 offsets·4; 2 ids·8
    ("ids_hash", (torch.zeros(5, dtype=torch.uint8), i32(0, 2, 5), "farm"), 17, 16, 33),
    # 3 ids·8 + 2 splits·4 + 1 modulus·8; 3 ids·8
    ("ids_mod", (i64(1, 2, 3), i32(0, 3), i64(7)), 40, 24, 64),
    # 3 values·4 + 2 splits·4 + 2 boundaries·4 + 2 boundary splits·4; 3 numbers·8
    ("values_bucketize", (f32(3), i32(0, 3), f32(2), i32(0, 2)), 36, 24, 60),
    # 3 ids·8 + 3 splits·4 + 2 tables·4 + 1 salt·8; 2 pairs·12 + 2 counts·8 + 3 places·4;
    # and every value's pair looked up again, 3·12
    ("ids_partition", (i64(5, 5, 7), i32(0, 2, 3), i32(0, 0), i64(1), 2), 52, 52, 140),
    # 3 places·4 + 3 offsets·4 + 3 weights·4; 3 starts·4 + 3 segments·4 + 3 weights·4
    ("ids_transpose", (i32(0, 1, 0), i32(0, 1, 3), f32(3), 2), 36, 36, 72),
    # 4 rows·4 + 4 flags + 2 salts·8 + of the 2 fresh rows present a table·4 and an id·8;
    # 2 rows·(8 + 8)
    (
        "rows_init",
        (blocks("weight", "sum"), i32(0, 1, -1, 3), FLAGS, i32(0, 1, 0, 1), i64(1, 2, 3, 4),
         i64(8, 9), 1, "uniform", 0.0, 1.0),
        60, 32, 92,
    ),
    # 4 rows·4 + 2 different rows·8; 4 rows·8; requested: the 3 rows that are not -1 read
    ("rows_gather", (blocks("weight"), "weight", i32(0, 5, -1, 5)), 32, 32, 72),
    # 3 rows·4 + 2 values of present rows·8; 2 rows·8
    ("rows_scatter", (blocks("weight"), "weight", ROWS, f32(3, 2)), 28, 16, 44),
    # rows 0 and 2 of 8 bytes + 3 places·4 + 3 offsets·4; 2 segments·8; requested: 3 rows read
    ("segment_sum", (f32(3, 2), i32(0, 0, 2), i32(0, 2, 3), NONE), 40, 16, 64),
    # as above + 3 weights·4; 2 segments·(8 + 4)
    ("segment_mean", (f32(3, 2), i32(0, 0, 2), i32(0, 2, 3), f32(3)), 52, 24, 84),
    # two positions kept: rows 0 and 1 of 8 + 2 places·4 + 3 offsets·4; 2 segments·2·8
    ("segment_tile", (f32(3, 2), i32(0, 1, 2), i32(0, 3, 3), NONE, 2), 36, 32, 68),
    # gradients 1 and 2 of 8 bytes + 3 starts·4 + 3 segments·4; 2 rows·8; requested: 3 read
    ("segment_sum_grad", (f32(3, 2), i32(0, 2, 3), i32(1, 1, 2), NONE), 40, 16, 64),
    # the same with a scale of 4 bytes to each gradient
    ("segment_mean_grad", (f32(3, 2), f32(3), i32(0, 2, 3), i32(1, 1, 2), NONE), 48, 16, 76),
    # as segment_sum_grad; positions are segments
    ("segment_tile_grad", (f32(1, 3, 2), i32(0, 2, 3), i32(1, 1, 2), NONE), 40, 16, 64),
    # rows 2 and 4 are named, -1 costs nothing: 2·8 + 3 rows·4 + 4 places·4 + 3 offsets·4;
    # 2 segments·8; requested: 3 rows read
    (
        "rows_pool",
        (blocks("weight"), "weight", i32(2, -1, 4), i32(0, 0, 1, 2), i32(0, 3, 4), NONE),
        56, 16, 80,
    ),
    # 3 gradients·8 + 3 places·4; 2 sums·8
    ("rows_reduce", (f32(3, 2), i32(0, 1, 0), 2), 36, 16, 52),
    # 6 numbers·4; one double
    ("rows_norm", (f32(3, 2),), 24, 8, 32),
    # 3 rows·4 + 3 rates·4 + 2 gradients·8 + 2 weights·8; 2 weights·8
    ("rows_sgd", (blocks("weight"), ROWS, f32(3, 2), NONE, f32(3), 0.1, 0.0), 56, 16, 72),
    # 3 rows·4 + scale 8 + 2 gradients·8 + 2 rows·(8 + 8); 2 rows·16
    (
        "rows_adagrad",
        (blocks("weight", "sum"), ROWS, f32(3, 2), torch.ones(1).double(), NONE, 0.1, 0.1, 0.0),
        68, 32, 100,
    ),
    # 3 rows·4 + 2 gradients·8 + 2 rows·(8 + 4); 2 rows·12
    (
        "rows_adagrad_rowwise",
        (blocks("weight", "row_sum"), ROWS, f32(3, 2), NONE, NONE, 0.1, 0.1, 0.0),
        52, 24, 76,
    ),
    # 3 rows·4 + 2 gradients·8 + 2 rows·3·8; 2 rows·3·8
    (
        "rows_adam",
        (blocks("weight", "mean", "square"), ROWS, f32(3, 2), NONE, NONE, *ADAM),
        76, 48, 124,
    ),
    # the same + 3 rates·4; a slot that is not the optimizer's costs nothing
    (
        "rows_adamw",
        (blocks("other", "weight", "mean", "square"), ROWS, f32(3, 2), NONE, f32(3), *ADAM),
        88, 48, 136,
    ),
    # of segments 1, 2, 1, 3 the second is an absent row's: gradients 1 and 3 of 8 bytes + 3 rows·4
    # + 4 starts·4 + 4 segments·4 + 2 weights·8; 2 weights·8; requested: 3 gradients
    ("rows_reduce_sgd", (blocks("weight"), ROWS, f32(4, 2), NONE, *INDEX, NONE, 0.1, 0.0),
     76, 16, 100),
    # the same with 4 weights·4, 3 rates·4 and a scale of 4 bytes to each gradient; 2 rows·16
    (
        "rows_reduce_adagrad",
        (blocks("weight", "sum"), ROWS, f32(4, 2), f32(4), *INDEX[:2], f32(4), f32(3), 0.1, 0.1,
         0.0),
        128, 32, 172,
    ),
    # as rows_reduce_sgd; 2 rows·(8 + 4)
    (
        "rows_reduce_adagrad_rowwise",
        (blocks("weight", "row_sum"), ROWS, f32(4, 2), NONE, *INDEX, NONE, 0.1, 0.1, 0.0),
        84, 24, 116,
    ),
    # as rows_reduce_sgd; 2 rows·3·8
    (
        "rows_reduce_adam",
        (blocks("weight", "mean", "square"), ROWS, f32(4, 2), NONE, *INDEX, NONE, *ADAM),
        108, 48, 164,
    ),
    # a slot that is not the optimizer's costs nothing
    (
        "rows_reduce_adamw",
        (blocks("other", "weight", "mean", "square"), ROWS, f32(4, 2), NONE, *INDEX, NONE, *ADAM),
        108, 48, 164,
    ),
    # 3 labels·4 + 3 scores·4 + 3 offsets·4; 2 groups·(8 + 8)
    ("auc_grouped", (f32(3), f32(3), i32(0, 2, 3)), 36, 32, 68),
    # 2 tables·4 + 2 ids·8 + 2 cells·16; 2 rows·4 + 2 flags + 2 cells·16
    ("id_map", ("insert", (i32(0, 1), i64(5, 6)), 100), 56, 42, 98),
    # 2 rows·4 + the count of missing ones·8
    ("id_map", ("find", (i32(0, 1), i64(5, 6)), 100), 56, 16, 72),
    # 2 rows·8, as the limit takes int64 + 2 cells·16
    ("id_map", ("erase", (i32(0, 1), i64(5, 6)), 1 << 40), 56, 48, 104),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "read", "written", "requested"),
    [pytest.param(*row, id=f"{row[0]}-{at}") for at, row in enumerate(BY_HAND)],
)
def test_bytes_by_hand(
    name: str, args: tuple[Any, ...], read: int, written: int, requested: int
) -> None:
    moved = find_op(name).traffic(*args)
    assert (moved.read, moved.written, moved.requested) == (read, written, requested)
    assert moved.minimum == read + written


# RecIS's own count, of the ops it has a formula for; the calls above.
RECIS_STYLE = {
    "ids_hash": 17 + 16,  # characters and offsets; hashes
    "ids_mod": 24 + 24,  # ids in and out
    "values_bucketize": 12 + 24,  # values; numbers
    "rows_gather": 16 + 2 * 32,  # places; twice the output
    "segment_sum": 3 * 8 + 12 + 12 + 3 * 16,  # rows asked for, places, offsets; thrice the output
    "segment_mean": 3 * 8 + 12 + 12 + 12 + 3 * 16,  # the same and weights
    "segment_tile": 3 * 8 + 12 + 12 + 32,  # rows, places, offsets; the output
}


@pytest.mark.parametrize("row", BY_HAND, ids=lambda row: row[0])
def test_recis_style_bytes_by_hand(row: tuple[str, tuple[Any, ...], int, int, int]) -> None:
    """No formula, no number."""
    assert find_op(row[0]).traffic(*row[1]).recis == RECIS_STYLE.get(row[0])


def test_every_op_is_counted() -> None:
    assert {row[0] for row in BY_HAND} == {op.name for op in every_op()}


@pytest.mark.parametrize("op", [op for op in every_op() if not op.machine], ids=lambda op: op.name)
def test_traffic_of_every_case(op: Any) -> None:
    """Fields are numbers >= 0, and the minimum is within what is requested."""
    for case in op.cases("test"):
        args = present(op, case.make(), BASE, torch.device("cpu"))
        moved = op.traffic(*args.values())
        for value in (moved.read, moved.written, moved.requested, moved.flops, moved.recis or 0):
            assert isinstance(value, int)
            assert value >= 0
        assert moved.minimum <= moved.requested
        outs = sum(o.shape[0] for o in op.outs(*args.values()) if o.shape and o.valid is None)
        assert moved.written > 0 or not outs
