"""Batches made ready ahead of the step that consumes them, by a thread, on a stream of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count
from threading import Semaphore
from typing import Generic, TypeVar

import torch

from recis_core.data import Batch
from recis_core.io.stream import worked

T = TypeVar("T")
Turn = Callable[[], None]


class Closed(Exception):  # noqa: N818 - tells the thread to end, is no error
    """Nobody will consume what is being made."""


class Pipeline(Generic[T]):
    """Iterates `make(batch, turn)` for every batch of `source`, up to `depth` of them ahead.

    With depth 0 each is made when it is asked for, by the thread and on the stream that asks.
    Otherwise one thread reads, moves to the device and makes, on a GPU on a side stream, which
    the consumer's stream waits for, not its thread. `make` calls `turn` where it must not go on
    before the consumer has said `advance` for the step before; a step takes `per_step` items.
    Errors of `source` and `make` are raised at the consumer, in the place of the item.

    The memory of an item belongs to the side stream: hand it to `retire` after the last work on
    it is launched, and it is held until the side stream has waited for that work.

    To be entered: at the exit the thread has ended. It waits for the item being made.
    """

    def __init__(
        self,
        source: Iterable[Batch],
        make: Callable[[Batch, Turn], T],
        device: torch.device | str,
        depth: int,
        per_step: int = 1,
    ) -> None:
        if depth < 0:
            raise ValueError(f"depth is {depth}, not 0 or more")
        self._source, self._make, self.depth = source, make, depth
        self._device, self._per_step = torch.device(device), per_step
        on_gpu = self._device.type == "cuda" and depth > 0
        self._side = side_stream(self._device) if on_gpu else None
        self._gate = Semaphore(1)
        self._closed = False
        self._number = 0
        self._spent: deque[tuple[torch.cuda.Event, Sequence[T]]] = deque()
        self._stack = ExitStack()
        self._running: Iterator[tuple[T, torch.cuda.Event | None]] = iter(())

    def __enter__(self) -> Pipeline[T]:
        if self._side is not None:
            # What the consumer has launched so far may be what the batches are made with.
            self._side.wait_stream(torch.cuda.current_stream(self._device))
        self._running = self._stack.enter_context(
            worked(self._items(), self.depth, "recis-prepare")
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._closed = True
        self._gate.release()
        self._stack.close()
        if self._side is not None:
            self._side.wait_stream(torch.cuda.current_stream(self._device))
        self._spent.clear()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item, made = next(self._running)
        if made is not None:
            torch.cuda.current_stream(self._device).wait_event(made)
        return item

    def advance(self) -> None:
        """The step in progress has changed all that `make` looks at: the next one's turn."""
        self._gate.release()

    def retire(self, items: Sequence[T]) -> None:
        """Nothing more will be launched that uses `items`."""
        if self._side is not None:
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(self._device))
            self._spent.append((done, items))

    def _items(self) -> Generator[tuple[T, torch.cuda.Event | None], None, None]:
        source = iter(self._source)
        for self._number in count():
            with self._lane():
                self._let_go()
                batch = next(source, None)
                if batch is None:
                    return
                batch = batch.to(self._device, non_blocking=True)
                item, made = self._make(batch, self._turn), self._mark()
            yield item, made
            del item, batch

    @contextmanager
    def _lane(self) -> Iterator[None]:
        """Where items are made: without gradients, on the side stream if there is one."""
        with torch.no_grad():
            if self._side is None:
                yield
            else:
                with torch.cuda.stream(self._side):
                    yield

    def _let_go(self) -> None:
        """Let the side stream have the memory of what was retired, after the work that uses it."""
        while self._spent:
            done, items = self._spent.popleft()
            assert self._side is not None
            self._side.wait_event(done)
            del items

    def _mark(self) -> torch.cuda.Event | None:
        if self._side is None:
            return None
        made = torch.cuda.Event()
        made.record(self._side)
        return made

    def _turn(self) -> None:
        if self._number % self._per_step == 0:
            self._gate.acquire()
        if self._closed:
            raise Closed


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all pipelines of a device: each new stream would keep memory of its own."""
    return torch.cuda.Stream(device)


def depth_of(wish: int | None, device: torch.device | str) -> int:
    """How many batches to prepare ahead: the wish, else what serves the device."""
    if wish is not None:
        return wish
    return 1 if torch.device(device).type == "cuda" else 0
