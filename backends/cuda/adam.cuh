// Adam and AdamW, and the moments they share with either place of epsilon.
#pragma once
#include "update.cuh"

struct Moments {
    float lr, beta1, beta2, rest1, rest2, eps, decay, step, correction;
    bool inside;  // epsilon beside the bias-corrected root ("torch") or beside the plain one

    // `a` points at lr of the declared scalars: lr, beta1, beta2, eps, decay, power1, power2, form.
    explicit Moments(const Arg* a)
        : lr(float(a[0].f)), beta1(float(a[1].f)), beta2(float(a[2].f)), rest1(float(1 - a[1].f)),
          rest2(float(1 - a[2].f)), eps(float(a[3].f)), decay(float(a[4].f)),
          step(float(a[0].f / (1 - a[5].f))), correction(float(sqrt(1 - a[6].f))),
          inside(a[7].i == 0) {}

    __device__ float move(float g, float* s, float rate) const {
        s[0] = beta1 * s[0] + rest1 * g;
        s[1] = beta2 * s[1] + rest2 * g * g;
        float root = sqrtf(s[1]);
        return inside ? rate * step * s[0] / (root / correction + eps)
                      : rate * step * correction * s[0] / (root + eps);
    }
};

// Decay joins the gradient; "torch" or "tensorflow" epsilon.
struct Adam {
    static constexpr int SLOTS = 2;
    Moments m;

    explicit Adam(const Arg* a) : m(a) {}

    __device__ void operator()(float& w, float g, float* s, float rate) const {
        w -= m.move(g + m.decay * w, s, rate);
    }
};

// Decoupled decay; forms "torch", "recis", "tensorflow".
struct AdamW {
    static constexpr int SLOTS = 2;
    Moments m;
    bool plain;  // "tensorflow": the decay is not multiplied by the learning rate

    explicit AdamW(const Arg* a) : m(a), plain(a[7].i == 2) {}

    __device__ void operator()(float& w, float g, float* s, float rate) const {
        w *= 1.f - (plain ? m.decay : m.lr * rate * m.decay);
        w -= m.move(g, s, rate);
    }
};
