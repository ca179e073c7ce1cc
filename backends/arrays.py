"""Between what declarations see (NumPy, float64, Slots) and what backends see (torch, Blocks)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from recis_core.blocks import Blocks, Slot
from recis_core.types import Slots


@dataclass(frozen=True)
class Variant:
    """A way to present the same case: value dtype, index width, memory layout, block size."""

    values: Literal["float32", "float16", "bfloat16"] = "float32"
    index: Literal["int32", "int64"] = "int32"
    layout: Literal["contiguous", "strided", "offset"] = "contiguous"
    log2_rows: int = 6

    def __str__(self) -> str:
        size = () if self.log2_rows == 6 else (f"rows{1 << self.log2_rows}",)
        return "-".join((self.values, self.index, self.layout, *size))


BASE = Variant()


def to_torch(kind: str, value: Any, variant: Variant, device: torch.device | str) -> Any:
    """A drawn argument as an implementation gets it."""
    if value is None or kind in ("int", "float", "str"):
        return value.item() if isinstance(value, np.generic) else value
    if kind == "Blocks":
        return blocks_of(value, variant, device)
    dtype = {
        "Ids": torch.int64,
        "Index": getattr(torch, variant.index),
        "Values": getattr(torch, variant.values),
        "Bytes": torch.uint8,
        "Flags": torch.bool,
        "Double": torch.float64,
    }[kind]
    return laid(torch.from_numpy(np.ascontiguousarray(value)).to(dtype).to(device), variant.layout)


def laid(tensor: Tensor, layout: str) -> Tensor:
    """The same content, strided or one element off alignment."""
    if layout == "strided" and tensor.ndim:
        wide = tensor.new_zeros(*tensor.shape[:-1], tensor.shape[-1] * 2)
        wide[..., ::2] = tensor
        return wide[..., ::2]
    if layout == "offset":
        long = tensor.new_zeros(tensor.numel() + 1)
        long[1:] = tensor.reshape(-1)
        return long[1:].view(tensor.shape)
    return tensor


def blocks_of(slots: Slots, variant: Variant, device: torch.device | str) -> Blocks:
    """Blocks with the content of `slots`; "weight" in the value dtype, other slots float32.

    Bytes no slot uses, and rows past the declared ones, hold noise that must survive.
    """
    made = [
        Slot(
            name,
            content.shape[1],
            getattr(torch, variant.values) if name == "weight" else torch.float32,
            slots.fill.get(name, 0.0),
        )
        for name, content in slots.items()
    ]
    blocks = Blocks(made, variant.log2_rows, device)
    blocks.grow(slots.capacity)
    for block in blocks.tensors:
        block.fill_(0x5A)
    for name, content in slots.items():
        source = torch.from_numpy(np.ascontiguousarray(content, np.float32))
        rows = 1 << variant.log2_rows
        for at, view in enumerate(blocks.views(name)):
            part = source[at * rows : (at + 1) * rows]
            view[: len(part)] = part.to(view.dtype).to(device)
    return blocks


def to_numpy(value: Any) -> Any:
    """A torch argument as a reference gets it: floats widened to float64, blocks as Slots."""
    if isinstance(value, Blocks):
        content = {
            name: np.concatenate(
                [to_numpy(v) for v in value.views(name)] or [_no_rows(value, name)]
            )
            for name in value.slots
        }
        return Slots(content, {s.name: s.fill for s in value.slots.values()})
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    if value.dtype.is_floating_point:
        return value.double().numpy()
    return value.numpy()


def _no_rows(blocks: Blocks, slot: str) -> np.ndarray:
    return np.zeros((0, blocks.dim(slot)))


def write_back(blocks: Blocks, slots: Slots) -> None:
    """Store what a reference left in `slots` into the blocks it was made from."""
    rows = 1 << blocks.log2_rows
    for name, content in slots.items():
        for at, view in enumerate(blocks.views(name)):
            view.copy_(torch.from_numpy(content[at * rows : (at + 1) * rows]))
