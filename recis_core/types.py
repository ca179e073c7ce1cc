"""The kinds of argument an op takes; the harness casts and varies an argument by its kind.

Written as annotations on op references. To a type checker each is what the engine passes (a torch
tensor or `Blocks`); declarations see NumPy arrays and `Slots` instead and import NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from recis_core.blocks import Blocks

    Ids = Tensor  # int64; every value legal
    Index = Tensor  # int32 where the extent allows, else int64: rows, inverse, offsets, segments
    Values = Tensor  # float32, float16 or bfloat16; computed in float32 or better
    Bytes = Tensor  # uint8
    Flags = Tensor  # bool
    Double = Tensor  # float64
else:
    Ids = Index = Values = Bytes = Flags = Double = Blocks = object

__all__ = ["Blocks", "Bytes", "Double", "Flags", "Ids", "Index", "Slots", "Values", "index_dtype"]


class Slots(dict[str, np.ndarray]):
    """The content of blocks as a declaration sees it: slot name -> array [capacity, dim].

    `fill`: what a slot of a row begins with, where it is not 0.
    """

    def __init__(
        self,
        content: Mapping[str, np.ndarray] = MappingProxyType({}),
        fill: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        super().__init__(content)
        self.fill = dict(fill)

    @property
    def capacity(self) -> int:
        return len(next(iter(self.values())))

    def dim(self, slot: str) -> int:
        return self[slot].shape[1]

    def dtype(self, slot: str) -> np.dtype:
        return self[slot].dtype

    def row_bytes(self, slot: str) -> int:
        return self[slot][:1].nbytes


def index_dtype(extent: int) -> Literal["int32", "int64"]:
    """The one rule for rows, inverse and offsets: int32 where values up to `extent` fit."""
    return "int32" if extent < 1 << 31 else "int64"
