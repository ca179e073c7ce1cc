"""Records of every kind as a page needs them: read leniently, sorted by machine, newest first.

A record is a JSON object, whatever wrote it; keys a page does not know are left alone and keys it
misses are shown as missing. What is read here is never judged: `reports.records` does that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from reports.records import RecordError

Content = dict[str, Any]
KINDS = (
    "op", "anchor", "conformance", "roofs", "step", "compare", "counters", "training", "largest",
    "other",
)  # fmt: skip


class Machine(NamedTuple):
    """What a record was taken on; `threads` matters on a CPU alone, and is 0 elsewhere."""

    name: str
    kind: str
    cores: int
    threads: int

    @property
    def title(self) -> str:
        if self.kind != "cpu":
            return self.name
        threads = "" if self.threads in (0, self.cores) else f", {self.threads} threads"
        cores = f", {self.cores} core{'s' * (self.cores != 1)}" if self.cores else ""
        return f"{self.name}{cores}{threads}"

    @property
    def key(self) -> str:
        return slug(self.title)


@dataclass
class Shelf:
    """The records of one machine by kind, oldest first; `sources` are the files they came from."""

    machine: Machine
    kinds: dict[str, list[Content]] = field(default_factory=lambda: {k: [] for k in KINDS})
    sources: list[str] = field(default_factory=list)

    def __getitem__(self, kind: str) -> list[Content]:
        return self.kinds[kind]

    def latest(self, kind: str) -> list[Content]:
        """The newest record of each case, in the order cases first appeared."""
        newest: dict[tuple[str, ...], Content] = {}
        for content in self.kinds[kind]:
            newest[case_of(content)] = content
        return list(newest.values())


def slug(text: str) -> str:
    """A name that may stand in an address or a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def case_of(content: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes two records measurements of the same thing."""
    keys = ("op", "case", "asked", "backend", "workload", "size", "batch", "what")
    case = str(content.get("case", ""))
    if case.startswith("conformance,"):
        content = {**content, "case": "conformance"}
    return tuple(json.dumps(content.get(key), sort_keys=True, default=str) for key in keys)


def kind_of(content: Mapping[str, Any]) -> str:
    """The kind of a record: as it says, else by the keys it has."""
    said = str(content.get("kind", ""))
    if said in KINDS:
        return said
    if "op" in content and "case" in content:
        if str(content["case"]).startswith("conformance,"):
            return "conformance"
        shared = (content.get("roofs") or {}).get("share_of_copy")
        return "anchor" if shared is not None else "op"
    if "trace" in content:
        return "step"
    return "other"


def machine_of(content: Mapping[str, Any]) -> Machine | None:
    """The machine a record names, None if it names none."""
    roofs = content.get("roofs")
    inner = roofs if isinstance(roofs, Mapping) else {}
    device = content.get("device") or inner.get("device")
    if isinstance(device, Mapping):
        name, kind = device.get("name"), device.get("kind", "cpu")
        cores = device.get("cores", 0)
    else:
        name, kind = device, inner.get("kind", "unknown" if device else "cpu")
        cores = inner.get("cores", content.get("cores", 0))
    if not name:
        return None
    if kind != "cpu":
        return Machine(str(name), str(kind), 0, 0)
    threads = content.get("threads") or inner.get("threads") or 0
    return Machine(str(name), "cpu", int(cores or 0), int(threads))


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """The record files among `paths` and below the folders among them, in a fixed order."""
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix in (".jsonl", ".json"))
        else:
            yield path


def contents(path: Path) -> Iterator[Content]:
    """The objects of a file of JSON Lines, or of one JSON document; RecordError names the line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        try:
            whole = json.loads(text)
        except ValueError as error:
            raise RecordError(f"{path}: {error}") from None
        yield from (c for c in (whole if isinstance(whole, list) else [whole]) if _object(c, path))
        return
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
        except ValueError as error:
            # A run that was killed may leave half a line behind; what is whole is shown.
            if number == len(lines) and not text.endswith("\n"):
                return
            raise RecordError(f"{path}, line {number}: {error}") from None
        if _object(content, path, number):
            yield content


def _object(content: Any, path: Path, number: int = 1) -> bool:
    if not isinstance(content, dict):
        raise RecordError(f"{path}, line {number}: a record is a JSON object, not {content!r:.40}")
    return True


def shelves(paths: Iterable[Path]) -> list[Shelf]:
    """Every record of `paths` on its machine's shelf, machines in order of first appearance.

    A record that names no machine, or only its name, goes to the only such machine of its folder,
    if there is one.
    """
    found: dict[Machine, Shelf] = {}
    folders: dict[Path, set[Machine]] = {}
    homeless: list[tuple[Path, Content]] = []
    for path in files(paths):
        for content in contents(path):
            machine = machine_of(content)
            if machine is None or machine.kind == "unknown":
                homeless.append((path, content))
                continue
            folders.setdefault(path.parent, set()).add(machine)
            _put(found, machine, path, content)
    for path, content in homeless:
        near, said = folders.get(path.parent, set()), machine_of(content)
        if said is not None:
            near = {m for m in near if m.name == said.name}
        other = said or Machine("machine not recorded", "", 0, 0)
        machine = next(iter(near)) if len(near) == 1 else other
        _put(found, machine, path, content)
    for shelf in found.values():
        for records in shelf.kinds.values():
            records.sort(key=lambda c: str(c.get("taken", "")))
    # GPUs first: what a reader most often comes for.
    return sorted(found.values(), key=lambda s: s.machine.kind == "cpu")


def _put(found: dict[Machine, Shelf], machine: Machine, path: Path, content: Content) -> None:
    shelf = found.setdefault(machine, Shelf(machine))
    shelf[kind_of(content)].append({"source": path.name, **content})
    if (source := shown(path)) not in shelf.sources:
        shelf.sources.append(source)


def shown(path: Path) -> str:
    """A path as a reader can use it: from the checkout or the working folder where it is there."""
    whole = path.resolve()
    for base in (Path(__file__).parent.parent, Path.cwd()):
        if whole.is_relative_to(base.resolve()):
            return str(whole.relative_to(base.resolve()))
    return str(path)
