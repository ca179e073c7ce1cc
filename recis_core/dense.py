"""How the dense part of a model is called: its precision, and whether it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16"]


def forward_of(
    model: nn.Module, precision: Precision, compile: bool = False, backend: str = "inductor"
) -> Callable[[dict[str, Tensor]], Tensor]:
    """`model` as a function of its inputs: leaves and dense columns by name -> its output.

    bfloat16: PyTorch's autocast, which rounds the inputs of matrix products and leaves parameters
    and reductions in float32; leaves and their gradients stay float32. `compile`: one graph by
    `torch.compile(fullgraph=True)`, made when first called and again for other shapes; what cannot
    be captured is an error of torch. A model with `compile_parts` is asked to compile itself so,
    whose calls depend on lengths that the host must see. Parameters stay the model's own.
    """
    called: Any = model
    if compile and hasattr(model, "compile_parts"):
        called.compile_parts(partial(torch.compile, fullgraph=True, backend=backend))
    elif compile:
        called = torch.compile(model, fullgraph=True, backend=backend)
    if precision == "float32":
        return called

    def rounded(inputs: dict[str, Tensor]) -> Tensor:
        device = next(iter(inputs.values())).device.type
        with torch.autocast(device, torch.bfloat16):
            return called(inputs)

    return rounded
