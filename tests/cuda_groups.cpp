// Grouping as ids_transpose launches it, over fibers (cuda_fibers.h).
#include "cuda_fibers.h"
#include "group_large.cuh"

struct Place {
    using Value = uint32_t;
    int32_t* order;

    Value value(uint32_t i, uint32_t) const { return i; }
    void operator()(uint32_t place, Value i) const { order[place] = int32_t(i); }
};

// Puts the order and the starts of keys below `distinct`; returns how many buckets were large.
EXPORT int grouped(const int32_t* keys, int64_t n, int64_t distinct, int32_t* starts, int32_t* order) {
    using namespace grouping;
    std::vector<char> scratch(Work(nullptr, n, distinct, 4).bytes + 256, char(0xA5));
    auto address = (reinterpret_cast<uintptr_t>(scratch.data()) + 255) / 256 * 256;
    Work work(reinterpret_cast<void*>(address), n, distinct, 4);
    group<Plain>(keys, work, starts, 0, Place{order}, nullptr);
    if (work.pieces == 0) return 0;
    return work.taken[0] > work.pieces ? -1 : work.taken[1];
}
