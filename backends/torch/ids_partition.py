"""ids_partition: `unique` of each table's ids, which is exact and sorts less than one of all."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.torch.words import pair_hash
from recis_core.mixing import SLICES
from recis_core.types import index_dtype


def ids_partition(
    ids: Tensor, splits: Tensor, tables: Tensor, salts: Tensor, world: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ends = splits.tolist()
    columns: dict[int, list[int]] = {}
    for column, table in enumerate(tables.tolist()):
        columns.setdefault(table, []).append(column)
    inverse = ids.new_empty(len(ids), dtype=getattr(torch, index_dtype(len(ids))))
    parts, counts = [ids[:0]], []
    total = 0
    for own in columns.values():
        cuts = [slice(ends[c], ends[c + 1]) for c in own]
        joined = ids[cuts[0]] if len(cuts) == 1 else torch.cat([ids[cut] for cut in cuts])
        unique, back = joined.unique(return_inverse=True)
        back += total
        for cut, piece in zip(cuts, back.split([c.stop - c.start for c in cuts]), strict=True):
            inverse[cut] = piece
        parts.append(unique)
        counts.append(len(unique))
        total += len(unique)
    found = torch.cat(parts)
    table = torch.tensor([*columns], dtype=torch.int32, device=ids.device)
    each = torch.tensor(counts, dtype=torch.int64, device=ids.device)
    table = table.repeat_interleave(each, output_size=total)
    if world == 1:
        return found, table, each.sum().reshape(1), inverse
    owner = owners(pair_hash(salts.index_select(0, table), found), world)
    order = owner.argsort(stable=True)
    place = torch.empty_like(order, dtype=inverse.dtype)
    place[order] = torch.arange(total, dtype=inverse.dtype, device=ids.device)
    return (
        found.index_select(0, order),
        table.index_select(0, order),
        torch.bincount(owner, minlength=world),
        place.index_select(0, inverse),
    )


def owners(hashed: Tensor, world: int) -> Tensor:
    """`recis_core.mixing.owner_of`, looked up by slice: int32 ranks."""
    slices = torch.arange(SLICES, device=hashed.device)
    small, more = divmod(SLICES, world)
    wide = more * (small + 1)
    owner = torch.where(
        slices < wide, slices // (small + 1), more + (slices - wide) // max(small, 1)
    ).int()
    return owner.index_select(0, hashed & (SLICES - 1))
