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
    [values] int64 after all transforms; views but for the offsets of a run's later features."""
    found: dict[str, Tensor] = {}
    for own, group in zip(runs, packed, strict=True):
        for run, stretch in zip(own, group.stretches, strict=True):
            if run.pooling != "ragged":
                continue
            ids = group.ids[stretch.begin : stretch.end].split(stretch.sizes)
            before = 0
            for i, feature in enumerate(run.features):
                offsets = stretch.offsets[i * group.rows : (i + 1) * group.rows + 1]
                found[f"{feature.name}.offsets"] = offsets - before if before else offsets
                found[f"{feature.name}.ids"] = ids[i]
                before += stretch.sizes[i]
    return found
