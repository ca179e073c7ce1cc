// rows_init: a lane an element of the weight; one lane of the row fills the other slots.
#include "arg.cuh"
#include "hash.cuh"

constexpr int REDRAWS = 8, MOST_SLOTS = 8;

struct Fills {
    int count;
    int64_t offset[MOST_SLOTS], dim[MOST_SLOTS];
    int dtype[MOST_SLOTS];
    float value[MOST_SLOTS];
};

__device__ double uniform(uint64_t word) { return double(word >> 40) * 0x1p-24; }

__device__ double gaussian(uint64_t word) {
    double v = double((word >> 16) & 0xFFFFFF) * 0x1p-24;
    return sqrt(-2 * log(uniform(word) + 0x1p-24)) * cospi(2 * v);
}

__device__ float draw(uint64_t base, int64_t column, int kind, float a, float b, float width) {
    auto bits = [&](uint64_t redraw) { return mix64(base + (1 + uint64_t(column) + (redraw << 32)) * GOLDEN); };
    if (kind == 0) return a;
    // The product of two 24-bit numbers is exact, so a fused multiply-add changes nothing.
    if (kind == 1) return float(double(a) + double(width) * uniform(bits(0)));
    double z = gaussian(bits(0));
    if (kind == 3) {
        for (int r = 1; r < REDRAWS && fabs(z) > 2; ++r) z = gaussian(bits(r));
        if (fabs(z) > 2) z = 0;
    }
    return float(double(a) + double(b) * z);
}

__global__ void init(Rows blocks, Index rows, const bool* fresh, Index tables, const int64_t* ids,
                     const int64_t* salts, int64_t n, uint64_t seed, int kind, float a, float b, float width,
                     Arg weight, Fills fills, int lanes) {
    int64_t t = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, i = t / lanes;
    int lane = int(t % lanes);
    if (i >= n || !fresh[i]) return;
    int64_t row = rows[i];
    if (row < 0) return;
    char* base = blocks.row(row);
    uint64_t word = kind == 0 ? 0 : mix64(pair_hash(salts[tables[i]], ids[i]) ^ mix64(seed));
    Floats out(base + weight.n0, weight.dtype);
    for (int64_t d = lane; d < weight.n1; d += lanes)
        out.store<1>(d, Pack<float, 1>{draw(word, d, kind, a, b, width)});
    for (int s = 0; s < fills.count; ++s) {
        Floats slot(base + fills.offset[s], fills.dtype[s]);
        for (int64_t d = lane; d < fills.dim[s]; d += lanes)
            slot.store<1>(d, Pack<float, 1>{fills.value[s]});
    }
}

EXPORT int64_t rows_init(const Arg* a, void*, cudaStream_t stream) {
    // blocks, rows, fresh, tables, ids, salts, seed, kind, a, b; then "weight" and the other slots
    int64_t n = a[1].n0;
    const Arg* slots = a + 10;
    Fills fills{};
    fills.count = a[0].given - 1;
    if (fills.count > MOST_SLOTS) return cudaErrorInvalidValue;
    for (int s = 0; s < fills.count; ++s) {
        fills.offset[s] = slots[s + 1].n0;
        fills.dim[s] = slots[s + 1].n1;
        fills.dtype[s] = slots[s + 1].dtype;
        fills.value[s] = float(slots[s + 1].f);
    }
    if (n == 0) return 0;
    int lanes = 1;
    while (lanes < 32 && lanes < slots[0].n1) lanes *= 2;
    // b - a is formed from the rounded ends, in float64, then rounded, as the declaration does.
    float low = float(a[8].f), high = float(a[9].f), width = float(double(high) - double(low));
    init<<<blocks_for(n * lanes), THREADS, 0, stream>>>(
        Rows(a[0]), Index(a[1]), tensor<const bool>(a[2]), Index(a[3]), tensor<const int64_t>(a[4]),
        tensor<const int64_t>(a[5]), n, uint64_t(a[6].i), int(a[7].i), low, high, width, slots[0], fills, lanes);
    return cudaGetLastError();
}
