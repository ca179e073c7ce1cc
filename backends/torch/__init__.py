"""The baseline: each op in the fastest public eager form of PyTorch, chosen by timing.

No custom kernels and no torch.compile. Ops whose result has a data-dependent length (`unique`,
boolean masks) make a GPU wait; `reports/decisions/0003-torch-forms.md` has the forms tried.
"""

from __future__ import annotations

DEVICES = ("cpu", "cuda")


def absent(device: str) -> str | None:
    return None
