"""The dense part of a training step as one CUDA graph: forward, loss and backward by one launch.

Its hundreds of small kernels cost the host more time than the device, which then waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recis_core.dense import Forward
from recis_core.embedding import Embedding
from recis_core.leaves import LeafViews, layout_of
from recis_core.objective import Inputs, Target, logits_of, loss_of

WARM = 3  # steps before one is captured: in them libraries choose their kernels, compilers compile

Act = Callable[[], None]


def nothing() -> None:
    """Nobody wants to know."""


def dense_pass(
    forward: Forward,
    inputs: Mapping[str, Tensor],
    target: Target,
    total: Tensor,
    meanwhile: Act = nothing,
) -> Tensor:
    """Forward, loss and backward of a micro-batch; -> its share of the step's loss.

    `meanwhile` is called before backward(), which autograd launches without the interpreter.
    """
    rows, tasks = target.labels.shape
    share = loss_of(logits_of(forward, inputs, rows, tasks), target, total)
    meanwhile()
    share.backward()
    return share.detach()


def require_graph(embedding: Embedding, accumulation: int) -> None:
    """ValueError that says why the dense part of such a training is no CUDA graph."""
    if torch.device(embedding.kernels.device).type != "cuda":
        reason = f"device is {embedding.kernels.device}"
    elif accumulation > 1:
        reason = f"a step takes {accumulation} batches, whose gradients it would overwrite"
    elif embedding.exchange.world > 1:
        reason = "leaves come from several ranks"
    elif layout_of(embedding.runs) is None:
        reason = "some features are ragged, whose sizes are of each batch"
    else:
        return
    raise ValueError(f"the dense part cannot be a CUDA graph: {reason}")


class Recorded(NamedTuple):
    """What replays the launches of a `dense_pass`, and the memory where they leave its share of the
    loss and the gradients of the tensors asked for, None where one gets none."""

    replay: Act
    share: Tensor
    grads: list[Tensor | None]


def recorded(run: Callable[[], Tensor], tensors: Sequence[Tensor]) -> Recorded:
    """The launches of `run`, a `dense_pass`, as a graph; nothing is done yet.

    RuntimeError if something in it cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads go on reading files meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            share = run()
    except RuntimeError as error:
        # Else PyTorch takes its generator to be within the capture that failed, for good.
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())
        said = str(error).splitlines()[0]
        raise RuntimeError(f"the dense part cannot be a CUDA graph: {said}") from error
    return Recorded(graph.replay, share, [tensor.grad for tensor in tensors])


def run_of(
    graph: bool, accumulation: int, embedding: Embedding, parameters: Sequence[Tensor]
) -> Callable[..., Tensor]:
    """What runs the dense part of a training: `dense_pass`, or a `DenseGraph` of it."""
    if not graph:
        return dense_pass
    require_graph(embedding, accumulation)
    return DenseGraph(embedding, parameters)


@dataclass(frozen=True)
class Captured:
    """What was recorded for batches of certain `shapes`, and the memory it reads: what batches give
    and their leaves. All of it stays where it is."""

    recorded: Recorded
    shapes: Any
    given: list[Tensor]
    leaves: list[Tensor]


class DenseGraph:
    """Called as `dense_pass`, which does the first batches and those of other sizes than theirs.

    Leaves are pooled straight into the graph's memory, which `embedding` is told of. What the model
    does must not depend on what its tensors hold, and its parameters stay where they are.
    A replay takes the host no time in which another thread could have the interpreter: then
    `meanwhile` is left to the caller.
    """

    def __init__(self, embedding: Embedding, parameters: Sequence[Tensor]) -> None:
        self._embedding, self._parameters = embedding, parameters
        self._seen: dict[Any, int] = {}
        self._captured: Captured | None = None
        self.replays = 0

    def __call__(
        self,
        forward: Forward,
        inputs: Inputs,
        target: Target,
        total: Tensor,
        meanwhile: Act = nothing,
    ) -> Tensor:
        assert isinstance(inputs.leaves, LeafViews)
        whole = inputs.leaves.whole
        given = given_of(inputs, target, total)
        shapes = shapes_of([*whole, *given])
        if self._captured is None:
            self._seen[shapes] = self._seen.get(shapes, 0) + 1
            if self._seen[shapes] > WARM:
                self._captured = self._capture(forward, inputs, target, total, shapes)
        known = self._captured
        if known is None or known.shapes != shapes:
            return dense_pass(forward, inputs, target, total, meanwhile)
        torch._foreach_copy_(known.given, given)  # pyright: ignore[reportPrivateImportUsage]
        for leaves, own in zip(known.leaves, whole, strict=True):
            if leaves.data_ptr() != own.data_ptr():
                leaves.copy_(own)
        known.recorded.replay()
        self.replays += 1
        for tensor, grad in zip([*whole, *self._parameters], known.recorded.grads, strict=True):
            tensor.grad = grad
        return known.recorded.share

    def _capture(
        self, forward: Forward, inputs: Inputs, target: Target, total: Tensor, shapes: Any
    ) -> Captured:
        """The dense pass of such batches, reading copies of what this one gives, and its leaves."""
        leaves: Any = inputs.leaves
        given = [tensor.clone() for tensor in given_of(inputs, target, total)]
        own = Inputs(dict(zip(inputs.dense, given, strict=False)), leaves)
        labels, total, *weights = given[len(inputs.dense) :]
        target = replace(target, labels=labels, weights=weights[0] if weights else None)
        tensors = [*leaves.whole, *self._parameters]
        made = recorded(lambda: dense_pass(forward, own, target, total), tensors)
        # From now on leaves are pooled into the memory of these.
        memory = [each.detach() for each in leaves.whole]
        self._embedding.memory = memory
        return Captured(made, shapes, given, memory)


def given_of(inputs: Inputs, target: Target, total: Tensor) -> list[Tensor]:
    """What is copied to the graph for each batch: dense columns, labels, their weight in all,
    the labels' weights if there are any."""
    weights = [] if target.weights is None else [target.weights]
    return [*inputs.dense.values(), target.labels, total, *weights]


def shapes_of(tensors: Sequence[Tensor]) -> Any:
    return tuple((tensor.shape, tensor.dtype) for tensor in tensors)
