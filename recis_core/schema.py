"""What a model author declares: columns of files, tables of embeddings, features that join them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Pooling = Literal["sum", "mean", "tile", "ragged"]


@dataclass(frozen=True)
class Column:
    """A column to read from files.

    `kind`: "ids" arrive as int64, "values" as float32, "strings" as bytes (uint8).
    `width`: rows have exactly that many values (dense [rows, width]); None: lists of any length.
    `depth`: levels of list nesting when ragged (1: a list per row).
    `missing`: what a null row becomes: an "error", an "empty" list (ragged), or `default`.
    A null inside a list is replaced by `default` under "default" and is an error otherwise.
    Under "default" an empty list of a column of fixed width counts as missing too.
    """

    name: str
    kind: Literal["ids", "values", "strings"]
    width: int | None = None
    depth: int = 1
    missing: Literal["error", "empty", "default"] = "error"
    default: float = 0


@dataclass(frozen=True)
class Hash:
    """Strings to ids: FarmHash Fingerprint64 ("farm") or MurmurHash64A with seed 0 ("murmur")."""

    kind: Literal["farm", "murmur"] = "farm"


@dataclass(frozen=True)
class Mod:
    """ids to the remainder of their unsigned 64-bit pattern by `modulus` >= 1."""

    modulus: int


@dataclass(frozen=True)
class Bucketize:
    """Values to the number of ascending `boundaries` that are <= the value; NaN to their number."""

    boundaries: tuple[float, ...]


@dataclass(frozen=True)
class Truncate:
    """Keep at most `length` values of each row: the first ones, or the last with keep="last"."""

    length: int
    keep: Literal["first", "last"] = "first"


Transform = Hash | Mod | Bucketize | Truncate


@dataclass(frozen=True)
class Initializer:
    """How a new row's weight begins; a function of (seed, table name, id, column) alone.

    constant: a. uniform: [a, b). normal: mean a, deviation b. truncated_normal: the same, kept
    within two deviations of the mean.
    """

    kind: Literal["constant", "uniform", "normal", "truncated_normal"] = "normal"
    a: float = 0.0
    b: float = 0.01


@dataclass(frozen=True)
class Table:
    """A dynamic embedding table: any int64 id is legal and gets a row of `dim` when first trained.

    Tables whose dim, dtype, initializer and optimizer kind are equal share blocks and id map.
    `rate` multiplies the optimizer's learning rate.
    """

    name: str
    dim: int
    initializer: Initializer = Initializer()
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    rate: float = 1.0


@dataclass(frozen=True)
class Feature:
    """A model input: the rows of `table` for the ids of `column`, pooled per sample.

    "sum" and "mean" give [rows, dim] (mean is Σwx/Σw; an empty bag gives zeros); "tile" gives
    [rows, length, dim], the first `length` values, zeros after the last. "ragged" pools nothing:
    [values, dim], a row for every value, the samples end to end; beside the leaf the model gets
    `NAME.offsets` [rows + 1], where each sample begins and ends, and `NAME.ids` [values].
    `weights` names a ragged column of weights >= 0 beside the ids.
    """

    name: str
    column: str
    table: Table
    pooling: Pooling = "sum"
    length: int | None = None
    weights: str | None = None
    transforms: tuple[Transform, ...] = ()

    def __post_init__(self) -> None:
        if (self.pooling == "tile") != (self.length is not None):
            raise ValueError(f"feature {self.name!r}: length goes with pooling='tile', and only so")
        if self.pooling == "ragged" and self.weights is not None:
            raise ValueError(f"feature {self.name!r}: a ragged leaf pools nothing, so no weights")
