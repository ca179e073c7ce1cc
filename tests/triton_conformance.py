"""A child of test_triton.py: every op under Triton's interpreter, one JSON verdict a line.

The interpreter is chosen by the environment the parent sets. Cases run twice: in all variants with
the interpreter's large blocks, and in the base variant with blocks so small that every kernel
takes many programs and long segments are cut.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib import import_module

import torch

from backends import load
from backends.arrays import BASE
from backends.conformance import variants, verdict
from recis_core.kernels import every_op

SMALL = {
    "auc_grouped": dict(BLOCK=128),
    "columns_unpack": dict(BLOCK=128),
    "id_map": dict(BLOCK=128, CLAIM=(128, 1), INSERT=(128, 1)),
    "ids_hash": dict(FARM_STEP=32, MURMUR_STEP=64, FILLED=64),
    "ids_mod": dict(BLOCK=128),
    "ids_partition": dict(
        ONE_OWNER=(512, 4), MORE_OWNERS=(256, 4), CLEAR=256, FINISH=256, MOST_OWNERS=4
    ),
    "ids_transpose": dict(BLOCK=256),
    "rows": dict(WIDEN=8),
    "rows_norm": dict(BLOCK=2048),
    "scan": dict(BLOCK=2),
    "segment_shapes": dict(SHORTEST=32, LONGEST=128),
    "segments": dict(WIDEN=16, GROUP=2),
    "sorting": dict(BLOCK=4096),
    "values_bucketize": dict(BLOCK=128),
}


def shrink() -> None:
    for name, constants in SMALL.items():
        module = import_module(f"backends.triton.{name}")
        for constant, value in constants.items():
            assert getattr(module, constant) != value, (name, constant)
            setattr(module, constant, value)


def main(share: int, of: int) -> None:
    torch.set_num_threads(1)
    kernels = load("triton")
    for small in (False, True):
        if small:
            shrink()
        for op in list(every_op())[share::of]:
            for case in op.cases("test"):
                for variant in [BASE] if small else variants(op, case):
                    found = verdict(getattr(kernels, op.name), op, case, variant)
                    print(json.dumps({**asdict(found), "small": small}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
