"""Records for the page of this machine: roofs, a training step, every op; resumed where it stopped.

All of it is what `recis roofline` measures, in the file where it would put it.
"""

from __future__ import annotations

from pathlib import Path

from reports import roofline_run as runs
from reports.console import say
from reports.failure import Failure
from reports.records import read
from reports.roofline import Place
from roofline.kinds import StepRecord

# The default training run's: seconds on any machine.
WORKLOAD, SIZE, STEPS = "mse", "tiny", 20


def measure(
    device: str, budget: float, backends: str | None = None, ops: tuple[str, ...] = ()
) -> tuple[Path, str]:
    """Measure what the file of this machine does not hold yet; the file, and why it is not whole.

    An interruption loses nothing and is no reason to show nothing: it is said in the second place.
    """
    from recis_core.allocator import keep_freed_memory

    keep_freed_memory()
    place = Place.of(device)
    scene = runs.Scene(device, place, place.file, again=False, json=False)
    names = backends.split(",") if backends else runs.present(device)
    first = names[:1] if backends else ["auto"]
    say(f"{place.device}: {', '.join(names)}; records go to {place.file}; Ctrl-C loses nothing")
    try:
        roofs = runs.roofs_of(scene)
        if not has_step(place):
            runs.steps_of(scene, roofs, runs.Watched(WORKLOAD, SIZE, None, STEPS, None, first))
        wrong = runs.ops_of(scene, roofs, runs.Asked(names, ops, None, budget, False))
    except KeyboardInterrupt:
        return (
            place.file,
            f"interrupted; what was measured is in {place.file}; run it again to go on",
        )
    except Failure as stopped:
        return place.file, str(stopped)
    return place.file, "some ops are wrong or failed: see the page" if wrong else ""


def has_step(place: Place) -> bool:
    """Whether the file holds a step of the default workload taken here."""
    if not place.file.exists():
        return False
    steps = read(place.file, StepRecord)
    return any(place.has(r) and (r.workload, r.size) == (WORKLOAD, SIZE) for r in steps)
