"""What a feature's transforms take and give: refused when declared, not when a batch comes."""

from __future__ import annotations

from collections.abc import Iterable

from recis_core.schema import Bucketize, Column, Feature, Hash, Mod, Transform, Truncate

# A column and the transforms it goes through; equal chains are computed once.
Chain = tuple[str, tuple[Transform, ...]]

TAKES = {Hash: "strings", Mod: "ids", Bucketize: "values"}


def needs(feature: Feature) -> str:
    """The kind of column the feature's transforms begin with.

    TypeError where they do not chain, ValueError for one that means nothing.
    """
    at: str | None = None
    first = "ids"
    for transform in feature.transforms:
        if wrong := fault(transform):
            raise ValueError(
                f"feature {feature.name!r}: {transform}: {wrong} (column {feature.column!r})"
            )
        takes = TAKES.get(type(transform))
        if takes is None:
            continue
        if at is None:
            first = takes
        elif takes != at:
            raise TypeError(
                f"feature {feature.name!r}: {transform} takes {takes}, but gets {at} "
                f"(column {feature.column!r})"
            )
        at = "ids"
    return first


def holds(kind: str, done: Iterable[Transform]) -> str:
    """What the transforms `done` make of a column that holds `kind`."""
    return "ids" if any(type(transform) in TAKES for transform in done) else kind


def fault(transform: Transform) -> str | None:
    """Why `transform` means nothing, or None."""
    if isinstance(transform, Mod) and not 1 <= transform.modulus < 1 << 63:
        return "the modulus must be in [1, 2^63)"
    if isinstance(transform, Truncate) and transform.length < 0:
        return "the length must be 0 or more"
    if isinstance(transform, Bucketize):
        bounds = transform.boundaries
        if any(b != b for b in bounds) or list(bounds) != sorted(bounds):
            return "boundaries must ascend"
    return None


def verify(features: Iterable[Feature], columns: Iterable[Column]) -> None:
    """Raise KeyError or TypeError, naming feature and column, unless `columns` serve `features`."""
    kinds = {column.name: column.kind for column in columns}
    for feature in features:
        wanted = {feature.column: needs(feature)}
        if feature.weights is not None:
            wanted[feature.weights] = "values"
        for name, kind in wanted.items():
            if name not in kinds:
                raise KeyError(f"feature {feature.name!r}: no column {name!r} is declared")
            if kinds[name] != kind:
                raise TypeError(
                    f"feature {feature.name!r}: column {name!r} holds {kinds[name]}, "
                    f"not the {kind} it needs{hint(kinds[name], kind)}"
                )


def hint(held: str, needed: str) -> str:
    if needed != "ids":
        return ""
    return {"strings": "; hash them first", "values": "; bucketize them first"}.get(held, "")


def chains_of(feature: Feature) -> tuple[Chain, Chain | None]:
    """What the feature's ids and its weights go through.

    Truncation commutes with the other transforms; strings are hashed before they are truncated,
    so that they need not be moved. A tile keeps only what it will show.
    """
    done = tuple(sorted(feature.transforms, key=lambda t: not isinstance(t, Hash)))
    if feature.length is not None:
        done += (Truncate(feature.length),)
    cuts = tuple(t for t in done if isinstance(t, Truncate))
    weights = None if feature.weights is None else (feature.weights, cuts)
    return (feature.column, done), weights
