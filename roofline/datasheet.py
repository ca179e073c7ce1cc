"""What makers say their devices do, to stand beside what was measured; never a roof.

Dense rates without sparsity; bytes and flops a second, decimal. Two parts that share a name in
one family (PCIe, SXM, NVL) differ by half, so a device is found by the whole of its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

TB = TERA = 10**12
GB = 10**9


@dataclass(frozen=True)
class Sheet:
    """`memory`: bytes a second of DRAM, one direction at a time; `matmul`: float32 without matrix
    units; `link`: bytes a second of the host link, one way; None where the sheet does not say."""

    name: str
    source: str
    memory: float
    matmul: float
    tf32: float | None
    bf16: float | None
    link: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


GEN4, GEN5 = 32 * GB, 64 * GB  # PCI Express x16
H100 = "NVIDIA H100 Tensor Core GPU data sheet"
A100 = "NVIDIA A100 80GB data sheet"

# By the name a driver gives the device.
SHEETS: Mapping[str, Sheet] = {
    "NVIDIA H100 80GB HBM3": Sheet(
        "H100 SXM5 80 GB", H100, 3.35 * TB, 67 * TERA, 494.5 * TERA, 989.5 * TERA, GEN5
    ),
    "NVIDIA H100 PCIe": Sheet(
        "H100 PCIe 80 GB", H100, 2.0 * TB, 51 * TERA, 378 * TERA, 756 * TERA, GEN5
    ),
    "NVIDIA H100 NVL": Sheet(
        "H100 NVL 94 GB", H100, 3.9 * TB, 60 * TERA, 417.5 * TERA, 835.5 * TERA, GEN5
    ),
    "NVIDIA H200": Sheet(
        "H200 SXM 141 GB", "NVIDIA H200 Tensor Core GPU data sheet",
        4.8 * TB, 67 * TERA, 494.5 * TERA, 989.5 * TERA, GEN5,
    ),
    "NVIDIA A100-SXM4-80GB": Sheet(
        "A100 SXM4 80 GB", A100, 2.039 * TB, 19.5 * TERA, 156 * TERA, 312 * TERA, GEN4
    ),
    "NVIDIA A100 80GB PCIe": Sheet(
        "A100 PCIe 80 GB", A100, 1.935 * TB, 19.5 * TERA, 156 * TERA, 312 * TERA, GEN4
    ),
    "NVIDIA L4": Sheet(
        "L4 24 GB", "NVIDIA L4 Tensor Core GPU data sheet",
        0.3 * TB, 30.3 * TERA, 60 * TERA, 121 * TERA, GEN4,
    ),
    "NVIDIA L40S": Sheet(
        "L40S 48 GB", "NVIDIA L40S data sheet",
        0.864 * TB, 91.6 * TERA, 183 * TERA, 362 * TERA, GEN4,
    ),
}  # fmt: skip


def sheet_of(device: str) -> Sheet | None:
    """The data sheet of a device by its exact name, None if it is not in the table."""
    return SHEETS.get(device)
