"""Measured roofs of a device; measured once per machine and kept in the user's cache folder."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import torch

from recis_core.roofs import Roofs
from roofline.cpu import measure_cpu
from roofline.processor import describe

# Raise when a loop or the way of counting changes; older measurements are then made again.
VERSION = 2


def measure_roofs(
    device: torch.device | str = "cpu",
    threads: int | None = None,
    *,
    quick: bool = False,
    fresh: bool = False,
    folder: Path | None = None,
) -> Roofs:
    """The roofs of `device` with `threads` CPU threads (default: torch's), from the cache if there.

    `quick` takes fewer samples and accepts a stored measurement of either kind; `fresh` measures
    again. `folder` replaces the user's cache folder.
    """
    device = torch.device(device)
    threads = threads or torch.get_num_threads()
    if device.type == "cuda":
        from roofline.gpu import measure_gpu

        name = torch.cuda.get_device_name(device)
    else:
        name = f"{(cpu := describe()).name}-{cpu.cores}c"
    path = (folder or cache_folder()) / f"roofs-{_slug(name)}-{threads}t-v{VERSION}.json"
    if not fresh and path.exists():
        kept = Roofs.from_dict(json.loads(path.read_text()))
        if quick or not kept.quick:
            return kept
    roofs = measure_gpu(device, threads) if device.type == "cuda" else measure_cpu(threads, quick)
    store(path, roofs)
    return roofs


def store(path: Path, roofs: Roofs) -> None:
    """Write aside and rename, so that two commands at once never see half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(roofs.as_dict()))
        aside.replace(path)
    except OSError:
        # A home that cannot be written costs the next command a measurement, not this one.
        return


def cache_folder() -> Path:
    """Where this platform keeps a user's cached files."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "recis-suite"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
