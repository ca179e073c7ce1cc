"""Safetensors files written tensor by tensor, piece by piece: memory is bounded by a piece.

Format: 8 bytes little-endian length of the header, the header in JSON padded with spaces, then
the tensors' bytes without gaps (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
READ = 1 << 22


@dataclass(frozen=True)
class Spec:
    """A tensor that a file is to hold."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * torch.Size(self.shape).numel()


def write_tensors(
    path: Path, specs: Mapping[str, Spec], pieces: Callable[[str], Iterable[Tensor]]
) -> dict[str, int]:
    """Write and fsync a file of the tensors `specs`; `pieces(name)` are parts to lay end to end.

    -> {"bytes": size, "crc32": checksum of the whole file}. OSError if the disk is full.
    """
    # Wide elements first: then each begins at a multiple of its size, as views of a map must.
    order = sorted(specs, key=lambda name: -specs[name].dtype.itemsize)
    header, at = {}, 0
    for name in order:
        spec = specs[name]
        header[name] = {
            "dtype": NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [at, at + spec.nbytes],
        }
        at += spec.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        checked = Checked(file)
        checked.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            before = checked.bytes
            for piece in pieces(name):
                checked.write(raw_bytes(piece))
            if checked.bytes - before != specs[name].nbytes:
                raise ValueError(
                    f"{path.name}: {name} came as {checked.bytes - before} bytes, "
                    f"announced were {specs[name].nbytes}"
                )
        return checked.close()


def raw_bytes(tensor: Tensor) -> Any:
    """The content of a tensor on any device, as a buffer."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


class Checked:
    """An open file that counts and checksums what is written."""

    def __init__(self, file: Any) -> None:
        self.file, self.bytes, self.crc = file, 0, 0

    def write(self, content: Any) -> None:
        self.file.write(content)
        self.bytes += len(content)
        self.crc = zlib.crc32(content, self.crc)

    def close(self) -> dict[str, int]:
        """Force the content to the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return {"bytes": self.bytes, "crc32": self.crc}


def checksum(path: Path) -> int:
    """crc32 of a file, read in pieces."""
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(READ):
            crc = zlib.crc32(piece, crc)
    return crc
