"""A training step: what goes in, its gradients, and what will be known of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from recis_core.data import Batch
from recis_core.dense_graph import Act, dense_pass, nothing
from recis_core.embedding import Embedding, Prepared
from recis_core.objective import Target, inputs_of, target_of, total_of
from recis_core.pipeline import Pipeline
from recis_core.readback import Readback
from recis_core.settings import TrainReader
from recis_core.task import Task


@dataclass(frozen=True)
class Ready:
    """A batch on the device, its target, what it asks of the tables, prepared or not yet.

    position: the reader's state after it, None where there is no reader.
    """

    batch: Batch
    target: Target
    asked: Batch | Prepared
    position: Mapping[str, Any] | None


def pipeline_of(
    reader: TrainReader, embedding: Embedding, tasks: Sequence[Task], depth: int
) -> Pipeline[tuple[Batch, Any], Ready]:
    """The batches of `reader` made ready, prepared if `depth` of them are ahead of the step."""
    device = embedding.kernels.device

    def batches() -> Iterator[tuple[Batch, Any]]:
        for batch in reader:
            yield batch.to(device, non_blocking=True), reader.state()

    def make(read: tuple[Batch, Any]) -> Ready:
        batch, position = read
        target = target_of(tasks, batch)
        asked = embedding.prepare(batch, True) if depth else batch
        return Ready(batch, target, asked, position)

    return Pipeline(batches(), make, device, depth)


class Numbers:
    """The loss shares of a step's micro-batches and the norm of its gradient, on their way."""

    def __init__(self, shares: Sequence[Tensor]) -> None:
        self.shares = shares
        self._sent: Readback | None = None

    def send(self, norm: Tensor | None) -> None:
        """Let them set out, unless they have."""
        if self._sent is None:
            self._sent = Readback([*self.shares, *([] if norm is None else [norm])])

    def read(self, norm: Tensor) -> float:
        """The norm; waits for the device."""
        self.send(norm)
        assert self._sent is not None
        return self._sent.values()[-1]

    def values(self) -> tuple[float, float | None]:
        """Loss and norm, None if there is none; waits until they are there."""
        assert self._sent is not None
        n, values = len(self.shares), self._sent.values()
        return sum(values[:n]), values[n] if len(values) > n else None


@dataclass(frozen=True)
class Launched:
    """An optimizer step the device may still be busy with; fields as those of `callbacks.Step`."""

    step: int
    epoch: int
    rows: int
    numbers: Numbers

    def counted(self) -> dict[str, Any]:
        """What is known at once."""
        return dict(step=self.step, epoch=self.epoch, rows=self.rows)


def gradients(
    model: Any,
    forward: Callable[[Mapping[str, Tensor]], Any],
    run: Callable[..., Tensor],
    embedding: Embedding,
    ready: Sequence[Ready],
    meanwhile: Act = nothing,
) -> list[Tensor]:
    """Forward and backward over micro-batches; -> the share of each in the step's mean loss.

    `forward`: how the model is called. `run`: `dense_pass`, or what does the same. `meanwhile` is
    called before the last backward(), during which another thread has the interpreter.
    """
    # Every micro-batch's loss is divided by the weight of all: gradients then simply add up.
    total = total_of([each.target for each in ready])
    shares: list[Tensor] = []
    if len(ready) > 1:
        run = dense_pass  # a graph's gradients lie where the next batch's would
    for number, each in enumerate(ready, 1):
        each.target.checks.require()
        leaves = embedding.lookup(each.asked, train=True)
        inputs = inputs_of(model, each.batch, leaves)
        last = number == len(ready)
        shares.append(run(forward, inputs, each.target, total, meanwhile if last else nothing))
        embedding.accumulate()
    return shares
