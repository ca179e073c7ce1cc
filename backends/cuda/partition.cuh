// What the kernels of ids_partition share: the call, how it is cut up, and what lies between the kernels.
#pragma once
#include "block_scan.cuh"
#include "columns.cuh"
#include "hash.cuh"
#include "launch.cuh"

// Values a thread: fewer where a batch is small, so that it still brings enough warps.
BOTH constexpr int tile_each(int span) { return span <= 4096 ? 8 : 16; }
BOTH constexpr int bucket_each(int cap) { return cap <= 2048 ? 8 : 16; }
constexpr int MOST_BUCKETS = 16384, PROBES = 4, BATCH = 4;
constexpr uint32_t EMPTY = ~0u, DONE = 1u << 31, SPEAKS = 1u << 31;

struct Pairs {
    const int64_t* ids;
    Index splits, tables;
    const int64_t* salts;
    int64_t n, columns;
};

struct Shape {
    int world, per;  // owners, buckets of each
    int tiles;
    Owners owners;

    BOTH int buckets() const { return world * per; }
    // Owner from bits 0-15, bucket from 20-39; cells and tags take what is left.
    BOTH int bucket(uint64_t hashed) const {
        return owners.of(hashed) * per + int((hashed >> 20 & 0xFFFFF) * uint64_t(per) >> 20);
    }
};

// Of a bucket that did not know where its owner's run begins: its `total` ids lie in `staged` from `at`
// on, and are numbered from `first` on among those of its owner.
struct Run {
    uint32_t at, first, total;
};

// Everything between the kernels; in scratch.
struct Work {
    int64_t* elements;    // [n] ids, tile by tile, in a tile by bucket
    int32_t* tables;      // [n] likewise; null with a single table
    uint16_t* offsets;    // [tiles][buckets + 1]
    uint16_t* places;     // [n] where in its tile's stretch a value's speaker lies
    uint32_t* numbers;    // [n] of each element
    Run* runs;            // [buckets], of several owners
    int64_t* staged;      // [n], likewise
    int32_t* staged_tables;  // [n], of several tables
    uint32_t* spare;      // [2 n] tables of buckets too large for shared memory
    unsigned long long* used;     // of `spare` and of `staged`
    unsigned long long* counted;  // [world] buckets << 32 | pairs of an owner so far
    int64_t bytes;

    Work(void* scratch, int64_t n, const Shape& shape, bool one_table) {
        char* at = static_cast<char*>(scratch);
        auto take = [&](int64_t size) { char* p = at; at += (size + 255) / 256 * 256; return p; };
        elements = reinterpret_cast<int64_t*>(take(n * 8));
        tables = reinterpret_cast<int32_t*>(take(one_table ? 0 : n * 4));
        offsets = reinterpret_cast<uint16_t*>(take(int64_t(shape.tiles) * (shape.buckets() + 1) * 2));
        places = reinterpret_cast<uint16_t*>(take(n * 2));
        numbers = reinterpret_cast<uint32_t*>(take(n * 4));
        int64_t several = shape.world > 1 ? n : 0;
        runs = reinterpret_cast<Run*>(take(several ? int64_t(shape.buckets()) * sizeof(Run) : 0));
        staged = reinterpret_cast<int64_t*>(take(several * 8));
        staged_tables = reinterpret_cast<int32_t*>(take(one_table ? 0 : several * 4));
        spare = reinterpret_cast<uint32_t*>(take(n * 8));
        used = reinterpret_cast<unsigned long long*>(take(16));
        counted = reinterpret_cast<unsigned long long*>(take(int64_t(shape.world) * 8));
        if (one_table) tables = nullptr;
        bytes = at - static_cast<char*>(scratch);
    }
};
