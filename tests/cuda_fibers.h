// Kernels on the CPU: a block's threads are fibers that give way to one another where they would wait
// for one another. Blocks run one after another, in order, so what waits for later blocks hangs.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>
#include <ucontext.h>
#include <vector>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#undef __noinline__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __noinline__
#define __grid_constant__
#define cudaFuncSetAttribute(...) ((void)0)
#define cudaGetLastError() cudaSuccess
#define cudaMemsetAsync(to, value, size, stream) (std::memset(to, value, size), cudaSuccess)

namespace fibers {
constexpr unsigned MOST = 512, STACK = 1 << 16, TURNS = 1 << 20;
alignas(256) static char arena[1 << 18];  // dynamic shared memory
static ucontext_t scheduler, threads[MOST];
static bool ended[MOST];
static unsigned current, size;

template <typename F> void run(unsigned grid, unsigned block, F body);

inline void give_way() { swapcontext(&threads[current], &scheduler); }

struct Barrier {
    unsigned waiting = 0, round = 0;

    void wait(unsigned members) {
        unsigned mine = round;
        if (++waiting == members) waiting = 0, ++round;
        while (round == mine) give_way();
    }
};
static Barrier block_barrier, warp_barriers[MOST / 32];
static uint32_t shown[MOST];

inline void wait_warp() { warp_barriers[current / 32].wait(32); }

// `read` sees what every lane of the warp showed.
template <typename F> uint32_t exchange(uint32_t own, F read) {
    shown[current] = own;
    wait_warp();
    uint32_t result = read(shown + current / 32 * 32, current % 32);
    wait_warp();
    return result;
}

struct Vector {
    unsigned x, y, z;
};
struct Thread {
    struct {
        operator unsigned() const { return current; }
    } x;
};

static void (*entry)(void*);
static void* kernel;

inline void start() {
    entry(kernel);
    ended[current] = true;
    give_way();
}

[[noreturn]] inline void fail(const char* what, unsigned block) {
    std::fprintf(stderr, "%s in block %u\n", what, block);
    std::exit(3);
}
}  // namespace fibers

static fibers::Vector blockIdx, blockDim, gridDim;
static fibers::Thread threadIdx;

// What `<<<grid, block>>>` is replaced by; `body` calls the kernel.
template <typename F> void fibers::run(unsigned grid, unsigned block, F body) {
    static std::vector<char> stacks(size_t(MOST) * STACK);
    gridDim.x = grid, blockDim.x = size = block;
    entry = [](void* f) { (*static_cast<F*>(f))(); };
    kernel = &body;
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x) {
        for (unsigned t = 0; t < block; ++t) {
            ended[t] = false;
            getcontext(&threads[t]);
            threads[t].uc_stack.ss_sp = &stacks[size_t(t) * STACK];
            threads[t].uc_stack.ss_size = STACK;
            makecontext(&threads[t], start, 0);
        }
        unsigned left = block;
        // Another thread goes first each turn, so that what lacks a barrier is seen to.
        for (unsigned turn = 0; left; ++turn) {
            if (turn == TURNS) fail("a thread waits for ever", blockIdx.x);
            left = 0;
            for (unsigned t = 0; t < block; ++t) {
                current = (t + turn * 37 + blockIdx.x) % block;
                if (!ended[current]) swapcontext(&scheduler, &threads[current]);
                left += !ended[current];
            }
        }
        if (block_barrier.waiting) fail("a barrier that some threads never reach", blockIdx.x);
    }
}

inline void __syncthreads() { fibers::block_barrier.wait(fibers::size); }
inline int __syncthreads_count(int own) {
    static int counts[2], turn = 0;
    int mine = turn;
    counts[mine] += own != 0;
    __syncthreads();
    int sum = counts[mine];
    turn = 1 - mine, counts[turn] = 0;
    __syncthreads();
    return sum;
}
inline void __syncwarp(unsigned = ~0u) { fibers::wait_warp(); }
inline void __threadfence() {}

inline unsigned __match_any_sync(unsigned, int key) {
    return fibers::exchange(uint32_t(key), [&](const uint32_t* lanes, unsigned) {
        unsigned peers = 0;
        for (int l = 0; l < 32; ++l) peers |= unsigned(lanes[l] == uint32_t(key)) << l;
        return peers;
    });
}
inline unsigned __ballot_sync(unsigned, int own) {
    return fibers::exchange(own != 0, [](const uint32_t* lanes, unsigned) {
        unsigned set = 0;
        for (int l = 0; l < 32; ++l) set |= lanes[l] << l;
        return set;
    });
}
inline int __all_sync(unsigned, int own) { return __ballot_sync(~0u, own) == ~0u; }
inline uint32_t __shfl_up_sync(unsigned, uint32_t value, unsigned step) {
    return fibers::exchange(value, [&](const uint32_t* lanes, unsigned own) {
        return lanes[own < step ? own : own - step];
    });
}
inline int __any_sync(unsigned, int own) { return __ballot_sync(~0u, own) != 0; }
inline uint32_t __reduce_add_sync(unsigned, uint32_t value) {
    return fibers::exchange(value, [](const uint32_t* lanes, unsigned) {
        uint32_t sum = 0;
        for (int l = 0; l < 32; ++l) sum += lanes[l];
        return sum;
    });
}

// Lanes of `mask` alone: the others of the warp may have returned.
template <typename T> T from_lane(unsigned mask, T own, unsigned lane) {
    static T shown[fibers::MOST];
    static fibers::Barrier barriers[fibers::MOST];
    unsigned base = fibers::current / 32 * 32, members = unsigned(__builtin_popcount(mask));
    fibers::Barrier& barrier = barriers[base + unsigned(__builtin_ctz(mask))];
    shown[fibers::current] = own;
    barrier.wait(members);
    T result = shown[base + lane];
    barrier.wait(members);
    return result;
}
template <typename T> T __shfl_sync(unsigned mask, T own, int lane) { return from_lane(mask, own, unsigned(lane)); }
template <typename T> T __shfl_xor_sync(unsigned mask, T own, int step) {
    return from_lane(mask, own, fibers::current % 32 ^ unsigned(step));
}
inline int __syncthreads_or(int own) { return __syncthreads_count(own); }

// launch.cuh: kernels run one after the other.
inline void let_next_start() {}
inline void wait_for_previous() {}
template <typename... P, typename... A>
void launch_after(void (*kernel)(P...), unsigned grid, unsigned block, int, cudaStream_t, A... args) {
    fibers::run(grid, block, [&] { kernel(args...); });
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return uint64_t((unsigned __int128)a * b >> 64); }
inline uint32_t __funnelshift_r(uint32_t low, uint32_t high, uint32_t by) {
    return uint32_t((low | uint64_t(high) << 32) >> by % 32);
}
inline int __ffs(int x) { return __builtin_ffs(x); }
template <typename T> T min(T a, T b) { return a < b ? a : b; }
template <typename T> T max(T a, T b) { return a > b ? a : b; }
template <typename T> T __ldg(const T* p) { return *p; }
template <typename T> T __ldcs(const T* p) { return *p; }
template <typename T> T __ldcg(const T* p) { return *p; }
template <typename T> void __stcg(T* p, T value) { *p = value; }
template <typename T> void __stcs(T* p, T value) { *p = value; }
template <typename T, typename U> T atomicAdd(T* p, U by) { return (*p += by) - by; }
template <typename T, typename U> T atomicOr(T* p, U bits) {
    T before = *p;
    *p |= bits;
    return before;
}
template <typename T, typename U> T atomicCAS(T* p, T expected, U other) {
    T before = *p;
    if (before == expected) *p = T(other);
    return before;
}
template <typename T, typename U> T atomicMin(T* p, U other) {
    T before = *p;
    if (other < before) *p = other;
    return before;
}
