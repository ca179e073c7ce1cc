"""Ragged leaves: a row of the table for every value, the samples end to end, nothing padded."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from recis_core.blocks import Blocks
from recis_core.kernels import Kernels
from recis_core.packing import Packed, Run


def gather(kernels: Kernels, blocks: Blocks, rows: Tensor, index: Tensor) -> Tensor:
    """[values, dim]: the row of every value; `index` [values] names a distinct pair, `rows` [U] its
    row.

    Rows are read where they lie: gathering the distinct ones first would move them twice.
    """
    return kernels.rows_gather(blocks, "weight", rows.index_select(0, index))


def beside(runs: Sequence[Sequence[Run]], packed: Sequence[Packed]) -> dict[str, Tensor]:
    """What a model gets beside its ragged leaves: NAME.offsets [rows + 1], from 0, and NAME.ids
    [values] int64 after all transforms; views."""
    found: dict[str, Tensor] = {}
    for own, group in zip(runs, packed, strict=True):
        at = 0
        for run in own:
            if run.pooling == "ragged":
                for i, feature in enumerate(run.features, at):
                    begin, end = group.begins[i], group.begins[i + 1]
                    found[f"{feature.name}.offsets"] = group.spans[i].offsets
                    found[f"{feature.name}.ids"] = group.ids[begin:end]
            at += len(run.features)
    return found
