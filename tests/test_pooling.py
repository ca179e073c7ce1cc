"""Leaves to a model and their gradients back: every kind of gradient lands in its place."""

from __future__ import annotations

import torch

from recis_core.leaves import layout_of, views_of
from recis_core.packing import Packed, Run
from recis_core.pooling import Leaves, split
from recis_core.schema import Feature, Table

ROWS, LENGTH, DIM = 5, 3, 4
T = Table("t", DIM)
RUNS = (
    Run("sum", None, False, tuple(Feature(name, name, T) for name in "abcde")),
    Run("tile", LENGTH, False, (Feature("tile", "tile", T, "tile", LENGTH),)),
    Run("ragged", None, False, (Feature("f", "f", T, "ragged"),)),
)
EMPTY = torch.empty(0)
# Ragged features alone have leaf rows by their values: f has as many as there are rows.
PACKED = Packed(EMPTY, EMPTY, [*range(7), 6 + ROWS], EMPTY, None, (), ROWS)


def leaves() -> tuple[Leaves, dict[str, torch.Tensor]]:
    drawn = torch.Generator().manual_seed(0)
    made = Leaves(torch.randn((6 + LENGTH) * ROWS, DIM, generator=drawn), None)
    return made, split(RUNS, made, PACKED, train=True)


def loss(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Gradients that are slices of one, expanded, transposed, absent, and of a tile."""
    wide = torch.cat([inputs["b"], inputs["f"], inputs["a"]], 1)
    weights = torch.arange(1.0, wide.numel() + 1).view(wide.shape)
    places = torch.arange(1.0, LENGTH + 1)
    tile = torch.einsum("rld,l->rd", inputs["tile"], places)
    return (wide * weights).sum() + inputs["d"].sum() + (inputs["e"].T ** 2).sum() + tile.sum()


def test_gradients_lie_end_to_end():
    made, parts = leaves()
    loss(parts).backward()
    own = {name: part.detach().clone().requires_grad_() for name, part in parts.items()}
    loss(own).backward()
    wanted = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in own.values()]
    assert own["c"].grad is None
    assert made.grad is not None
    assert made.grad.is_contiguous()
    assert torch.equal(made.grad, torch.cat([w.reshape(-1, DIM) for w in wanted]))


def test_a_second_backward_adds():
    made, parts = leaves()
    loss(parts).backward(retain_graph=True)
    once = made.grad
    assert once is not None
    once = once.clone()
    loss(parts).backward()
    assert made.grad is not None
    assert torch.equal(made.grad, 2 * once)


def test_nothing_is_learned_from_an_evaluation():
    made = Leaves(torch.ones((6 + LENGTH) * ROWS, DIM), None)
    assert not any(part.requires_grad for part in split(RUNS, made, PACKED, train=False).values())


def test_whole_groups_divide_as_batches_do():
    runs = RUNS[:2]
    drawn = Leaves(torch.randn((5 + LENGTH) * ROWS, DIM), None)
    parts = split(runs, drawn, PACKED, train=True)
    layout = layout_of([runs])
    assert layout is not None
    divided = views_of(layout, [drawn.values])
    assert list(divided) == list(parts) == [*"abcde", "tile"]
    for name, part in parts.items():
        assert divided[name].shape == part.shape
        assert divided[name].data_ptr() == part.data_ptr()
    assert layout_of([runs, RUNS]) is None
