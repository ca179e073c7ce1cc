"""Turn one staged buffer of raw file columns into typed, rebased, packed columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recis_core import draw
from recis_core.rules import Args, AtLeast, Columns, Dims
from recis_core.spec import Out, Traffic, nbytes, op
from recis_core.types import Bytes, Ids, index_dtype

SOURCES = (
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip
TARGETS = ("ids", "values", "bytes", "bounds")
START, COUNT, SOURCE, TARGET, TO, BASE = range(6)
ALIGN = 16


@op()
def columns_unpack(buffer: Bytes, pieces: Ids, ids: int, values: int, octets: int, bounds: int):
    """Copy every piece of `buffer` to its place in one of four outputs, converting its type.

    pieces [P, 6] int64: first byte (a multiple of 16), element count, source dtype (position in
    SOURCES), target (position in TARGETS), first element in the target, base. "ids" become int64
    (uint64 by its bits), "values" float32, "bytes" stay uint8; "bounds" are offsets and become
    source[i] - source[0] + base. Integer sources go to any target but bytes, float sources to
    values alone, uint8 to bytes too. Pieces of one target may overlap only where they agree (the
    bound between two runs). Float to float32 rounds to nearest.
    -> ids [ids] int64, values [values] float32, bytes [octets] uint8, bounds [bounds] index_dtype.
    Elements no piece names are 0.
    """
    out = (
        np.zeros(ids, np.int64),
        np.zeros(values, np.float32),
        np.zeros(octets, np.uint8),
        np.zeros(bounds, np.int64),
    )
    for start, count, source, target, to, base in pieces.tolist():
        dtype = np.dtype(SOURCES[source])
        raw = buffer[start : start + count * dtype.itemsize].copy().view(dtype)
        if TARGETS[target] == "bounds" and count:
            raw = raw.astype(np.int64) - int(raw[0]) + base
        out[target][to : to + count] = raw.astype(out[target].dtype)
    return out


@columns_unpack.inputs(
    test=[
        dict(columns=0, rows=5, mean=2),
        dict(columns=1, rows=0, mean=2),
        dict(columns=12, rows=1, mean=1),
        dict(columns=33, rows=57, mean=3),
    ],
    bench=[
        dict(columns=40, rows=1 << 13, mean=4),
        dict(columns=400, rows=1 << 12, mean=4),
    ],
)
def _(rng, columns, rows, mean):
    buffer, pieces, sizes, end = [], [], [0, 0, 0, 0], 0

    def stage(array, target, base=0):
        nonlocal end
        to = sizes[TARGETS.index(target)]
        source = SOURCES.index(array.dtype.name)
        pieces.append([end, len(array), source, TARGETS.index(target), to, base])
        padded = np.zeros(-(-array.nbytes // ALIGN) * ALIGN, np.uint8)
        padded[: array.nbytes] = array.view(np.uint8)
        buffer.append(padded)
        end += len(padded)
        sizes[TARGETS.index(target)] += len(array)

    kinds = (
        [("ids", s) for s in SOURCES[:8]] + [("values", s) for s in SOURCES] + [("bytes", "uint8")]
    )
    for column in range(columns):
        target, source = kinds[column * 7 % len(kinds)]
        # Two runs of rows, as from two row groups: the second's offsets go on from the first's.
        base = 0
        for run in range(2):
            bounds = draw.offsets(rng, rows, mean)
            n = bounds[-1]
            if run:
                pieces_before = sizes[3]
                sizes[3] = max(pieces_before - 1, 0)
            stage(
                (bounds + rng.integers(0, 99)).astype(rng.choice(["int32", "int64"])),
                "bounds",
                base,
            )
            base += n
            if source.startswith("float"):
                stage(draw.normal(rng, n).astype(source), target)
            else:
                stage(
                    rng.integers(0, 256, n * np.dtype(source).itemsize, np.uint8).view(source),
                    target,
                )
    return dict(
        buffer=np.concatenate(buffer) if buffer else np.zeros(0, np.uint8),
        pieces=np.array(pieces, np.int64).reshape(-1, 6),
        ids=int(sizes[0]),
        values=int(sizes[1]),
        octets=int(sizes[2]),
        bounds=int(sizes[3]),
    )


@columns_unpack.outputs
def _(buffer, pieces, ids, values, octets, bounds):
    return (
        Out("ids_out", (ids,), "int64"),
        Out("values_out", (values,), "float32"),
        Out("bytes_out", (octets,), "uint8"),
        Out("bounds_out", (bounds,), index_dtype(max(ids, values, octets, bounds))),
    )


@columns_unpack.moves
def _(buffer, pieces, ids, values, octets, bounds):
    """The buffer and its description once, every output once."""
    width = 4 if index_dtype(max(ids, values, octets, bounds)) == "int32" else 8
    read, written = nbytes(buffer, pieces), ids * 8 + values * 4 + octets + bounds * width
    return Traffic(read, written, requested=read + written)


@dataclass(frozen=True)
class Pieces:
    """Every piece lies within the buffer and its target, and its source may go there."""

    reads_values = True

    def check(self, args: Args) -> None:
        sizes = [args[name] for name in ("ids", "values", "octets", "bounds")]
        for at, piece in enumerate(args["pieces"].tolist()):
            if wrong := self.fault(piece, len(args["buffer"]), sizes):
                raise ValueError(f"argument 'pieces', row {at}: {wrong}")

    def fault(self, piece: list[int], octets: int, sizes: list[int]) -> str | None:
        start, count, source, target, to, _ = piece
        if not 0 <= source < len(SOURCES) or not 0 <= target < len(TARGETS):
            return f"source {source} or target {target} is none there is"
        name, into, end = SOURCES[source], TARGETS[target], start
        end += count * np.dtype(name).itemsize
        if start % ALIGN or start < 0 or count < 0 or end > octets:
            return f"bytes {start} to {end} are not aligned, or not within a buffer of {octets}"
        if to < 0 or to + count > sizes[target]:
            return f"elements {to} to {to + count} are not within {sizes[target]} {into}"
        if (name.startswith("float") and into != "values") or (into == "bytes" and name != "uint8"):
            return f"{name} does not become {into}"
        return None

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        full = np.flatnonzero(args["pieces"][:, COUNT])
        for column, value in (
            (START, -ALIGN), (START, 8), (START, len(args["buffer"])), (SOURCE, len(SOURCES)),
            (TARGET, len(TARGETS)), (TO, -1), (TO, 1 << 40), (COUNT, -1),
        ) if len(full) else ():  # fmt: skip
            wrong = args["pieces"].copy()
            wrong[full[-1], column] = value
            yield {**args, "pieces": wrong}, ValueError


columns_unpack.requires(
    Dims(buffer=1, pieces=2),
    Columns("pieces", lambda a: 6),
    AtLeast("ids", 0),
    AtLeast("values", 0),
    AtLeast("octets", 0),
    AtLeast("bounds", 0),
    Pieces(),
)
