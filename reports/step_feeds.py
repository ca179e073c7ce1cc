"""What feeds a measured training step: batches held in page-locked memory, or files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import backends
from recis_core.data import Batch
from recis_core.io import Reader
from recis_core.io.stage import Staged, unpack
from recis_core.io.stream import Position
from recis_core.kernels import Kernels
from recis_core.packing import laid_out


class Held:
    """Staged batches in page-locked memory, unpacked on the device again and again."""

    epochs = None

    def __init__(self, staged: Sequence[Staged], kernels: Kernels) -> None:
        self.staged, self.kernels, self.at = staged, kernels, 0

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.staged)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = unpack(self.staged[self.at % len(self.staged)], self.kernels)
            self.at += 1
            yield batch

    def state(self) -> dict[str, Any]:
        return {"epoch": self.at // len(self.staged), "at": self.at}

    def restore(self, state: Any) -> None:
        self.at = state["at"]


def reader_of(folder: Path, model: Any, batch_size: int, kernels: Kernels) -> Reader:
    """The training files, over and over."""
    columns = laid_out(model.columns, model.features)
    return Reader(folder / "train", columns, batch_size, epochs=None, kernels=kernels)


def staged_batches(
    folder: Path, model: Any, batch_size: int, count: int, device: str
) -> list[Staged]:
    """The first `count` batches of the training files, page-locked where there is a GPU."""
    reader = reader_of(folder, model, batch_size, backends.load("torch", device=device))
    with closing(reader.stream.staged(Position())) as source:
        return [staged for staged, _ in islice(source, count)]


def read_rate(folder: Path, model: Any, batch_size: int, batches: int, device: str) -> float:
    """Rows a second that the host decodes and stages from the files with nothing else to do.

    Before, as many batches as there are buffers: locking memory for one takes longer than it.
    """
    reader = reader_of(folder, model, batch_size, backends.load("torch", device=device))
    with closing(reader.stream.staged(Position())) as source:
        for _ in islice(source, 3):
            pass
        began = time.perf_counter()
        rows = sum(staged.rows for staged, _ in islice(source, batches))
        return rows / (time.perf_counter() - began)
