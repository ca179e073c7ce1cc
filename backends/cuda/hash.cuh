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

BOTH uint64_t bytes8(const uint8_t* p) {
    // Strings start anywhere: eight byte loads from the nearest aligned words where possible is left
    // to the compiler; correctness first.
    uint64_t v = 0;
    for (int i = 7; i >= 0; --i) v = v << 8 | p[i];
    return v;
}

BOTH uint64_t bytes4(const uint8_t* p) {
    return uint64_t(p[0]) | uint64_t(p[1]) << 8 | uint64_t(p[2]) << 16 | uint64_t(p[3]) << 24;
}

BOTH uint64_t rotate(uint64_t v, int by) { return v >> by | v << (64 - by); }
BOTH uint64_t shift_mix(uint64_t v) { return v ^ (v >> 47); }

BOTH uint64_t mix16(uint64_t u, uint64_t v, uint64_t mul) {
    uint64_t a = shift_mix((u ^ v) * mul);
    return shift_mix((v ^ a) * mul) * mul;
}

// MurmurHash64A, seed 0.
BOTH uint64_t murmur64a(const uint8_t* s, int64_t n) {
    constexpr uint64_t M = 0xC6A4A7935BD1E995ull;
    uint64_t h = uint64_t(n) * M;
    int64_t at = 0;
    for (; at + 8 <= n; at += 8) h = (h ^ shift_mix(bytes8(s + at) * M) * M) * M;
    if (at < n) {
        uint64_t tail = 0;
        for (int64_t i = n - 1; i >= at; --i) tail = tail << 8 | s[i];
        h = (h ^ tail) * M;
    }
    return shift_mix(shift_mix(h) * M);
}

struct Word2 {
    uint64_t a, b;
};

BOTH Word2 weak32(const uint8_t* s, uint64_t a, uint64_t b) {
    uint64_t w = bytes8(s), x = bytes8(s + 8), y = bytes8(s + 16), z = bytes8(s + 24);
    a += w;
    b = rotate(b + a + z, 21);
    uint64_t c = a;
    a += x + y;
    b += rotate(a, 44);
    return {a + z, b + c};
}

// FarmHash Fingerprint64.
BOTH uint64_t farm64(const uint8_t* s, int64_t n) {
    if (n <= 16) {
        uint64_t mul = K2 + 2 * uint64_t(n);
        if (n >= 8) {
            uint64_t a = bytes8(s) + K2, b = bytes8(s + n - 8);
            return mix16(rotate(b, 37) * mul + a, (rotate(a, 25) + b) * mul, mul);
        }
        if (n >= 4) return mix16(uint64_t(n) + (bytes4(s) << 3), bytes4(s + n - 4), mul);
        if (n == 0) return K2;
        uint64_t y = s[0] + (uint64_t(s[n >> 1]) << 8), z = uint64_t(n) + (uint64_t(s[n - 1]) << 2);
        return shift_mix((y * K2) ^ (z * K0)) * K2;
    }
    if (n <= 32) {
        uint64_t mul = K2 + 2 * uint64_t(n), a = bytes8(s) * K1, b = bytes8(s + 8);
        uint64_t c = bytes8(s + n - 8) * mul, d = bytes8(s + n - 16) * K2;
        return mix16(rotate(a + b, 43) + rotate(c, 30) + d, a + rotate(b + K2, 18) + c, mul);
    }
    if (n <= 64) {
        uint64_t mul = K2 + 2 * uint64_t(n), a = bytes8(s) * K2, b = bytes8(s + 8);
        uint64_t c = bytes8(s + n - 8) * mul, d = bytes8(s + n - 16) * K2;
        uint64_t y = rotate(a + b, 43) + rotate(c, 30) + d;
        uint64_t z = mix16(y, a + rotate(b + K2, 18) + c, mul);
        uint64_t e = bytes8(s + 16) * mul, f = bytes8(s + 24);
        uint64_t g = (y + bytes8(s + n - 32)) * mul, h = (z + bytes8(s + n - 24)) * mul;
        return mix16(rotate(e + f, 43) + rotate(g, 30) + h, e + rotate(f + a, 18) + g, mul);
    }
    uint64_t x = 81, y = 81 * K1 + 113, z = shift_mix(y * K2 + 113) * K2;
    Word2 v{0, 0}, w{0, 0};
    x = x * K2 + bytes8(s);
    int64_t end = (n - 1) / 64 * 64;
    for (const uint8_t* p = s; p != s + end; p += 64) {
        x = rotate(x + y + v.a + bytes8(p + 8), 37) * K1;
        y = rotate(y + v.b + bytes8(p + 48), 42) * K1;
        x ^= w.b;
        y += v.a + bytes8(p + 40);
        z = rotate(z + w.a, 33) * K1;
        v = weak32(p, v.b * K1, x + w.a);
        w = weak32(p + 32, z + w.b, y + bytes8(p + 16));
        uint64_t t = z;
        z = x;
        x = t;
    }
    uint64_t mul = K1 + ((z & 0xFF) << 1);
    const uint8_t* p = s + n - 64;
    w.a += uint64_t(n - 1) & 63;
    v.a += w.a;
    w.a += v.a;
    x = rotate(x + y + v.a + bytes8(p + 8), 37) * mul;
    y = rotate(y + v.b + bytes8(p + 48), 42) * mul;
    x ^= w.b * 9;
    y += v.a * 9 + bytes8(p + 40);
    z = rotate(z + w.a, 33) * mul;
    v = weak32(p, v.b * mul, x + w.a);
    w = weak32(p + 32, z + w.b, y + bytes8(p + 16));
    uint64_t t = z;
    z = x;
    x = t;
    return mix16(mix16(v.a, w.a, mul) + shift_mix(y) * K0 + z, mix16(v.b, w.b, mul) + x, mul);
}
