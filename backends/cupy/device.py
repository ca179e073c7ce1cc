"""CUDA text every source begins with: types, dtypes by code, rows of blocks, wide accesses.

NVRTC is given no header to find, so it needs no toolkit beside it.
"""

DEVICE = r"""
#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <cstdint>
#endif
typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;
#define INLINE __device__ __forceinline__
#define KERNEL extern "C" __global__ void
#define THIS_THREAD (i64(blockIdx.x) * blockDim.x + threadIdx.x)
#define ALL_THREADS (i64(gridDim.x) * blockDim.x)

enum Dtype { INT32, INT64, FLOAT32, FLOAT16, BFLOAT16, UINT8, BOOL, FLOAT64 };

struct Half { u16 bits; };
struct Bfloat { u16 bits; };

INLINE float widen(float x) { return x; }
INLINE float widen(Half x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
INLINE float widen(Bfloat x) { return __uint_as_float(u32(x.bits) << 16); }

INLINE void narrow(float x, float& to) { to = x; }
INLINE void narrow(float x, Half& to) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }
INLINE void narrow(float x, Bfloat& to) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }

template <typename T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

// Element i of an int32 or int64 array.
struct Index {
    const void* data;
    bool wide;
    INLINE Index(const void* data, i64 code) : data(data), wide(code == INT64) {}
    INLINE i64 operator[](i64 i) const {
        return wide ? __ldg(static_cast<const long long*>(data) + i)
                    : i64(__ldg(static_cast<const int*>(data) + i));
    }
};

INLINE void put(void* data, i64 code, i64 i, i64 value) {
    if (code == INT64) static_cast<i64*>(data)[i] = value;
    else static_cast<int*>(data)[i] = int(value);
}

// N elements of float32, float16 or bfloat16 memory at once, as floats.
template <typename T, int N> INLINE Pack<float, N> load_as(const void* data, i64 at) {
    Pack<T, N> raw = *reinterpret_cast<const Pack<T, N>*>(static_cast<const T*>(data) + at);
    Pack<float, N> out;
#pragma unroll
    for (int k = 0; k < N; ++k) out.at[k] = widen(raw.at[k]);
    return out;
}

template <typename T, int N> INLINE void store_as(void* data, i64 at, const Pack<float, N>& value) {
    Pack<T, N> raw;
#pragma unroll
    for (int k = 0; k < N; ++k) narrow(value.at[k], raw.at[k]);
    *reinterpret_cast<Pack<T, N>*>(static_cast<T*>(data) + at) = raw;
}

struct Floats {
    void* data;
    i64 dtype;
    INLINE Floats(const void* data, i64 dtype) : data(const_cast<void*>(data)), dtype(dtype) {}

    template <int N> INLINE Pack<float, N> load(i64 at) const {
        if (dtype == FLOAT32) return load_as<float, N>(data, at);
        if (dtype == FLOAT16) return load_as<Half, N>(data, at);
        return load_as<Bfloat, N>(data, at);
    }
    template <int N> INLINE void store(i64 at, const Pack<float, N>& value) const {
        if (dtype == FLOAT32) store_as<float, N>(data, at, value);
        else if (dtype == FLOAT16) store_as<Half, N>(data, at, value);
        else store_as<Bfloat, N>(data, at, value);
    }
    INLINE float operator[](i64 at) const { return load<1>(at).at[0]; }
};

// Row r of blocks is at pointers[r >> shift] + (r & mask) * stride.
struct Rows {
    const u64* pointers;
    i64 stride, shift;
    INLINE char* operator[](i64 r) const {
        return reinterpret_cast<char*>(__ldg(pointers + (r >> shift))) +
               (r & ((i64(1) << shift) - 1)) * stride;
    }
};

// i / count, by a shift where count is 1 << shift (shift >= 0).
INLINE i64 quotient(i64 i, i64 count, i64 shift) {
    if (shift >= 0) return i >> shift;
    return (i | count) >> 32 ? i / count : i64(u32(i) / u32(count));
}
"""
