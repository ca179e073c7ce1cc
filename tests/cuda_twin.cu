// What host and device share in backends/cuda, exported for tests/test_cuda.py.
#include "arg.cuh"
#include "hash.cuh"

EXPORT uint64_t twin_mix64(uint64_t x) { return mix64(x); }
EXPORT uint64_t twin_pair_hash(int64_t salt, int64_t id) { return pair_hash(salt, id); }
EXPORT int twin_owner(uint64_t hashed, int world) { return owner_of(hashed, world); }
EXPORT int twin_owner_known(uint64_t hashed, int world) { return Owners(world).of(hashed); }
EXPORT uint64_t twin_farm64(const uint8_t* text, int64_t n) { return farm64(text, n); }
EXPORT uint64_t twin_murmur64a(const uint8_t* text, int64_t n) { return murmur64a(text, n); }

// Byte address of row `r` of blocks, as a kernel computes it.
EXPORT int64_t twin_row(const Arg* blocks, int64_t r) {
    Rows rows(*blocks);
    return int64_t(rows.pointers[rows.block(r)]) + rows.offset(r);
}

EXPORT void twin_fields(const Arg* a, int64_t* out) {
    out[0] = a->i, out[1] = a->n0, out[2] = a->n1, out[3] = a->dtype, out[4] = a->given;
}
EXPORT double twin_real(const Arg* a) { return a->f; }
EXPORT int64_t twin_item_size(int dtype) { return item_size(dtype); }
EXPORT int twin_access_width(int64_t bytes, int64_t address) {
    return access_width(bytes, reinterpret_cast<const char*>(address));
}
