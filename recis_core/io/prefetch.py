"""An iterator worked ahead of its consumer by a thread."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")
END = object()


class Failure:
    """An exception on its way from the thread to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Prefetch(Generic[T]):
    """Iterate `items` with at most `depth` of them made or being made before they are asked for.

    Errors of `items` are raised at the consumer. `close` (also at the end of a `with`, when
    collected, and when the interpreter ends) stops and joins the thread, which closes `items`;
    it waits for the item being made.
    """

    def __init__(self, items: Generator[T, None, None], depth: int, name: str = "prefetch") -> None:
        if depth < 1:
            raise ValueError(f"prefetch depth is {depth}, not 1 or more")
        self._slots = Semaphore(depth)
        self._queue: SimpleQueue[Any] = SimpleQueue()
        stop = Event()
        # The thread must not hold this object, or it would never be collected while it waits.
        self._thread = Thread(
            target=work, args=(items, self._slots, self._queue, stop), name=name, daemon=True
        )
        self._thread.start()
        self.close = weakref.finalize(self, finish, self._thread, self._slots, stop)
        self._ended = False

    def __iter__(self) -> Prefetch[T]:
        return self

    def __next__(self) -> T:
        if self._ended or not self.close.alive:
            raise StopIteration
        item = self._queue.get()
        if item is END or isinstance(item, Failure):
            self._ended = True
            self.close()
            if item is END:
                raise StopIteration
            raise item.error
        self._slots.release()
        return item

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def work(
    items: Generator[T, None, None], slots: Semaphore, queue: SimpleQueue[Any], stop: Event
) -> None:
    """The thread: make an item whenever a slot is free, until told to stop."""
    try:
        while slots.acquire() and not stop.is_set():
            queue.put(next(items))
    except StopIteration:
        queue.put(END)
    except BaseException as error:
        queue.put(Failure(error))
    finally:
        items.close()


def finish(thread: Thread, slots: Semaphore, stop: Event) -> None:
    """Tell the thread to stop, wake it and wait for it."""
    stop.set()
    slots.release()
    thread.join()
