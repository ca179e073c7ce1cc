"""The leaves of a batch as a model gets them: views of what was pooled, feature by feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from recis_core.packing import Packed, Run
from recis_core.pooling import Leaves, split

Layout = tuple[tuple[tuple[str, int | None], ...], ...]
"""Of each group, the name of every feature and the length of its tile, None of other leaves."""


class LeafViews(Mapping[str, Tensor]):
    """By name the leaf of every feature, then what is beside ragged ones.

    Views are made when the first of them is asked for. `whole`: what they are views of, the leaves
    [leaf rows, dim] of each group, which `views_of` divides alike.
    """

    def __init__(
        self,
        names: Sequence[str],
        parts: Sequence[tuple[Sequence[Run], Leaves, Packed]],
        beside: Mapping[str, Tensor],
        train: bool,
    ) -> None:
        self.whole = tuple(leaves.values.requires_grad_(train) for _, leaves, _ in parts)
        self._names, self._parts, self._beside, self._train = names, parts, beside, train
        self._views: dict[str, Tensor] = {}

    def named(self) -> dict[str, Tensor]:
        """All views; not to be changed."""
        if not self._views:
            for runs, leaves, packed in self._parts:
                self._views.update(split(runs, leaves, packed, self._train))
            self._views.update(self._beside)
        return self._views

    def __getitem__(self, name: str) -> Tensor:
        return self.named()[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._names
        yield from self._beside

    def __len__(self) -> int:
        return len(self._names) + len(self._beside)


def layout_of(groups: Sequence[Sequence[Run]]) -> Layout | None:
    """How `views_of` is to divide the leaves of groups; None where some are ragged, whose sizes are
    of each batch."""
    if any(run.pooling == "ragged" for runs in groups for run in runs):
        return None
    return tuple(
        tuple((f.name, run.length) for run in runs for f in run.features) for runs in groups
    )


def views_of(layout: Layout, whole: Sequence[Tensor]) -> dict[str, Tensor]:
    """The leaf of every feature, [rows, dim] or [rows, length, dim], of those of each group; within
    a compiled graph, as a few inputs cost its caller less than hundreds."""
    found: dict[str, Tensor] = {}
    for features, values in zip(layout, whole, strict=True):
        rows = values.shape[0] // sum(length or 1 for _, length in features)
        parts = values.split([rows * (length or 1) for _, length in features])
        for (name, length), part in zip(features, parts, strict=True):
            found[name] = part if length is None else part.view(rows, length, values.shape[1])
    return found
