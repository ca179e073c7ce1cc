// SGD: w -= lr·rate·(g + decay·w).
#pragma once
#include "update.cuh"

struct Sgd {
    static constexpr int SLOTS = 0;
    float lr, decay;

    // `a` points at lr of the declared scalars: lr, decay.
    explicit Sgd(const Arg* a) : lr(float(a[0].f)), decay(float(a[1].f)) {}

    __device__ void operator()(float& w, float g, float*, float rate) const {
        w -= lr * rate * (g + decay * w);
    }
};
