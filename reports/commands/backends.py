"""`recis backends`: which can run here, or why not, and which op each has."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def backends(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show which backends can run, or the exact reason why not, and the op by backend matrix."""
    from reports.console import emit

    found = matrix(device)
    if json:
        emit(found)
    else:
        show(found)


def matrix(device: str) -> dict[str, Any]:
    """Availability of each backend on `device`; for each op what every available one has."""
    import backends as registry
    from recis_core.kernels import every_op

    known = registry.known()
    absent = {name: backend.absent(device) for name, backend in known.items()}
    ops: dict[str, dict[str, str]] = {}
    for op in every_op():
        ops[op.name] = {}
        for name, backend in known.items():
            if absent[name] is not None:
                state = "absent"
            elif backend.implementation(op) is not None:
                state = "own"
            else:
                state = "missing" if op.default is None else "composed"
            ops[op.name][name] = state
    packages = {name: backend.package for name, backend in known.items()}
    order = list(registry.ORDER.get(device, ()))
    return {"device": device, "auto": order, "packages": packages, "absent": absent, "ops": ops}


def show(found: dict[str, Any]) -> None:
    from rich.table import Table

    from reports.console import console

    out = console()
    for name, reason in found["absent"].items():
        said = "available" if reason is None else f"absent: {reason}"
        out.print(f"{name} ({found['packages'][name]}): {said}", soft_wrap=True, markup=False)
    out.print(f"auto on {found['device']}: {', '.join(found['auto'])}, without those absent")
    table = Table(
        "op", *found["absent"], caption="composed: made of smaller ops of the same kernels"
    )
    marks = {"own": "yes", "composed": "composed", "missing": "no", "absent": ""}
    for op, row in found["ops"].items():
        table.add_row(op, *(marks[state] for state in row.values()))
    out.print(table)
