"""ids_mod: signed remainders, negative ids moved up by 2^64 mod m."""

from __future__ import annotations

import torch
from torch import Tensor


def ids_mod(ids: Tensor, splits: Tensor, moduli: Tensor) -> Tensor:
    half = torch.full_like(moduli, -(2**63)).fmod_(moduli).neg_()
    # 2^64 mod m, doubling 2^63 mod m without leaving 63 bits.
    wrap = half - (moduli - half)
    wrap += (wrap >> 63) & moduli
    if len(moduli) > 1:
        lengths = splits.diff()
        moduli = moduli.repeat_interleave(lengths, output_size=len(ids))
        wrap = wrap.repeat_interleave(lengths, output_size=len(ids))
    # fmod keeps the sign of the id, so that neither sum can overflow.
    out = ids.fmod(moduli)
    out += (ids >> 63) & wrap
    out += (out >> 63) & moduli
    return out
