"""ids_hash: strings of one kind of length together, a word of all of them at a time."""

from __future__ import annotations

from torch import Tensor

from backends.torch.farm import farm
from backends.torch.strings import Strings
from backends.torch.words import shift, signed
from recis_core.ops.ids_hash import MURMUR


def ids_hash(data: Tensor, offsets: Tensor, kind: str) -> Tensor:
    strings = Strings.of(data, offsets)
    return farm(strings) if kind == "farm" else murmur(strings)


M = signed(MURMUR)


def murmur(strings: Strings) -> Tensor:
    """MurmurHash64A with seed 0: long strings first, so that those with a next word lead."""
    whole = strings.lengths >> 3
    ordered, order = whole.sort(descending=True)
    own = strings.take(order)
    h = own.lengths * M
    for number, left in enumerate(own.lasting(ordered)):
        k = own.word(8 * number, left).mul_(M)
        k.bitwise_xor_(shift(k, 47)).mul_(M)
        h[:left].bitwise_xor_(k).mul_(M)
    rest = own.lengths & 7
    tail = (rest > 0).nonzero().flatten()
    ended = own.take(tail)
    rest = rest.index_select(0, tail)
    k = ended.word((ended.lengths >> 3) * 8).bitwise_and_((1 << rest * 8) - 1)
    h.index_copy_(0, tail, k.bitwise_xor_(h.index_select(0, tail)).mul_(M))
    h.bitwise_xor_(shift(h, 47)).mul_(M)
    h.bitwise_xor_(shift(h, 47))
    return h.new_empty(len(h)).index_copy_(0, order, h)
