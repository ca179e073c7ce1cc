// How a call reaches a kernel: one record per argument, and what every kernel needs to read them.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <type_traits>

// Mirrors `RECORD` in call.py: 32 bytes.
//   tensor: data, n0 and n1 its first two extents, dtype, given (0 where None was passed)
//   scalar: i or f; a string is its position in the op's OneOf rule
//   blocks: data = pointer table, n0 = stride, n1 = number of blocks, dtype = log2 rows, given = slots
//   slot:   f = fill, n0 = byte offset in the row, n1 = dim, dtype
struct Arg {
    union {
        void* data;
        int64_t i;
        double f;
    };
    int64_t n0, n1;
    int32_t dtype, given;
};
static_assert(sizeof(Arg) == 32, "call.py packs 32 bytes an argument");

// Positions in call.py's DTYPES.
enum Dtype { INT32, INT64, FLOAT32, FLOAT16, BFLOAT16, UINT8, BOOL, FLOAT64 };

template <typename T> __host__ __device__ T* tensor(const Arg& a) { return static_cast<T*>(a.data); }

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
template <typename T> __device__ T narrow(float x);
template <> __device__ inline float narrow<float>(float x) { return x; }
template <> __device__ inline __half narrow<__half>(float x) { return __float2half_rn(x); }
template <> __device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}

// Blocks as kernels see them: row r is at pointers[r >> shift] + (r & mask) * stride.
struct Rows {
    const uint64_t* pointers;
    int64_t stride;
    int shift;
    int64_t mask;

    explicit Rows(const Arg& a)
        : pointers(static_cast<const uint64_t*>(a.data)), stride(a.n0), shift(a.dtype),
          mask((int64_t(1) << a.dtype) - 1) {}

    __host__ __device__ int64_t block(int64_t r) const { return r >> shift; }
    __host__ __device__ int64_t offset(int64_t r) const { return (r & mask) * stride; }

    __device__ char* row(int64_t r) const {
        return reinterpret_cast<char*>(__ldg(pointers + block(r))) + offset(r);
    }
};

// The row of vector `t` where a row has `lanes` of them.
__device__ inline int64_t vector_row(int64_t t, int lanes) {
    return (lanes & (lanes - 1)) ? t / lanes : t >> (__ffs(lanes) - 1);
}

// N consecutive elements loaded and stored at once.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

constexpr int THREADS = 256;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A grid that covers `n` threads; never empty, never past the limit of x.
inline unsigned blocks_for(int64_t n, int threads = THREADS) {
    int64_t b = ceil_div(n, threads);
    return unsigned(b < 1 ? 1 : b > 0x7fffffff ? 0x7fffffff : b);
}

// Call `body` with a value whose type is the index type, the value type, …
#define WITH_INDEX(arg, I, ...)                                                                    \
    if ((arg).dtype == INT32) {                                                                    \
        using I = int32_t;                                                                         \
        __VA_ARGS__                                                                                \
    } else {                                                                                       \
        using I = int64_t;                                                                         \
        __VA_ARGS__                                                                                \
    }

#define WITH_VALUES(arg_dtype, T, ...)                                                             \
    switch (arg_dtype) {                                                                           \
    case FLOAT32: {                                                                                \
        using T = float;                                                                           \
        __VA_ARGS__                                                                                \
        break;                                                                                     \
    }                                                                                              \
    case FLOAT16: {                                                                                \
        using T = __half;                                                                          \
        __VA_ARGS__                                                                                \
        break;                                                                                     \
    }                                                                                              \
    default: {                                                                                     \
        using T = __nv_bfloat16;                                                                   \
        __VA_ARGS__                                                                                \
    }                                                                                              \
    }

#define EXPORT extern "C" __attribute__((visibility("default")))

// Element `i` of an int32 or int64 array: the branch is the same for every thread.
struct Index {
    const void* data;
    bool wide;

    explicit Index(const Arg& a) : data(a.data), wide(a.dtype == INT64) {}

    __device__ int64_t operator[](int64_t i) const {
        return wide ? __ldg(static_cast<const long long*>(data) + i)
                    : int64_t(__ldg(static_cast<const int*>(data) + i));
    }
};

// N consecutive elements of float32, float16 or bfloat16 memory, widened to float.
struct Floats {
    void* data;
    int dtype;

    __host__ __device__ Floats(void* data, int dtype) : data(data), dtype(dtype) {}
    explicit Floats(const Arg& a) : data(a.data), dtype(a.dtype) {}

    template <int N> __device__ Pack<float, N> load(int64_t at) const {
        Pack<float, N> out;
        if (dtype == FLOAT32) {
            out = *reinterpret_cast<const Pack<float, N>*>(static_cast<const float*>(data) + at);
        } else if (dtype == FLOAT16) {
            auto raw = *reinterpret_cast<const Pack<__half, N>*>(static_cast<const __half*>(data) + at);
            for (int k = 0; k < N; ++k) out.at[k] = widen(raw.at[k]);
        } else {
            auto raw = *reinterpret_cast<const Pack<__nv_bfloat16, N>*>(
                static_cast<const __nv_bfloat16*>(data) + at);
            for (int k = 0; k < N; ++k) out.at[k] = widen(raw.at[k]);
        }
        return out;
    }

    template <int N> __device__ void store(int64_t at, const Pack<float, N>& value) const {
        if (dtype == FLOAT32) {
            *reinterpret_cast<Pack<float, N>*>(static_cast<float*>(data) + at) = value;
        } else if (dtype == FLOAT16) {
            Pack<__half, N> raw;
            for (int k = 0; k < N; ++k) raw.at[k] = narrow<__half>(value.at[k]);
            *reinterpret_cast<Pack<__half, N>*>(static_cast<__half*>(data) + at) = raw;
        } else {
            Pack<__nv_bfloat16, N> raw;
            for (int k = 0; k < N; ++k) raw.at[k] = narrow<__nv_bfloat16>(value.at[k]);
            *reinterpret_cast<Pack<__nv_bfloat16, N>*>(static_cast<__nv_bfloat16*>(data) + at) = raw;
        }
    }

    __device__ float operator[](int64_t at) const { return load<1>(at).at[0]; }
};

inline int64_t item_size(int dtype) {
    switch (dtype) {
    case INT64:
    case FLOAT64: return 8;
    case INT32:
    case FLOAT32: return 4;
    case FLOAT16:
    case BFLOAT16: return 2;
    default: return 1;
    }
}

// The widest access, up to 16 bytes, that divides a row of `bytes` and every address given.
template <typename... P> int access_width(int64_t bytes, const P*... address) {
    uint64_t bits = uint64_t(bytes) | 16;
    ((bits |= reinterpret_cast<uint64_t>(address)), ...);
    return int(bits & -bits);
}
