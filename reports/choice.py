"""What the user names on the command line, found or refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.failure import Misuse

if TYPE_CHECKING:
    from recis_core.kernels import Kernels
    from recis_core.spec import Op
    from workloads import Workload


def kernels_of(backend: str, device: str = "cpu", checked: bool = False) -> Kernels:
    """ "a" strictly, "a+b" each op from the first that has it, or "auto"."""
    import backends

    names = [name for name in backend.split("+") if name]
    there = backends.known()
    for name in names:
        if name != "auto" and name not in there:
            raise Misuse(f"no backend {name!r}; there are {', '.join(there)}")
    if not names:
        raise Misuse("no backend is named")
    if "auto" in names and len(names) > 1:
        raise Misuse(f"backend {backend!r}: 'auto' stands alone")
    return backends.load(*names, device=device, checked=checked)


def ops_of(names: Iterable[str]) -> list[Op[..., Any]]:
    """The ops named, or every op."""
    from recis_core.kernels import every_op, find_op

    try:
        return [find_op(name) for name in names] or list(every_op())
    except KeyError as error:
        raise Misuse(error.args[0]) from None


def workload_of(name: str) -> Workload:
    import workloads

    try:
        return workloads.find(name)
    except KeyError as error:
        raise Misuse(error.args[0]) from None


def size_of(workload: Workload, size: str | None) -> str:
    """The size named, which the workload must have, or its first."""
    if size is not None and size not in workload.sizes:
        there = ", ".join(workload.sizes)
        raise Misuse(f"workload {workload.name!r} has no size {size!r}; there are {there}")
    return size or workload.sizes[0]


def size_of_length(workload: Any, length: int) -> str:
    """The size of users with up to `length` events, of a workload that has such."""
    if not hasattr(workload, "of_length"):
        raise Misuse(f"workload {workload.name!r} has no lengths; --length is of lma")
    return workload.of_length(length)


def set_threads(threads: int | None) -> int:
    """Use `threads` CPU threads (torch's and the kernels'), or as many as torch chose."""
    import torch

    if threads is not None:
        if threads < 1:
            raise Misuse(f"--threads is {threads}, not 1 or more")
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def next_run(workload: str, size: str) -> Path:
    """A folder no run has used: runs/<workload>-<size>-NNN."""
    taken = runs(workload, size)
    number = int(taken[-1].name.rpartition("-")[2]) + 1 if taken else 1
    return Path("runs") / f"{workload}-{size}-{number:03}"


def runs(workload: str, size: str) -> list[Path]:
    """The folders `next_run` gave before, in order."""
    found = Path("runs").glob(f"{workload}-{size}-[0-9]*")
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def folder_of(workload: str, size: str, resume: bool) -> Path:
    """Where a run goes when the user does not say: the last one to resume, else a new one."""
    if not resume:
        return next_run(workload, size)
    found = runs(workload, size)
    if not found:
        raise Misuse(f"nothing to resume: there is no runs/{workload}-{size}-N; --out names a run")
    return found[-1]
