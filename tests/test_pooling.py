"""Leaves to a model and their gradients back: every kind of gradient lands in its place."""

from __future__ import annotations

import torch

from recis_core.pooling import Leaves, hand_over

ROWS, LENGTH, DIM = 5, 3, 4


def leaves() -> tuple[Leaves, dict[str, torch.Tensor]]:
    drawn = torch.Generator().manual_seed(0)
    parts = {name: torch.randn(ROWS, DIM, generator=drawn) for name in "abcde"}
    parts["tile"] = torch.randn(ROWS, LENGTH, DIM, generator=drawn)
    parts["f"] = torch.randn(ROWS, DIM, generator=drawn)
    return Leaves(list(parts.values()), None), parts


def loss(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Gradients that are slices of one, expanded, transposed, absent, and of a tile."""
    wide = torch.cat([inputs["b"], inputs["f"], inputs["a"]], 1)
    weights = torch.arange(1.0, wide.numel() + 1).view(wide.shape)
    places = torch.arange(1.0, LENGTH + 1)
    tile = torch.einsum("rld,l->rd", inputs["tile"], places)
    return (wide * weights).sum() + inputs["d"].sum() + (inputs["e"].T ** 2).sum() + tile.sum()


def test_gradients_lie_end_to_end():
    made, parts = leaves()
    loss(hand_over(made, parts)).backward()
    own = {name: part.clone().requires_grad_() for name, part in parts.items()}
    loss(own).backward()
    wanted = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in own.values()]
    assert own["c"].grad is None
    assert made.grad is not None
    assert torch.equal(made.grad, torch.cat([w.reshape(-1, DIM) for w in wanted]))


def test_a_second_backward_adds():
    made, parts = leaves()
    handed = hand_over(made, parts)
    loss(handed).backward(retain_graph=True)
    once = made.grad
    assert once is not None
    once = once.clone()
    loss(handed).backward()
    assert made.grad is not None
    assert torch.equal(made.grad, 2 * once)
