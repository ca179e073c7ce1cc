// Integer mixing and string hashes, the same on host and device (recis_core/mixing.py, ops/ids_hash.py).
#pragma once
#include <cstdint>

#define BOTH __host__ __device__ inline

constexpr uint64_t GOLDEN = 0x9E3779B97F4A7C15ull;

BOTH uint64_t mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

BOTH uint64_t pair_hash(int64_t salt, int64_t id) { return mix64(uint64_t(id) ^ uint64_t(salt)); }

// Owner of a pair among `world` ranks: 65,536 slices, the first 65,536 mod world ranks own one more.
BOTH int owner_of(uint64_t hashed, int world) {
    int slice = int(hashed & 0xFFFF), small = 65536 / world, more = 65536 % world;
    int wide = more * (small + 1);
    return slice < wide ? slice / (small + 1) : more + (slice - wide) / (small > 0 ? small : 1);
}

// `owner_of` for a world known beforehand: its two divisions as multiplications, exact because a slice
// and a divisor have 17 bits at most and the reciprocal 32 behind the point.
struct Owners {
    uint32_t wide, more;
    uint64_t per_wide, per_small;

    explicit Owners(int world) {
        uint32_t small = 65536 / world;
        more = 65536 % world;
        wide = more * (small + 1);
        per_wide = ((1ull << 32) + small) / (small + 1);
        per_small = small ? ((1ull << 32) + small - 1) / small : 0;
    }

    BOTH int of(uint64_t hashed) const {
        uint32_t slice = uint32_t(hashed & 0xFFFF);
        return int(slice < wide ? slice * per_wide >> 32 : more + ((slice - wide) * per_small >> 32));
    }
};

constexpr uint64_t K0 = 0xC3A5C85C97CB3127ull, K1 = 0xB492B66FBE98F273ull, K2 = 0x9AE16A3B2F90404Full;

// A string as its bytes. Hashes take any type with these: unaligned little-endian words, `last` the
// `count` < 8 bytes from `at` on to its end.
struct Octets {
    const uint8_t* bytes;

    BOTH uint64_t operator[](int64_t at) const { return bytes[at]; }
    BOTH uint64_t word8(int64_t at) const { return last(at, 8); }
    BOTH uint64_t word4(int64_t at) const { return last(at, 4); }
    BOTH uint64_t last(int64_t at, int64_t count) const {
        uint64_t v = 0;
        for (int64_t i = count - 1; i >= 0; --i) v = v << 8 | bytes[at + i];
        return v;
    }
};

BOTH uint64_t rotate(uint64_t v, int by) { return v >> by | v << (64 - by); }
BOTH uint64_t shift_mix(uint64_t v) { return v ^ (v >> 47); }

BOTH uint64_t mix16(uint64_t u, uint64_t v, uint64_t mul) {
    uint64_t a = shift_mix((u ^ v) * mul);
    return shift_mix((v ^ a) * mul) * mul;
}

// MurmurHash64A, seed 0.
template <typename Text> BOTH uint64_t murmur64a(const Text& s, int64_t n) {
    constexpr uint64_t M = 0xC6A4A7935BD1E995ull;
    uint64_t h = uint64_t(n) * M;
    int64_t at = 0;
#pragma unroll 1
    for (; at + 8 <= n; at += 8) h = (h ^ shift_mix(s.word8(at) * M) * M) * M;
    if (at < n) h = (h ^ s.last(at, n - at)) * M;
    return shift_mix(shift_mix(h) * M);
}

struct Word2 {
    uint64_t a, b;
};

template <typename Text> BOTH Word2 weak32(const Text& s, int64_t at, uint64_t a, uint64_t b) {
    uint64_t w = s.word8(at), x = s.word8(at + 8), y = s.word8(at + 16), z = s.word8(at + 24);
    a += w;
    b = rotate(b + a + z, 21);
    uint64_t c = a;
    a += x + y;
    b += rotate(a, 44);
    return {a + z, b + c};
}

// FarmHash Fingerprint64, by length. Up to 16 bytes:
template <typename Text> BOTH uint64_t farm64_tiny(const Text& s, int64_t n) {
    uint64_t mul = K2 + 2 * uint64_t(n);
    if (n >= 8) {
        uint64_t a = s.word8(0) + K2, b = s.word8(n - 8);
        return mix16(rotate(b, 37) * mul + a, (rotate(a, 25) + b) * mul, mul);
    }
    if (n >= 4) return mix16(uint64_t(n) + (s.word4(0) << 3), s.word4(n - 4), mul);
    if (n == 0) return K2;
    uint64_t y = s[0] + (s[n >> 1] << 8), z = uint64_t(n) + (s[n - 1] << 2);
    return shift_mix((y * K2) ^ (z * K0)) * K2;
}

// 17 to 32; what is made of the first and last 16 bytes from 33 to 64 differs in one factor.
template <typename Text> BOTH Word2 farm64_ends(const Text& s, int64_t n, uint64_t factor, uint64_t mul) {
    uint64_t a = s.word8(0) * factor, b = s.word8(8), c = s.word8(n - 8) * mul, d = s.word8(n - 16) * K2;
    return {rotate(a + b, 43) + rotate(c, 30) + d, a + rotate(b + K2, 18) + c};
}

// 33 to 64:
template <typename Text> BOTH uint64_t farm64_middle(const Text& s, int64_t n) {
    uint64_t mul = K2 + 2 * uint64_t(n), a = s.word8(0) * K2;
    Word2 ends = farm64_ends(s, n, K2, mul);
    uint64_t y = ends.a, z = mix16(y, ends.b, mul);
    uint64_t e = s.word8(16) * mul, f = s.word8(24);
    uint64_t g = (y + s.word8(n - 32)) * mul, h = (z + s.word8(n - 24)) * mul;
    return mix16(rotate(e + f, 43) + rotate(g, 30) + h, e + rotate(f + a, 18) + g, mul);
}

// 65 and more:
template <typename Text> BOTH uint64_t farm64_long(const Text& s, int64_t n) {
    uint64_t x = 81, y = 81 * K1 + 113, z = shift_mix(y * K2 + 113) * K2;
    Word2 v{0, 0}, w{0, 0};
    x = x * K2 + s.word8(0);
    int64_t end = (n - 1) / 64 * 64;
    for (int64_t p = 0; p != end; p += 64) {
        x = rotate(x + y + v.a + s.word8(p + 8), 37) * K1;
        y = rotate(y + v.b + s.word8(p + 48), 42) * K1;
        x ^= w.b;
        y += v.a + s.word8(p + 40);
        z = rotate(z + w.a, 33) * K1;
        v = weak32(s, p, v.b * K1, x + w.a);
        w = weak32(s, p + 32, z + w.b, y + s.word8(p + 16));
        uint64_t t = z;
        z = x;
        x = t;
    }
    uint64_t mul = K1 + ((z & 0xFF) << 1);
    int64_t p = n - 64;
    w.a += uint64_t(n - 1) & 63;
    v.a += w.a;
    w.a += v.a;
    x = rotate(x + y + v.a + s.word8(p + 8), 37) * mul;
    y = rotate(y + v.b + s.word8(p + 48), 42) * mul;
    x ^= w.b * 9;
    y += v.a * 9 + s.word8(p + 40);
    z = rotate(z + w.a, 33) * mul;
    v = weak32(s, p, v.b * mul, x + w.a);
    w = weak32(s, p + 32, z + w.b, y + s.word8(p + 16));
    uint64_t t = z;
    z = x;
    x = t;
    return mix16(mix16(v.a, w.a, mul) + shift_mix(y) * K0 + z, mix16(v.b, w.b, mul) + x, mul);
}

template <typename Text> BOTH uint64_t farm64(const Text& s, int64_t n) {
    if (n <= 16) return farm64_tiny(s, n);
    if (n > 64) return farm64_long(s, n);
    if (n > 32) return farm64_middle(s, n);
    uint64_t mul = K2 + 2 * uint64_t(n);
    Word2 ends = farm64_ends(s, n, K1, mul);
    return mix16(ends.a, ends.b, mul);
}

BOTH uint64_t murmur64a(const uint8_t* s, int64_t n) { return murmur64a(Octets{s}, n); }
BOTH uint64_t farm64(const uint8_t* s, int64_t n) { return farm64(Octets{s}, n); }
