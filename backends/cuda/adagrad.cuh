// Adagrad: s += g²; w -= lr·rate·g / (√s + eps).
#pragma once
#include "update.cuh"

struct Adagrad {
    static constexpr int SLOTS = 1;
    float lr, eps, decay;

    // `a` points at lr of the declared scalars: lr, eps, decay.
    explicit Adagrad(const Arg* a) : lr(float(a[0].f)), eps(float(a[1].f)), decay(float(a[2].f)) {}

    __device__ void operator()(float& w, float g, float* s, float rate) const {
        g += decay * w;
        s[0] += g * g;
        w -= lr * rate * g / (sqrtf(s[0]) + eps);
    }
};
