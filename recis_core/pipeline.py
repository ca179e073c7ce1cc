"""Batches made ready while a step's backward pass is launched, by a thread, on its own stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Generic, TypeVar

import torch

from recis_core.io.prefetch import Failure

S = TypeVar("S")
T = TypeVar("T")


class Pipeline(Generic[S, T]):
    """Iterates `make(one)` for every one of `source`, up to `depth` of them made ahead.

    They are made by a thread between the consumer's `fill` and what it calls next of the pipeline,
    which waits for the thread; so it says `fill` when it has something else to do. On a GPU that
    is on a side stream, which the consumer's stream waits for. `fill` also reads one more, so that
    its transfer need not be waited for. What was not made ahead is made when it is asked for, by
    the consumer; with depth 0 on its stream.
    Errors of `source` and `make` are raised in the place of the item.

    The memory of an item belongs to the side stream: hand it to `retire` after the last work on
    it is launched, and it is held until the side stream has waited for that work.

    To be entered; at the exit the thread has ended and `source` is closed.
    """

    def __init__(
        self,
        source: Iterable[S],
        make: Callable[[S], T],
        device: torch.device | str,
        depth: int,
    ) -> None:
        if depth < 0:
            raise ValueError(f"depth is {depth}, not 0 or more")
        self._source, self._make, self.depth = (one for one in source), make, depth
        self._device = torch.device(device)
        on_gpu = self._device.type == "cuda" and depth > 0
        self._side = side_stream(self._device) if on_gpu else None
        self._read: tuple[S] | Failure | None = None
        self._ready: deque[tuple[T, torch.cuda.Event | None] | Failure] = deque()
        self._spent: list[tuple[torch.cuda.Event, Sequence[T]]] = []
        self._thread = ThreadPoolExecutor(1, "recis-prepare") if depth else None
        self._filling: Future[None] | None = None

    def __enter__(self) -> Pipeline[S, T]:
        if self._side is not None:
            # What the consumer has launched so far may be what the items are made with.
            self._side.wait_stream(torch.cuda.current_stream(self._device))
        return self

    def __exit__(self, *error: object) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        self._source.close()
        self._read = None
        self._ready.clear()
        if self._side is not None:
            self._side.wait_stream(torch.cuda.current_stream(self._device))
        self._spent.clear()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        self._filled()
        if not self._ready:
            with self._lane():
                self._ready.append(self._next())
        found = self._ready.popleft()
        if isinstance(found, Failure):
            raise found.error
        item, made = found
        if made is not None:
            torch.cuda.current_stream(self._device).wait_event(made)
        return item

    def fill(self) -> None:
        """Begin to make what is to be ahead, unless it is there."""
        self._filled()
        if self._thread is not None and len(self._ready) < self.depth:
            spent, self._spent = self._spent, []
            self._filling = self._thread.submit(self._fill, spent)

    def _filled(self) -> None:
        """Wait until nothing is being made."""
        filling, self._filling = self._filling, None
        if filling is not None:
            filling.result()

    def _fill(self, spent: list[tuple[torch.cuda.Event, Sequence[T]]]) -> None:
        with self._lane():
            while spent:
                # The side stream has the memory of these after the work that uses them.
                done, items = spent.pop(0)
                assert self._side is not None
                self._side.wait_event(done)
                del items
            while len(self._ready) < self.depth:
                self._ready.append(self._next())
            self._read = self._read or self._one()

    def retire(self, items: Sequence[T]) -> None:
        """Nothing more will be launched that uses `items`; what is to be ahead is by then."""
        self.fill()
        self._filled()
        if self._side is not None:
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(self._device))
            self._spent.append((done, items))

    def _next(self) -> tuple[T, torch.cuda.Event | None] | Failure:
        """The next item, and when the side stream has made it."""
        read, self._read = self._read or self._one(), None
        if isinstance(read, Failure):
            return read
        try:
            item = self._make(*read)
        except Exception as error:
            return Failure(error)
        if self._side is None:
            return item, None
        made = torch.cuda.Event()
        made.record(self._side)
        return item, made

    def _one(self) -> tuple[S] | Failure:
        """What `source` has next; its end is a failure, too."""
        try:
            return (next(self._source),)
        except Exception as error:
            return Failure(error)

    @contextmanager
    def _lane(self) -> Iterator[None]:
        """Where items are made: without gradients, on the side stream if there is one."""
        with torch.no_grad():
            if self._side is None:
                yield
            else:
                with torch.cuda.stream(self._side):
                    yield


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all pipelines of a device: each new stream would keep memory of its own."""
    return torch.cuda.Stream(device)


def depth_of(wish: int | None, device: torch.device | str) -> int:
    """How many batches to prepare ahead: the wish, else what serves the device."""
    if wish is not None:
        return wish
    return 1 if torch.device(device).type == "cuda" else 0
