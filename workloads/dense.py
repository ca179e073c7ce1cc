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
        weights = self.weight.to(x.dtype)
        if torch.compiler.is_compiling():
            # A compiler makes one kernel of it, but leaves products to libraries.
            return (x * weights[:, None]).sum(1)
        # One product a sequence, in the dtype of the rows: it is bound by reading them, and under
        # autocast a rounded copy of them would be written first.
        with torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False):
            return torch.bmm(weights.expand(x.shape[0], 1, -1), x).squeeze(1)


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


def widen(cross: LowRankCross, *layers: nn.Module) -> int:
    """Give a cross layer and Linear `layers` beside or behind it so many more columns, with weights
    of zero, that a row of 16-bit values is a multiple of 16 bytes; -> how many.

    Only then do a GPU's libraries take their fast kernels for products.
    """
    spare = -cross.down.in_features % 8
    for layer in (cross.down, *layers):
        assert isinstance(layer, nn.Linear)
        layer.weight = nn.Parameter(pad(layer.weight.detach(), (0, spare)))
        layer.in_features += spare
    cross.up.weight = nn.Parameter(pad(cross.up.weight.detach(), (0, 0, 0, spare)))
    cross.up.bias = nn.Parameter(pad(cross.up.bias.detach(), (0, spare)))
    cross.up.out_features += spare
    return spare
