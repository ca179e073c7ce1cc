"""Dense layers the models share, in ordinary PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class RecencySum(nn.Module):
    """A sequence [rows, length, dim] to [rows, dim]: positions weighed by learned weights [length].

    Positions past a row's last value are zeros and add nothing. The weights begin at 1/√length.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((length,), length**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        # One product a sequence, in the dtype of the rows: it is bound by reading them, and under
        # autocast a rounded copy of them would be written first.
        weights = self.weight.to(x.dtype).expand(x.shape[0], 1, -1)
        with torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False):
            return torch.bmm(weights, x).squeeze(1)


class LowRankCross(nn.Module):
    """x + x ⊙ (U (V x) + b), a cross layer of rank r (Wang et al., DCN V2, WWW 2021)."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + x * self.up(self.down(x))


def mlp(
    width: int, hidden: Sequence[int], dropout: float = 0.0, outputs: int = 1, zero: bool = False
) -> nn.Sequential:
    """Linear and ReLU of the hidden widths, then Linear to `outputs` logits, all zero at first if
    `zero`."""
    layers: list[nn.Module] = []
    for before, after in zip([width, *hidden[:-1]], hidden, strict=True):
        layers += [nn.Linear(before, after), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    last = nn.Linear(hidden[-1], outputs)
    if zero:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def wide(begins: Sequence[tuple[int, float]], outputs: int = 1) -> nn.Linear:
    """The linear part beside an MLP: (columns, the weight they begin with), …."""
    layer = nn.Linear(sum(columns for columns, _ in begins), outputs)
    with torch.no_grad():
        layer.weight[:] = torch.cat([torch.full((n,), weight) for n, weight in begins])
        layer.bias.zero_()
    return layer


def widen(layer: nn.Module, inputs: int = 0, outputs: int = 0) -> None:
    """Give a Linear so many more inputs and outputs, with weights of zero.

    Rows that do not begin at 16 bytes keep a GPU from its fast kernels for products.
    """
    assert isinstance(layer, nn.Linear)
    layer.weight = nn.Parameter(pad(layer.weight.detach(), (0, inputs, 0, outputs)))
    if outputs:
        layer.bias = nn.Parameter(pad(layer.bias.detach(), (0, outputs)))
    layer.in_features += inputs
    layer.out_features += outputs
