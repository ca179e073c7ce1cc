"""What a data folder holds: written last, so that a folder with a complete one can be reused."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of `folder`, None where there is none."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not a manifest ({error})") from None


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Written aside and renamed: a reader sees the old one or the new one."""
    aside = folder / f".{NAME}.part"
    with aside.open("w") as file:
        file.write(json.dumps(content, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.rename(folder / NAME)


def check_plan(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """ValueError naming every difference between what `folder` holds and what is asked for."""
    wanted = json.loads(json.dumps(wanted))
    differences = list(_differences("", found.get("plan", {}), wanted))
    if differences:
        raise ValueError(f"{folder} holds other data: {'; '.join(differences)}")


def _differences(at: str, found: Any, wanted: Any):
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            yield from _differences(f"{at}{key}.", found.get(key), wanted.get(key))
    elif found != wanted:
        yield f"{at[:-1]} is {found!r}, asked for {wanted!r}"
