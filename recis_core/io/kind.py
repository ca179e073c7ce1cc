"""Arrow types: what a column of a file holds, and whether a declared column can be made from it."""

from __future__ import annotations

from functools import cache

import pyarrow as pa
import pyarrow.types as kinds

from recis_core.io.error import ColumnError
from recis_core.schema import Column

STRINGS = (pa.string(), pa.binary(), pa.large_string(), pa.large_binary())


def is_list(kind: pa.DataType) -> bool:
    return kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)


def is_view(kind: pa.DataType) -> bool:
    return kinds.is_list_view(kind) or kinds.is_large_list_view(kind)


@cache
def plain_type(kind: pa.DataType) -> pa.DataType:
    """`kind` without dictionaries, list views and string views, bits as bytes."""
    if kinds.is_dictionary(kind):
        return plain_type(kind.value_type)
    if kinds.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    if kinds.is_large_list(kind) or kinds.is_large_list_view(kind):
        return pa.large_list(plain_type(kind.value_type))
    if kinds.is_list(kind) or kinds.is_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    same = {pa.bool_(): pa.uint8(), pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return same.get(kind, kind)


@cache
def needs_cast(kind: pa.DataType) -> bool:
    """Whether its memory differs from that of `plain_type`; mere names of list items do not."""
    if is_list(kind):
        return needs_cast(kind.value_type)
    return kind != plain_type(kind)


def plain_array(array: pa.Array) -> pa.Array:
    return array.cast(plain_type(array.type)) if needs_cast(array.type) else array


def leaf_type(kind: pa.DataType) -> tuple[pa.DataType, int]:
    """What a column's lists hold in the end, and how many levels of lists there are."""
    depth = 0
    while kinds.is_nested(kind) or kinds.is_dictionary(kind):
        if not (kinds.is_dictionary(kind) or is_list(kind) or is_view(kind)):
            break  # a struct, map or union
        depth += not kinds.is_dictionary(kind)
        kind = kind.value_type
    return kind, depth


def is_string(leaf: pa.DataType) -> bool:
    plain = plain_type(leaf)
    return kinds.is_fixed_size_binary(plain) or plain in STRINGS


def check_type(kind: pa.DataType, column: Column) -> None:
    """Raise ColumnError saying what is wrong unless `column` can be read from such a column."""
    leaf, depth = leaf_type(kind)
    number = kinds.is_integer(leaf) or kinds.is_floating(leaf) or kinds.is_boolean(leaf)
    fits = {"ids": kinds.is_integer(leaf), "values": number, "strings": is_string(leaf)}
    wanted = {"ids": "integers", "values": "numbers", "strings": "strings"}[column.kind]
    if not fits[column.kind]:
        raise ColumnError(f"its type is {kind}, but {column.kind!r} are made from {wanted}")
    if depth != column.depth and (depth != 0 or column.depth != 1):
        raise ColumnError(f"its type {kind} nests {depth} lists, not {column.depth}")
    if depth == 0 and column.width not in (None, 1):
        raise ColumnError(f"its type is {kind}, one value a row, not {column.width}")


def check_declared(column: Column) -> None:
    """Raise ColumnError unless the declaration itself makes sense."""
    said = f"column {column.name!r}"
    if column.kind not in ("ids", "values", "strings"):
        raise ColumnError(f"{said}: kind is {column.kind!r}, not 'ids', 'values' or 'strings'")
    if column.missing not in ("error", "empty", "default"):
        raise ColumnError(f"{said}: missing is {column.missing!r}, not 'error', 'empty', 'default'")
    if column.depth < 1 or (column.width is not None and column.depth != 1):
        raise ColumnError(f"{said}: depth {column.depth} does not go with width {column.width}")
    if column.width is not None and column.width < 1:
        raise ColumnError(f"{said}: width is {column.width}, not 1 or more")
    if column.width is not None and column.missing == "empty":
        raise ColumnError(f"{said}: a row of width {column.width} cannot be empty when missing")
    if column.kind == "ids" and int(column.default) != column.default:
        raise ColumnError(f"{said}: the default of ids is {column.default}, not an integer")
    if column.kind == "strings" and column.default:
        raise ColumnError(f"{said}: the default of strings is the empty one, not {column.default}")
