"""Where something is measured: the device, its host, its clocks, and what the libraries are."""

from __future__ import annotations

import subprocess
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from recis_core.roofs import Roofs
from roofline.datasheet import sheet_of
from roofline.kinds import RoofsRecord
from roofline.processor import describe
from roofline.record import versions

SOURCES = (".py", ".cu", ".cuh")


def device_of(roofs: Roofs) -> dict[str, Any]:
    """The device of a record: its name and kind, its host's name and cores, a GPU's clocks."""
    host = describe()
    found = {"name": roofs.device, "kind": roofs.kind, "host": host.name, "cores": host.cores}
    if roofs.kind == "cuda":
        found |= {"clocks": clocks()}
    return found


def stamp(roofs: Roofs, command: str) -> dict[str, Any]:
    """The fields every record of `roofline.kinds` has."""
    return {
        "device": device_of(roofs),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "command": command,
    }


def place(device: str, command: str) -> dict[str, Any]:
    """The same, where no roofs were measured."""
    host = describe()
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else host.name
    kind = torch.device(device).type
    found: dict[str, Any] = {"name": name, "kind": kind, "host": host.name, "cores": host.cores}
    if kind == "cuda":
        found |= {"clocks": clocks()}
    threads = torch.get_num_threads()
    return {"device": found, "threads": threads, "versions": versions(), "command": command}


def roofs_record(roofs: Roofs) -> RoofsRecord:
    """The roofs beside the data sheet of the device, if it is known."""
    sheet = sheet_of(roofs.device)
    command = f"recis roofline --device {roofs.kind} --roofs --again"
    return RoofsRecord(
        **stamp(roofs, command),
        roofs=roofs.as_dict(),
        sheet=None if sheet is None else sheet.as_dict(),
    )


@cache
def clocks() -> dict[str, str]:
    """The GPU's clocks as its driver says them, in MHz; empty where it does not."""
    asked = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")
    words = ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = done.stdout.splitlines()[0].split(",")
    return {name: value.strip() for name, value in zip(asked, values, strict=False)}


@cache
def source_digest(backend: str) -> str:
    """Changes when a file of the backend's package does, so that an old timing is not taken for a
    new kernel's; "" for what is no package."""
    from backends import known

    found = known().get(backend.removesuffix(" (composed)").split("+")[0])
    package = None if found is None else import_module(found.package).__file__
    if package is None:
        return ""
    digest = sha256()
    for path in sorted(Path(package).parent.rglob("*")):
        if path.suffix in SOURCES:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]
