"""What a checkpoint consists of on disk, and how to tell a complete one.

    <folder>/step-00000120/manifest.json          everything but arrays; sizes and checksums
                           dense.safetensors      parameters, buffers, optimizers' tensors
                           group-00-0000.safetensors   tables, ids and every slot of a group's rows

A checkpoint exists once its folder has its name: it is written under a name that begins with a
dot and renamed last. It is gone once its manifest is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
DENSE = "dense.safetensors"
UNFINISHED = ".saving-"
NAME = re.compile(r"step-(\d+)(?:\.(\d+))?")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read: one line that names the file and the reason."""


@dataclass(frozen=True)
class Found:
    """The newest complete checkpoint of a folder, and why newer ones were passed over."""

    path: Path
    skipped: tuple[str, ...] = ()


def group_file(group: int, part: int) -> str:
    return f"group-{group:02d}-{part:04d}.safetensors"


def vacant(folder: Path, step: int) -> Path:
    """A name for the checkpoint of `step` that no other has: an older one is never replaced."""
    taken = [int(m[2] or 0) for m in _named(folder) if int(m[1]) == step]
    name = f"step-{step:08d}"
    return folder / (f"{name}.{max(taken) + 1}" if taken else name)


def steps(folder: Path) -> list[tuple[int, Path]]:
    """Step and path of every checkpoint that has a manifest, oldest first."""
    found = sorted((int(m[1]), int(m[2] or 0), m[0]) for m in _named(folder))
    return [(step, folder / name) for step, _, name in found if (folder / name / MANIFEST).exists()]


def _named(folder: Path) -> list[re.Match[str]]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [match for name in names if (match := NAME.fullmatch(name))]


def find(folder: Path) -> Found:
    """The newest checkpoint whose files are all there at full length, or CheckpointError.

    Half-written ones are not looked at; damaged ones are passed over and said so.
    """
    skipped = []
    for _, path in reversed(steps(folder)):
        try:
            require_files(path, read_manifest(path))
        except CheckpointError as error:
            skipped.append(str(error))
            continue
        return Found(path, tuple(skipped))
    reason = f": {'; '.join(skipped)}" if skipped else ""
    raise CheckpointError(f"no complete checkpoint in {folder}{reason}")


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write and fsync the manifest with its own checksum as last entry."""
    body = json.dumps(manifest, allow_nan=False)
    sealed = {**manifest, "crc32": zlib.crc32(body.encode())}
    with (path / MANIFEST).open("w") as file:
        json.dump(sealed, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint `path`, or CheckpointError saying what is wrong with it."""
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text())
        crc = manifest.pop("crc32")
    except FileNotFoundError:
        raise CheckpointError(f"{file}: missing") from None
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, AttributeError):
        raise CheckpointError(f"{file}: truncated or not a manifest") from None
    if zlib.crc32(json.dumps(manifest).encode()) != crc:
        raise CheckpointError(f"{file}: checksum does not match")
    if manifest["format"] != FORMAT:
        raise CheckpointError(f"{file}: format {manifest['format']}, this version reads {FORMAT}")
    return manifest


def require_files(path: Path, manifest: dict[str, Any]) -> None:
    """Raise CheckpointError unless every file is there with the size the manifest says."""
    for name, record in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file}: missing")
        if (size := file.stat().st_size) != record["bytes"]:
            raise CheckpointError(f"{file}: has {size} bytes, manifest says {record['bytes']}")


def remove(path: Path) -> None:
    """Delete a checkpoint, its manifest first: what a crash leaves of it is not complete."""
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path)


def sync_folder(folder: Path) -> None:
    """Force names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
