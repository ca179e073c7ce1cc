"""How the dense part of a model is called: its precision, and whether it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recis_core.leaves import Layout, views_of
from recis_core.objective import Inputs

Precision = Literal["float32", "bfloat16"]
Forward = Callable[[Mapping[str, Tensor]], Any]


def forward_of(
    model: nn.Module,
    precision: Precision = "float32",
    compile: bool = False,
    layout: Layout | None = None,
    backend: str = "inductor",
) -> Forward:
    """`model` as a function of its inputs: leaves and dense columns by name -> its output.

    bfloat16: PyTorch's autocast, which rounds the inputs of matrix products and leaves parameters
    and reductions in float32; leaves and their gradients stay float32. `compile`: one graph by
    `torch.compile(fullgraph=True)`, made when first called and again for other shapes; what cannot
    be captured is an error of torch. With the `layout` of the leaves the graph gets those of whole
    groups. A model with `compile_parts` is asked to compile itself so, whose calls depend on
    lengths that the host must see. Parameters stay the model's own.
    """

    own: Any = model
    called: Forward = lambda inputs: own(named(inputs))  # noqa: E731
    if compile and hasattr(model, "compile_parts"):
        own.compile_parts(partial(torch.compile, fullgraph=True, backend=backend))
    elif compile:
        called = compiled(own, layout, backend)
    if precision == "float32":
        return called

    def rounded(inputs: Mapping[str, Tensor]) -> Any:
        device = next(iter(inputs.values())).device.type
        with torch.autocast(device, torch.bfloat16):
            return called(inputs)

    return rounded


def named(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`inputs` as a model is given them."""
    return inputs.named() if isinstance(inputs, Inputs) else {**inputs}


def compiled(model: nn.Module, layout: Layout | None, backend: str) -> Forward:
    """`model` as one graph: a function of its inputs."""
    if layout is None:
        by_name = torch.compile(model, fullgraph=True, backend=backend)
        return lambda inputs: by_name(named(inputs))

    def grouped(dense: dict[str, Tensor], whole: tuple[Tensor, ...]) -> Any:
        return model({**dense, **views_of(layout, whole)})

    by_group = torch.compile(grouped, fullgraph=True, backend=backend)

    def called(inputs: Any) -> Any:
        return by_group(inputs.dense, inputs.leaves.whole)

    return called
