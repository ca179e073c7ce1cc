"""What compute-sanitizer runs: a named subset of ops on their test cases (tests/test_gpu.py).

By hand: `PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck python3 -m
tests.sanitized`; without the caching allocator every access past a tensor's end is seen.
"""

from __future__ import annotations

import sys

import torch

import backends
from backends.arrays import BASE
from backends.conformance import check, present
from recis_core.kernels import find_op

OPS = (
    "rows_gather", "rows_scatter", "rows_adamw", "rows_reduce_adamw", "rows_pool", "segment_sum",
    "segment_sum_grad", "ids_partition", "ids_transpose", "rows_reduce", "id_map",
)  # fmt: skip


def main() -> None:
    """Each case once, straight: the conformance kit's poisoned allocator is not what is checked. Of
    the map its whole trace."""
    kernels = backends.load("cuda", device="cuda")
    for name in OPS:
        op = find_op(name)
        for case in op.cases("test"):
            if op.machine:
                check(getattr(kernels, name), op, case)
                continue
            given = present(op, case.make(), BASE, torch.device("cuda"))
            getattr(kernels, name)(*given.values())
            torch.cuda.synchronize()
    print("sanitized", len(OPS), file=sys.stderr)


if __name__ == "__main__":
    main()
