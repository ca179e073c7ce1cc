"""FarmHash Fingerprint64 of many strings at once, by the declaration's structure."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from backends.torch.strings import Strings
from backends.torch.words import rotate, shift, signed
from recis_core.ops import ids_hash as declared

K0, K1, K2 = signed(declared.K0), signed(declared.K1), signed(declared.K2)
LOW32 = (1 << 32) - 1


def farm(strings: Strings) -> Tensor:
    """int64 [n]."""
    out = torch.full_like(strings.lengths, K2)
    lengths = strings.lengths
    for low, high, form in FORMS:
        chosen = ((lengths >= low) & (lengths <= high)).nonzero().flatten()
        if len(chosen):
            out.index_copy_(0, chosen, form(strings.take(chosen)))
    return out


def mix16(u: Tensor, v: Tensor, mul: Tensor) -> Tensor:
    a = (u ^ v).mul_(mul)
    a.bitwise_xor_(shift(a, 47))
    b = (v ^ a).mul_(mul)
    return b.bitwise_xor_(shift(b, 47)).mul_(mul)


def from_1(s: Strings) -> Tensor:
    n = s.lengths
    y = (s.word(0) & 255) + ((s.word(n >> 1) & 255) << 8)
    z = n + ((s.word(n - 1) & 255) << 2)
    w = (y * K2) ^ (z * K0)
    return (w ^ shift(w, 47)) * K2


def from_4(s: Strings) -> Tensor:
    n = s.lengths
    return mix16(n + ((s.word(0) & LOW32) << 3), s.word(n - 4) & LOW32, n * 2 + K2)


def from_8(s: Strings) -> Tensor:
    n = s.lengths
    mul = n * 2 + K2
    a, b = s.word(0) + K2, s.word(n - 8)
    c = rotate(b, 37) * mul + a
    return mix16(c, (rotate(a, 25) + b) * mul, mul)


def from_17(s: Strings) -> Tensor:
    n = s.lengths
    mul = n * 2 + K2
    a, b = s.word(0) * K1, s.word(8)
    c, d = s.word(n - 8) * mul, s.word(n - 16) * K2
    u = rotate(a + b, 43) + rotate(c, 30) + d
    return mix16(u, a + rotate(b + K2, 18) + c, mul)


def from_33(s: Strings) -> Tensor:
    n = s.lengths
    mul = n * 2 + K2
    a, b = s.word(0) * K2, s.word(8)
    c, d = s.word(n - 8) * mul, s.word(n - 16) * K2
    y = rotate(a + b, 43) + rotate(c, 30) + d
    z = mix16(y, a + rotate(b + K2, 18) + c, mul)
    e, f = s.word(16) * mul, s.word(24)
    g, h = (y + s.word(n - 32)) * mul, (z + s.word(n - 24)) * mul
    u = rotate(e + f, 43) + rotate(g, 30) + h
    return mix16(u, e + rotate(f + a, 18) + g, mul)


State = tuple[Tensor, ...]


def from_65(s: Strings) -> Tensor:
    """Long strings first, so that those with a next run of 64 bytes lead."""
    runs, order = ((s.lengths - 1) >> 6).sort(descending=True)
    s = s.take(order)
    state = begin(s)
    for number, left in enumerate(s.lasting(runs)):
        words = [s.word(64 * number + 8 * i, left) for i in range(8)]
        for kept, moved in zip(state, run(tuple(x[:left] for x in state), words), strict=True):
            kept[:left] = moved
    return torch.empty_like(order).index_copy_(0, order, end(s, state))


def begin(s: Strings) -> State:
    """x, y, z, v, v', w, w' before the first run."""
    y = 81 * declared.K1 + 113
    z = (y * declared.K2 + 113) & declared.WORD
    z = (z ^ (z >> 47)) * declared.K2
    x = s.word(0) + signed(81 * declared.K2)
    y, z = torch.full_like(x, signed(y)), torch.full_like(x, signed(z))
    return x, y, z, *(torch.zeros_like(x) for _ in range(4))


def run(state: State, word: list[Tensor], mul: Tensor | int = K1, last: bool = False) -> State:
    """One run of 64 bytes; the last one weighs two terms by 9."""
    x, y, z, v0, v1, w0, w1 = state
    x = rotate(x + y + v0 + word[1], 37) * mul
    y = rotate(y + v1 + word[6], 42) * mul
    x ^= w1 * 9 if last else w1
    y += v0 * 9 + word[5] if last else v0 + word[5]
    z = rotate(z + w0, 33) * mul
    v0, v1 = weak32(word[:4], v1 * mul, x + w0)
    w0, w1 = weak32(word[4:], z + w1, y + word[2])
    return z, y, x, v0, v1, w0, w1


def weak32(word: list[Tensor], a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    w, x, y, z = word
    a = a + w
    b = rotate(b + a + z, 21)
    c = a + x + y
    return c + z, rotate(c, 44) + b + a


def end(s: Strings, state: State) -> Tensor:
    x, y, z, v0, v1, w0, w1 = state
    mul = ((z & 255) << 1) + K1
    w0 = w0 + ((s.lengths - 1) & 63)
    v0 = v0 + w0
    w0 = w0 + v0
    words = [s.word(s.lengths - 64 + 8 * i) for i in range(8)]
    x, y, z, v0, v1, w0, w1 = run((x, y, z, v0, v1, w0, w1), words, mul, True)
    # `run` has swapped x and z, as the declaration does before the two last mixes.
    first = mix16(v0, w0, mul) + (y ^ shift(y, 47)) * K0 + z
    return mix16(first, mix16(v1, w1, mul) + x, mul)


FORMS: tuple[tuple[int, int, Callable[[Strings], Tensor]], ...] = (
    (1, 3, from_1),
    (4, 7, from_4),
    (8, 16, from_8),
    (17, 32, from_17),
    (33, 64, from_33),
    (65, 2**62, from_65),
)
