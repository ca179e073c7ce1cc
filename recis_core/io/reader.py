"""Reader: files to batches of an exact number of rows, ahead of the consumer, resumable exactly."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from weakref import ReferenceType, ref

import torch

from recis_core.data import Batch
from recis_core.io.dataset import Dataset
from recis_core.io.error import ColumnError
from recis_core.io.stage import unpack
from recis_core.io.stream import Position, Stream, worked
from recis_core.kernels import Kernels
from recis_core.schema import Column

# What a position means nothing without.
IDENTITY = ("batch_size", "shuffle", "seed", "worker", "workers", "drop_remainder")


class Reader:
    """Iterates the batches of column files.

    Every batch has `batch_size` rows, but for the last of each epoch, which is what is left, or
    left out with `drop_remainder`. `epochs` None: for ever. Of `workers` readers with otherwise
    equal arguments each gives other rows; `order` says which, and what `shuffle` does.

    With `prefetch` > 0 one thread decodes the next piece (row group, stripe or record batch) and
    another stages up to `prefetch` batches; columns are unpacked on the consumer's thread. Held
    are two decoded pieces and `prefetch` + 1 batches, whatever the files. (Parquet's decoder
    takes up to three times what it decodes.)

    Iterating begins after the last batch handed out, so a loop left by `break` goes on; after one
    that came to the end it begins anew. One iteration at a time: a new one ends the last.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        columns: Sequence[Column],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        worker: int = 0,
        workers: int = 1,
        epochs: int | None = 1,
        drop_remainder: bool = False,
        prefetch: int = 2,
        kernels: Kernels,
    ) -> None:
        """Opens every file once, to check the columns and count rows; raises ColumnError."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, not 1 or more")
        if not 0 <= worker < workers:
            raise ValueError(f"worker is {worker}, not one of 0 to {workers - 1}")
        if prefetch < 0:
            raise ValueError(f"prefetch is {prefetch}, not 0 or more")
        self.kernels, self.prefetch = kernels, prefetch
        self.stream = Stream(
            Dataset(paths, columns),
            tuple(columns),
            batch_size,
            shuffle=shuffle,
            seed=seed,
            worker=worker,
            workers=workers,
            epochs=epochs,
            drop_remainder=drop_remainder,
            ahead=prefetch > 0,
            pin=torch.device(kernels.device).type == "cuda",
        )
        if epochs is None and not self.batches:
            raise ColumnError(
                f"{self.stream.data.files[0]}: {self.rows} rows for worker {worker} of {workers} "
                f"make no batch of {batch_size}, however often they are read"
            )
        self._position = Position()
        self._ended = False
        # Weak, so that a loop left by `break` ends its threads there and then.
        self._running: ReferenceType[Generator[Batch, None, None]] | None = None

    @property
    def rows(self) -> int:
        """Rows of one epoch that this worker reads."""
        return self.stream.rows

    @property
    def epochs(self) -> int | None:
        """How often the files are read; None: for ever."""
        return self.stream.epochs

    @property
    def batches(self) -> int:
        """Batches of one epoch that this worker reads."""
        return self.stream.batches

    def __iter__(self) -> Iterator[Batch]:
        self.close()
        if self._ended:
            self._position, self._ended = Position(), False
        running = self._iterate()
        self._running = ref(running)
        return running

    def close(self) -> None:
        """End the iteration in progress, if any, and its threads."""
        running = self._running() if self._running is not None else None
        if running is not None:
            running.close()

    def state(self) -> dict[str, Any]:
        """The position after the last batch handed out, for `restore`; plain JSON."""
        return {**asdict(self._position), "reader": self._identity()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where a reader of equal arguments and files was; ColumnError says what differs."""
        for key, value in self._identity().items():
            was = state["reader"].get(key)
            if was != value:
                file = self.stream.data.files[0]
                raise ColumnError(f"{file}: cannot resume, {key} was {was!r} and is now {value!r}")
        self.close()
        self._position, self._ended = Position(int(state["epoch"]), int(state["row"])), False

    def _identity(self) -> dict[str, Any]:
        """What the sequence of batches depends on, but for when it ends."""
        named = {name: getattr(self.stream, name) for name in IDENTITY}
        columns = [repr(c) for c in self.stream.columns]
        return {**named, "files": self.stream.data.digest, "columns": columns}

    def _iterate(self) -> Generator[Batch, None, None]:
        with worked(self.stream.staged(self._position), self.prefetch, "recis-stage") as items:
            for staged, after in items:
                batch = unpack(staged, self.kernels)
                self._position = after
                yield batch
        self._ended = True
