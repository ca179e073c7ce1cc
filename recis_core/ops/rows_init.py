"""Begin new rows: weights from (seed, table, id, column) alone, every other slot at its fill."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.mixing import GOLDEN, mix64, pair_hash, table_salt
from recis_core.rules import Dims, Distinct, HasSlots, OneOf, Same, Within
from recis_core.spec import Traffic, nbytes, op
from recis_core.tolerance import ROUNDED
from recis_core.types import Blocks, Flags, Ids, Index

KINDS = ("constant", "uniform", "normal", "truncated_normal")
REDRAWS = 8


def bits(salts: np.ndarray, ids: np.ndarray, seed: int, column: np.ndarray, redraw: int):
    """uint64 [n, dim]: mix64(mix64(pair_hash ^ mix64(seed)) + GOLDEN·(1 + column + redraw·2^32))
    of salts and ids [n], column [dim]."""
    base = mix64(pair_hash(salts, ids) ^ mix64(np.array([seed & (2**64 - 1)], np.uint64)))
    step = (1 + column + (redraw << 32)).astype(np.uint64) * np.uint64(GOLDEN)
    return mix64(base[:, None] + step)


def uniform(word: np.ndarray) -> np.ndarray:
    """Top 24 bits over 2^24: [0, 1), exact in float32."""
    return (word >> np.uint64(40)).astype(np.float64) * 2.0**-24


def gaussian(word: np.ndarray) -> np.ndarray:
    """Box-Muller: sqrt(-2 ln u)·cos(2πv), u = (top 24 bits + 1) / 2^24, v = the next 24 / 2^24."""
    v = ((word >> np.uint64(16)) & np.uint64(0xFFFFFF)).astype(np.float64) * 2.0**-24
    return np.sqrt(-2 * np.log(uniform(word) + 2.0**-24)) * np.cos(2 * np.pi * v)


@op(tolerance=ROUNDED, mutates=("blocks",))
def rows_init(
    blocks: Blocks,
    rows: Index,
    fresh: Flags,
    tables: Index,
    ids: Ids,
    salts: Ids,
    seed: int,
    kind: str,
    a: float,
    b: float,
):
    """Initialise row rows[i] where fresh[i], for the pair (tables[i], ids[i]); skip -1.

    Slot "weight": "constant" a; "uniform" a + (b - a)·u; "normal" a + b·z; "truncated_normal" the
    first of REDRAWS draws with |z| <= 2 (else a). a, b and b - a are rounded to float32; the sum
    is formed in float64 and rounded to float32, then to the slot's dtype: bitwise the same
    everywhere for constant and uniform. Other slots get their fill.
    """
    chosen = fresh & (rows >= 0)
    rows, salt, ids = rows[chosen], salts[tables[chosen]], ids[chosen]
    column = np.arange(blocks.dim("weight"))
    a, b = float(np.float32(a)), float(np.float32(b))
    if kind == "constant":
        value = np.full((len(rows), len(column)), a)
    elif kind == "uniform":
        value = a + float(np.float32(b - a)) * uniform(bits(salt, ids, seed, column, 0))
    else:
        z = gaussian(bits(salt, ids, seed, column, 0))
        if kind == "truncated_normal":
            for redraw in range(1, REDRAWS):
                again = gaussian(bits(salt, ids, seed, column, redraw))
                z = np.where(np.abs(z) <= 2, z, again)
            z = np.where(np.abs(z) <= 2, z, 0)
        value = a + b * z
    for slot in blocks:
        blocks[slot][rows] = blocks.fill.get(slot, 0)
    blocks["weight"][rows] = value.astype(np.float32)


@rows_init.inputs(
    test=[
        dict(n=0, capacity=8, dim=4, kind="normal", seed=1, a=0.0, b=1.0),
        dict(n=1, capacity=8, dim=4, kind="uniform", seed=1, a=-1.0, b=1.0),
        dict(n=90, capacity=200, dim=17, kind="constant", seed=2, a=0.25, b=0.0),
        dict(n=90, capacity=200, dim=17, kind="uniform", seed=-7, a=-0.1, b=0.3),
        dict(n=90, capacity=200, dim=16, kind="normal", seed=3, a=0.5, b=0.7),
        dict(n=900, capacity=2000, dim=8, kind="truncated_normal", seed=4, a=0.5, b=0.01),
    ],
    bench=[
        dict(n=1 << 16, capacity=1 << 18, dim=64, kind=k, seed=1, a=-0.1, b=0.1)
        for k in ("uniform", "normal")
    ],
)
def _(rng, n, capacity, dim, kind, seed, a, b):
    blocks = draw.slots(rng, capacity, dim, "weight", "sum")
    blocks.fill = {"sum": 0.5}
    ids = draw.ids(rng, n, 10**9, 0.0)
    if n > len(draw.HOSTILE_IDS):
        ids[: len(draw.HOSTILE_IDS)] = draw.HOSTILE_IDS
    return dict(
        blocks=blocks,
        rows=draw.rows(rng, n, capacity, 0.1),
        fresh=rng.random(n) < (0.7 if n > 1 else 2),
        tables=rng.integers(0, 3, n),
        ids=ids,
        salts=np.array([table_salt(f"table {t}") for t in range(3)]),
        seed=seed,
        kind=kind,
        a=a,
        b=b,
    )


@rows_init.moves
def _(blocks, rows, fresh, tables, ids, salts, seed, kind, a, b):
    """Rows and flags read, of fresh ones the pair and the salts too; their slots written."""
    new = int((fresh & (rows >= 0)).sum())
    drawn = 0 if kind == "constant" else new * (tables.itemsize + 8) + nbytes(salts)
    read = nbytes(rows, fresh) + drawn
    written = new * sum(blocks.row_bytes(slot) for slot in blocks.slots)
    return Traffic(read, written, requested=read + written)


rows_init.requires(
    Dims(rows=1, fresh=1, tables=1, ids=1, salts=1),
    Same("rows", "fresh", "tables", "ids"),
    OneOf("kind", KINDS),
    HasSlots("weight"),
    Within("rows", lambda a: a["blocks"].capacity, low=-1),
    Within("tables", lambda a: len(a["salts"])),
    Distinct("rows"),
)
