"""The dense part as one launch: what is done around the graph, which here is no graph."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import backends
from recis_core import dense_graph
from recis_core.dense_graph import WARM, DenseGraph, Recorded
from recis_core.leaves import LeafViews
from tests.toy import MemoryReader, Record, ToyModel, toy_batches, toy_trainer


def repeated(run, tensors) -> Recorded:
    """As `recorded`, but the launches are made again, their results moved to the first ones'."""
    share = run()
    grads = [tensor.grad for tensor in tensors]
    share.fill_(-1)
    for grad in grads:
        grad.fill_(-1)

    def replay() -> None:
        for tensor in tensors:
            tensor.grad = None
        share.copy_(run())
        for grad, tensor in zip(grads, tensors, strict=True):
            grad.copy_(tensor.grad)

    return Recorded(replay, share, grads)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("overlap", [0, 1])
def test_replayed_steps_are_the_same(
    backend: str, overlap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_graph, "recorded", repeated)
    monkeypatch.setattr(dense_graph, "require_graph", lambda *about: None)
    # Views of a graph's memory are made once; launched anew they must be made anew.
    named = LeafViews.named
    monkeypatch.setattr(LeafViews, "named", lambda own: own._views.clear() or named(own))
    found = []
    for graph in (False, True):
        record = Record()
        reader = MemoryReader(toy_batches(9 * 64 - 20, 64), epochs=2)
        trainer = toy_trainer(
            backends.load(backend),
            reader,
            model=partial(ToyModel, weight="weight"),
            callbacks=(record,),
            graph=graph,
            overlap=overlap,
        )
        trainer.train()
        found.append(record.losses)
        run = trainer.run
        # One of the nine batches of an epoch is smaller.
        assert not graph or (isinstance(run, DenseGraph) and run.replays == 16 - WARM)
    np.testing.assert_array_equal(found[1], found[0])


def test_where_it_cannot_be_it_says_why() -> None:
    kernels = backends.load("torch")
    with pytest.raises(ValueError, match="cannot be a CUDA graph: device is cpu"):
        toy_trainer(kernels, graph=True)
    embedding = toy_trainer(kernels).embedding
    embedding.kernels.device = "cuda"
    with pytest.raises(ValueError, match="a step takes 2 batches"):
        dense_graph.require_graph(embedding, 2)
    dense_graph.require_graph(embedding, 1)
