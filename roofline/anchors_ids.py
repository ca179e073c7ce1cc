"""Anchors of the id map and of the ops that turn columns into ids (see anchors.py)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from recis_core.kernels import Kernels
from recis_core.ops.columns_unpack import SOURCES, TARGETS
from roofline.anchors import SPREAD, Anchor, called

HELD, CALL = 62_914_560, 1 << 22  # pairs of the full map, and of a call


def maps(k: Kernels, device: torch.device) -> Iterator[Anchor]:
    """A map filled by calls of 4 M new pairs up to 63 M, half its cells; then 4 M found, and 4 M of
    which 2 % are new. Rates are pairs a second; goals in G pairs/s."""
    held = k.id_map(1 << 26, (1 << 31) - 1)
    tables = torch.zeros(CALL, dtype=torch.int32, device=device)
    given, count = torch.empty(CALL, dtype=torch.int64, device=device), [0]

    def new(many: int) -> None:
        numbers = torch.arange(count[0], count[0] + many, device=device)
        given[torch.randperm(CALL, device=device)[:many]] = numbers * SPREAD
        count[0] += many

    def known() -> None:
        # An odd stride through all that the map holds: distinct, and far apart.
        start, stride = int(torch.randint(HELD, (1,))), 1_000_003
        given.copy_((start + torch.arange(CALL, device=device) * stride) % HELD * SPREAD)

    def some_new() -> None:
        known()
        new(CALL // 50)

    def insert():
        return held.insert(tables, given)

    def find():
        return held.find(tables, given)

    # What a call moves at the least: pairs and rows, and of each pair a cell of 16 bytes.
    found = CALL * (12 + 4 + 16)
    fill = HELD // CALL - 3
    about = f"{CALL} pairs"
    yield Anchor(
        "id_map", f"insert {about}, all new, to {HELD}", insert, found + CALL * 17, pairs=CALL,
        goal=9, before=lambda: new(CALL), samples=fill,
    )  # fmt: skip
    while count[0] < HELD:  # where the timing stopped early
        new(CALL)
        insert()
    yield Anchor("id_map", f"find {about} of {HELD}", find, found, 16, CALL, before=known)
    yield Anchor(
        "id_map", f"insert {about}, 2 % new, of {HELD}", insert, found + CALL, 10, CALL,
        before=some_new, samples=9,
    )  # fmt: skip


def features(k: Kernels, device: torch.device) -> Iterator[Anchor]:
    """Hashing, folding, bucketing and unpacking, 400 columns at once: each byte in and out once."""
    columns, n = 400, 1 << 24
    splits = torch.linspace(0, n, columns + 1, device=device, dtype=torch.float64).int()
    ids = torch.randint(-(1 << 62), 1 << 62, (n,), device=device)
    moduli = torch.randint(2, 10**6, (columns,), device=device)
    case = f"n={n} columns={columns}"
    yield Anchor("ids_mod", case, called(k.ids_mod, ids, splits, moduli), 16 * n, 85)
    values = torch.randn(n, device=device)
    bounds = torch.randn(columns, 32, device=device).sort(1).values.flatten()
    at = torch.arange(0, 32 * columns + 1, 32, device=device, dtype=torch.int32)
    call = called(k.values_bucketize, values, splits, bounds, at)
    yield Anchor("values_bucketize", f"{case} boundaries=32", call, 12 * n, 85)
    del ids, values
    n = 1 << 22
    lengths = torch.randint(4, 37, (n,), device=device)
    offsets = torch.zeros(n + 1, dtype=torch.int32, device=device)
    offsets[1:] = lengths.cumsum(0)
    text = torch.randint(0, 256, (int(offsets[-1]),), device=device, dtype=torch.uint8)
    for kind in ("farm", "murmur"):
        call, moved = called(k.ids_hash, text, offsets, kind), len(text) + 12 * n
        yield Anchor("ids_hash", f"n={n} bytes=4-36 {kind}", call, moved, 85)
    del text
    yield unpacking(k, device, columns)


def unpacking(k: Kernels, device: torch.device, columns: int) -> Anchor:
    """Columns of 2^16 elements: int64 and int32 to ids, float32 to values, uint8 to bytes."""
    each, kinds = 1 << 16, ("int64", "float32", "int32", "uint8")
    into, widths = ("ids", "values", "ids", "bytes"), (8, 4, 4, 1)
    sizes: dict[str, int] = dict.fromkeys(TARGETS, 0)
    pieces, end = [], 0
    for column in range(columns):
        kind, target = kinds[column % 4], into[column % 4]
        place = SOURCES.index(kind), TARGETS.index(target), sizes[target], 0
        pieces.append((end, each, *place))
        end += each * widths[column % 4]
        sizes[target] += each
    buffer = torch.randint(0, 256, (end,), device=device, dtype=torch.uint8)
    call = called(k.columns_unpack, buffer, torch.tensor(pieces, device=device), *sizes.values())
    written = 8 * sizes["ids"] + 4 * sizes["values"] + sizes["bytes"]
    return Anchor("columns_unpack", f"columns={columns} each={each}", call, end + written, 85)
