// ids_hash: the text of a block's strings is brought to shared memory, then a thread hashes a string.
#include "arg.cuh"
#include "hash.cuh"

// Threads of a block, and blocks a multiprocessor must hold at least.
constexpr int WIDTH = 128, RESIDENT = 10;
// Text that a block holds at once; what does not fit comes in further rounds.
constexpr int ROOM = 96 * WIDTH;
// Words are read across a string's ends.
constexpr int MARGIN = 16;

// A string in shared memory: unaligned words of it by two or three aligned ones.
struct Staged {
    const uint32_t* words;
    uint32_t start;

    BOTH uint64_t word8(int64_t at) const {
        uint32_t p = start + uint32_t(at), shift = 8 * (p % 4);
        const uint32_t* w = words + p / 4;
        uint64_t low = w[0] | uint64_t(w[1]) << 32, high = w[1] | uint64_t(w[2]) << 32;
        return uint32_t(low >> shift) | uint64_t(uint32_t(high >> shift)) << 32;
    }
    BOTH uint64_t word4(int64_t at) const {
        uint32_t p = start + uint32_t(at);
        const uint32_t* w = words + p / 4;
        return uint32_t((w[0] | uint64_t(w[1]) << 32) >> 8 * (p % 4));
    }
    BOTH uint64_t operator[](int64_t at) const { return word4(at) & 0xFF; }
    BOTH uint64_t last(int64_t at, int64_t count) const { return word8(at) & ((1ull << 8 * count) - 1); }
};

// farm64 up to 32 bytes with as much as possible in common, so that lanes diverge little.
BOTH uint64_t farm64_short(const Staged& s, int64_t n) {
    if (n < 4) return farm64_tiny(s, n);
    uint64_t mul = K2 + 2 * uint64_t(n), head = s.word8(0), tail = s.word8(n - 8), u, v;
    if (n > 16) {
        uint64_t a = head * K1, b = s.word8(8), c = tail * mul, d = s.word8(n - 16) * K2;
        u = rotate(a + b, 43) + rotate(c, 30) + d, v = a + rotate(b + K2, 18) + c;
    } else if (n >= 8) {
        uint64_t a = head + K2;
        u = rotate(tail, 37) * mul + a, v = (rotate(a, 25) + tail) * mul;
    } else {
        u = uint64_t(n) + (uint64_t(uint32_t(head)) << 3), v = tail >> 32;
    }
    return mix16(u, v, mul);
}

// MurmurHash64A, each aligned word read once; not unrolled, which would part lanes of different lengths.
BOTH uint64_t murmur64a(const Staged& s, int n) {
    constexpr uint64_t M = 0xC6A4A7935BD1E995ull;
    const uint32_t* w = s.words + s.start / 4;
    uint32_t shift = 8 * (s.start % 4), left = w[0];
    uint64_t h = uint64_t(n) * M;
#pragma unroll 1
    for (;; n -= 8, w += 2) {
        uint32_t middle = w[1], right = w[2];
        uint64_t k = uint32_t((left | uint64_t(middle) << 32) >> shift) |
                     uint64_t(uint32_t((middle | uint64_t(right) << 32) >> shift)) << 32;
        left = right;
        if (n < 8) {
            if (n > 0) h = (h ^ (k & ((1ull << 8 * n) - 1))) * M;
            return shift_mix(shift_mix(h) * M);
        }
        h = (h ^ shift_mix(k * M) * M) * M;
    }
}

// Out of line, so that what is rare takes no registers from what is not.
template <bool FARM> __device__ __noinline__ uint64_t hash_in_place(const uint8_t* s, int64_t n) {
    return FARM ? farm64(s, n) : murmur64a(s, n);
}
__device__ __noinline__ uint64_t hash_long(const uint32_t* words, uint32_t start, int n) {
    return farm64_long(Staged{words, start}, n);
}

// Copies `bytes` from an address that is a multiple of 16, of which `readable` may be read, to shared memory:
// in vectors that are on their way when this returns, and what is left of a vector byte by byte. Nobody reads
// the text again: it is the first to leave the L2 cache, half of it for farm64, which all of it slows down.
template <bool FARM> __device__ inline void stage(uint32_t* to, const uint8_t* from, int bytes, int64_t readable) {
    int whole = bytes + 15 <= readable ? bytes + 15 & ~15 : bytes & ~15;
    auto bytewise = reinterpret_cast<uint8_t*>(to);
    for (int at = whole + int(threadIdx.x); at < bytes; at += WIDTH) bytewise[at] = from[at];
#if __CUDA_ARCH__ >= 800
    unsigned target = unsigned(__cvta_generic_to_shared(to));
    uint64_t policy;
    if (FARM) asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 0.5;" : "=l"(policy));
    else asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
#pragma unroll 1
    for (int at = 16 * int(threadIdx.x); at < whole; at += 16 * WIDTH)
        asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2;" ::"r"(target + at),
                     "l"(from + at), "l"(policy)
                     : "memory");
#else
    for (int at = int(threadIdx.x); at < whole; at += WIDTH) bytewise[at] = from[at];
#endif
}

__device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
    __syncthreads();
}

template <int STRINGS> struct Buffer {
    alignas(16) uint32_t text[(ROOM + 2 * MARGIN) / 4];
    int ends[STRINGS + 1];
    // Strings that take a way of their own, which warps full of them then do.
    uint16_t queue[STRINGS];
    int queued;
};

// Hashes `count` strings of a buffer; every thread of the block calls it.
template <bool FARM, int STRINGS> __device__ void hash_buffer(Buffer<STRINGS>& buffer, int count, int64_t* out) {
    for (int i = threadIdx.x; i < count; i += WIDTH) {
        int start = buffer.ends[i], size = buffer.ends[i + 1] - start;
        Staged s{buffer.text, uint32_t(MARGIN + start)};
        if (FARM && size > 32) buffer.queue[atomicAdd(&buffer.queued, 1)] = uint16_t(i);
        else out[i] = int64_t(FARM ? farm64_short(s, size) : murmur64a(s, size));
    }
    if (!FARM) return;
    __syncthreads();
    int queued = buffer.queued;
    for (int q = threadIdx.x; q < queued; q += WIDTH) {
        int i = buffer.queue[q], start = buffer.ends[i], size = buffer.ends[i + 1] - start;
        Staged s{buffer.text, uint32_t(MARGIN + start)};
        out[i] = int64_t(size > 64 ? hash_long(s.words, s.start, size) : farm64_middle(s, size));
    }
}

// Strings of which not all fit, as many at once as do; one alone may be longer still.
template <bool FARM, typename I, int STRINGS>
__device__ __noinline__ void hash_rounds(const uint8_t* data, int64_t length, const I* offsets, int count,
                                         Buffer<STRINGS>& buffer, int64_t* out) {
    for (int done = 0, fitting; done < count; done += fitting) {
        int64_t begin = offsets[done], base = begin / 16 * 16;
        fitting = 0;
        __syncthreads();
        if (threadIdx.x == 0) buffer.ends[0] = int(begin - base), buffer.queued = 0;
        for (int k = 0; k < STRINGS / WIDTH; ++k) {
            int i = k * WIDTH + int(threadIdx.x) + 1;
            int64_t end = done + i <= count ? offsets[done + i] - base : ROOM + 1;
            if (end <= ROOM) buffer.ends[i] = int(end);
            fitting += __syncthreads_count(end <= ROOM);
        }
        if (fitting == 0) {
            int64_t size = offsets[done + 1] - begin;
            if (threadIdx.x == 0) out[done] = int64_t(hash_in_place<FARM>(data + begin, size));
            fitting = 1;
            continue;
        }
        stage<FARM>(buffer.text + MARGIN / 4, data + base, buffer.ends[fitting], length - base);
        wait_for_copies();
        hash_buffer<FARM>(buffer, fitting, out + done);
    }
}

template <bool FARM, typename I, int STRINGS>
__global__ void __launch_bounds__(WIDTH, RESIDENT) hash(const uint8_t* data, int64_t length, const I* offsets,
                                                        int64_t n, int64_t* out) {
    __shared__ Buffer<STRINGS> buffer;
    int64_t first = int64_t(blockIdx.x) * STRINGS;
    int count = int(n - first < STRINGS ? n - first : STRINGS);
    offsets += first, out += first;
    I own[STRINGS / WIDTH];
#pragma unroll
    for (int k = 0; k < STRINGS / WIDTH; ++k) {
        int i = k * WIDTH + int(threadIdx.x);
        own[k] = offsets[i < count ? i : count];
    }
    I base = offsets[0] / 16 * 16, end = offsets[count];
    if (end - base > ROOM) return hash_rounds<FARM>(data, length, offsets, count, buffer, out);
    stage<FARM>(buffer.text + MARGIN / 4, data + base, int(end - base), length - base);
#pragma unroll
    for (int k = 0; k < STRINGS / WIDTH; ++k) buffer.ends[k * WIDTH + threadIdx.x] = int(own[k] - base);
    if (threadIdx.x == 0) buffer.ends[STRINGS] = int(end - base), buffer.queued = 0;
    wait_for_copies();
    hash_buffer<FARM>(buffer, count, out);
}

template <typename I, int STRINGS> void launch(const Arg* a, int64_t n, cudaStream_t stream) {
    auto kernel = a[2].i == 0 ? hash<true, I, STRINGS> : hash<false, I, STRINGS>;
    kernel<<<blocks_for(n, STRINGS), WIDTH, 0, stream>>>(tensor<const uint8_t>(a[0]), a[0].n0, tensor<const I>(a[1]),
                                                        n, tensor<int64_t>(a[3]));
}

EXPORT int64_t ids_hash(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[1].n0 - 1;
    if (n == 0) return cudaGetLastError();
    WITH_INDEX(a[1], I, {
        // Many short strings fill the device by four a thread.
        if (n >= 1 << 20 && a[0].n0 <= 22 * n) launch<I, 4 * WIDTH>(a, n, stream);
        else launch<I, 2 * WIDTH>(a, n, stream);
    })
    return cudaGetLastError();
}

// The host twins, for tests without a device.
EXPORT uint64_t farm64_host(const uint8_t* s, int64_t n) { return farm64(s, n); }
EXPORT uint64_t murmur64a_host(const uint8_t* s, int64_t n) { return murmur64a(s, n); }
EXPORT uint64_t mix64_host(uint64_t z) { return mix64(z); }
EXPORT int64_t owner_of_host(uint64_t hashed, int64_t world) { return owner_of(hashed, int(world)); }
