"""Fold ids into buckets, all columns in one pass."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import Dims, Length, Offsets, Within
from recis_core.spec import Out, Traffic, nbytes, op
from recis_core.types import Ids, Index


@op()
def ids_mod(ids: Ids, splits: Index, moduli: Ids):
    """out[i] = uint64(ids[i]) mod moduli[f] for i in column f, splits[f] <= i < splits[f+1].

    ids [n] -> int64 [n] in [0, modulus); a negative id is its unsigned pattern; 1 <= moduli < 2^63.
    """
    modulus = np.repeat(moduli, np.diff(splits)).astype(np.uint64)
    return (ids.astype(np.uint64) % modulus).astype(np.int64)


@ids_mod.inputs(
    test=[
        dict(n=0, columns=1),
        dict(n=1, columns=1),
        dict(n=1000, columns=7),
        dict(n=50, columns=80),
    ],
    bench=[dict(n=1 << 21, columns=1), dict(n=1 << 21, columns=400)],
)
def _(rng, n, columns):
    ids = draw.ids(rng, n, 2**40, 0.0)
    at = rng.integers(0, n, min(n, 12)) if n else []
    ids[at] = draw.HOSTILE_IDS[: len(at)]
    moduli = rng.choice([1, 2, 10, 1000, 2**20, 10**6 + 3, 2**31 + 11, 2**62 + 1], columns)
    return dict(ids=ids, splits=draw.splits(n, columns), moduli=moduli)


@ids_mod.outputs
def _(ids, splits, moduli):
    return Out("out", (len(ids),), "int64")


@ids_mod.moves
def _(ids, splits, moduli):
    read, written = nbytes(ids, splits, moduli), ids.nbytes
    return Traffic(read, written, requested=read + written, recis=2 * ids.nbytes)


ids_mod.requires(
    Dims(ids=1, splits=1, moduli=1),
    Length("splits", lambda a: len(a["moduli"]) + 1),
    Offsets("splits", lambda a: len(a["ids"])),
    Within("moduli", lambda a: 2**63, low=1),
)
