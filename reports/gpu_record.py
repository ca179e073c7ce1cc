"""The record of an op on the GPU, as reports.gpu_run and its kin write it."""

from __future__ import annotations

from typing import Any

import torch

from recis_core.kernels import Kernels, find_op
from roofline.processor import describe
from roofline.record import Record, versions

DEVICE = torch.device("cuda")


def record(k: Kernels, op: str, case: str, status: str, **more: Any) -> Record:
    name, host = torch.cuda.get_device_name(DEVICE), describe()
    return Record(
        op=op,
        op_version=find_op(op).version,
        case=case,
        asked=k.name,
        run=k.origins[op],
        status=status,
        device={"name": name, "kind": "cuda", "host": host.name, "cores": host.cores},
        threads=torch.get_num_threads(),
        versions={**versions(), "cuda": str(torch.version.cuda)},
        seed=0,
        trusted="reference",
        **more,
    )
