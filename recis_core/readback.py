"""Small numbers on their way from the device to the host, waited for only when they are read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Readback:
    """The values of `tensors`, copied to page-locked memory on the current stream.

    Whoever reads them later, when the device has long gone past, does not wait.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        parts = [t.detach().reshape(-1) for t in tensors]
        on_gpu = parts[0].is_cuda
        together = parts[0] if on_gpu and len(parts) == 1 else torch.cat(parts)
        self._event: torch.cuda.Event | None = None
        self._host = together
        if on_gpu:
            self._host = torch.empty(together.shape, dtype=together.dtype, pin_memory=True)
            self._host.copy_(together, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def values(self) -> list[float]:
        """All values end to end, in the dtype that holds them all."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()

    def counts(self) -> list[int]:
        """The values as whole numbers."""
        return [int(value) for value in self.values()]


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A small host tensor on `device`, without waiting for what the device is doing."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
