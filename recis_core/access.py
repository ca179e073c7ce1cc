"""Who may touch an id map now: any number of readers or one writer, on any thread and stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Access:
    """A lock for threads and, on a GPU, events for streams: the host never waits for the device.

    A reader's work comes after the last writer's, a writer's after all readers' and the last
    writer's, whatever streams they are on.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._lock = threading.RLock()
        self._on_gpu = torch.device(device).type == "cuda"
        self._written: torch.cuda.Event | None = None
        self._read: dict[int, torch.cuda.Event] = {}  # by stream

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._lock:
            if not self._on_gpu:
                yield
                return
            stream = torch.cuda.current_stream()
            if self._written is not None:
                stream.wait_event(self._written)
            yield
            done = self._read.setdefault(stream.cuda_stream, torch.cuda.Event())
            done.record(stream)

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._lock:
            if not self._on_gpu:
                yield
                return
            stream = torch.cuda.current_stream()
            for event in (self._written, *self._read.values()):
                if event is not None:
                    stream.wait_event(event)
            yield
            self._written = self._written or torch.cuda.Event()
            self._written.record(stream)
