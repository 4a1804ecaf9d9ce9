// What a decoder layer does between its matrix products, each step in one pass over memory.
//
// torch's own operators take one pass each: a root-mean-square norm is nine of them, twelve times the time of the one
// below (docs/benchmarks.md). Every function is written for bfloat16 and float32, computes in float32, and rounds where
// the transformers modules round. Rows are shared out among OpenMP threads and never split, and no sum depends on the
// number of threads or on an address: equal input gives equal bytes. kernels.py builds this file and binds it.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "elements.h"

namespace {

constexpr int64_t LANES = 16;  // floats of an AVX-512 vector

template <class T>
inline float rounded(float value) {
    T stored;
    store(&stored, value);
    return load(&stored);
}

// e^x to about two units in the last place, in operations that a compiler turns into vectors (Cephes, expf).
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    float n = std::nearbyint(x * 1.44269504088896341f);
    float r = x - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t power = (int32_t(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &power, 4);
    return p * scale;
}

// sum = x + delta (or x, where delta is null); out = weight * (sum / rms(sum)); rstd keeps 1 / rms for the way back.
template <class T>
void add_norm(const T* x, const T* delta, T* sum, const T* weight, T* out, int64_t out_stride, float* rstd, int64_t rows,
              int64_t width, float eps) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
        const T* from = x + row * width;
        float squares = 0.0f;
        if (delta != nullptr) {
            const T* more = delta + row * width;
            T* to = sum + row * width;
#pragma omp simd reduction(+ : squares)
            for (int64_t i = 0; i < width; ++i) {
                float value = rounded<T>(load(from + i) + load(more + i));
                store(to + i, value);
                squares += value * value;
            }
            from = to;
        } else {
#pragma omp simd reduction(+ : squares)
            for (int64_t i = 0; i < width; ++i) squares += load(from + i) * load(from + i);
        }
        float inverse = 1.0f / std::sqrt(squares / float(width) + eps);
        rstd[row] = inverse;
        T* normed = out + row * out_stride;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) store(normed + i, load(weight + i) * rounded<T>(load(from + i) * inverse));
    }
}

// gradient_x += the gradient of the norm's input, given that of its output.
template <class T>
void norm_backward(const T* x, const T* weight, const float* rstd, const T* gradient, int64_t gradient_stride,
                   T* gradient_x, int64_t x_stride, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
        const T* from = x + row * width;
        const T* given = gradient + row * gradient_stride;
        T* to = gradient_x + row * x_stride;
        float inverse = rstd[row], along = 0.0f;
#pragma omp simd reduction(+ : along)
        for (int64_t i = 0; i < width; ++i) along += load(given + i) * load(weight + i) * load(from + i);
        float pull = along * inverse * inverse * inverse / float(width);
#pragma omp simd
        for (int64_t i = 0; i < width; ++i)
            store(to + i, load(to + i) + load(given + i) * load(weight + i) * inverse - load(from + i) * pull);
    }
}

// Turns one head by its position (rotary embedding, halves paired); the other way round with direction -1.
template <class T, class S>
inline void rotate(const S* from, T* to, const float* cosine, const float* sine, int64_t half, float direction) {
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
        float low = load(from + i), high = load(from + half + i), s = direction * sine[i];
        store(to + i, low * cosine[i] - high * s);
        store(to + half + i, high * cosine[i] + low * s);
    }
}

template <class T, class S>
inline void copy(const S* from, T* to, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) store(to + i, load(from + i));
}

// Rows of queries, keys and values -> one block per segment: queries [groups, length, repeats, dim], keys and values
// [groups, length, dim], queries and keys rotated. `starts` and `lengths` say for each token where its segment lies.
template <class T>
void pack_heads(const T* qkv, int64_t stride, const float* cosine, const float* sine, const int64_t* starts, const int64_t* lengths, T* q,
                T* k, T* v, int64_t tokens, int64_t groups, int64_t repeats, int64_t dim) {
    int64_t heads = groups * repeats, half = dim / 2;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; ++t) {
        const T* row = qkv + t * stride;
        int64_t start = starts[t], length = lengths[t], place = t - start;
        for (int64_t g = 0; g < groups; ++g) {
            T* queries = q + (start * heads + (g * length + place) * repeats) * dim;
            for (int64_t h = 0; h < repeats; ++h)
                rotate(row + (g * repeats + h) * dim, queries + h * dim, cosine + t * half, sine + t * half, half, 1.0f);
            int64_t at = (start * groups + g * length + place) * dim;
            rotate(row + (heads + g) * dim, k + at, cosine + t * half, sine + t * half, half, 1.0f);
            copy(row + (heads + groups + g) * dim, v + at, dim);
        }
    }
}

// The way back of pack_heads; gradients of keys and values come in float32, for many queries add to them.
template <class T>
void unpack_gradients(const T* q, const float* k, const float* v, const float* cosine, const float* sine,
                      const int64_t* starts, const int64_t* lengths, T* qkv, int64_t stride, int64_t tokens,
                      int64_t groups, int64_t repeats, int64_t dim) {
    int64_t heads = groups * repeats, half = dim / 2;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; ++t) {
        T* row = qkv + t * stride;
        int64_t start = starts[t], length = lengths[t], place = t - start;
        for (int64_t g = 0; g < groups; ++g) {
            const T* queries = q + (start * heads + (g * length + place) * repeats) * dim;
            for (int64_t h = 0; h < repeats; ++h)
                rotate(queries + h * dim, row + (g * repeats + h) * dim, cosine + t * half, sine + t * half, half, -1.0f);
            int64_t at = (start * groups + g * length + place) * dim;
            rotate(k + at, row + (heads + g) * dim, cosine + t * half, sine + t * half, half, -1.0f);
            copy(v + at, row + (heads + groups + g) * dim, dim);
        }
    }
}

// Queries' layout (blocks of segments) <-> rows [tokens, heads * dim] with a stride.
template <class T>
void move_heads(T* packed, T* rows, int64_t stride, const int64_t* starts, const int64_t* lengths, int64_t tokens,
                int64_t groups, int64_t repeats, int64_t dim, int64_t to_rows) {
    int64_t heads = groups * repeats;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; ++t) {
        int64_t start = starts[t], length = lengths[t], place = t - start;
        for (int64_t g = 0; g < groups; ++g) {
            T* block = packed + (start * heads + (g * length + place) * repeats) * dim;
            T* row = rows + t * stride + g * repeats * dim;
            std::memcpy(to_rows ? row : block, to_rows ? block : row, size_t(repeats * dim) * sizeof(T));
        }
    }
}

// Softmax of scaled scores in place. Rows come as [groups, queries, repeats]; query i sees the first `before` + i + 1.
template <class T>
void causal_softmax(T* scores, int64_t rows, int64_t columns, int64_t before, int64_t queries, int64_t repeats,
                    float scale) {
#pragma omp parallel
    {
        std::vector<float> values(size_t(columns + LANES));
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; ++row) {
            T* here = scores + row * columns;
            int64_t seen = before + row % (queries * repeats) / repeats + 1;
            int64_t padded = (seen + LANES - 1) / LANES * LANES;  // whole vectors: a rest costs more than it computes
            float* value = values.data();
            float most = -INFINITY, total = 0.0f;
#pragma omp simd
            for (int64_t i = 0; i < seen; ++i) value[i] = load(here + i);
            for (int64_t i = seen; i < padded; ++i) value[i] = -INFINITY;
#pragma omp simd reduction(max : most)
            for (int64_t i = 0; i < padded; ++i) most = value[i] > most ? value[i] : most;
#pragma omp simd
            for (int64_t i = 0; i < padded; ++i) value[i] = exponential((value[i] - most) * scale);
            for (int64_t i = seen; i < padded; ++i) value[i] = 0.0f;
#pragma omp simd reduction(+ : total)
            for (int64_t i = 0; i < padded; ++i) total += value[i];
            float share = 1.0f / total;
#pragma omp simd
            for (int64_t i = 0; i < seen; ++i) store(here + i, value[i] * share);
            std::memset(static_cast<void*>(here + seen), 0, size_t(columns - seen) * sizeof(T));
        }
    }
}

// gradients of probabilities -> gradients of unscaled scores, in place.
template <class T>
void causal_softmax_backward(const T* chances, T* gradients, int64_t rows, int64_t columns, int64_t before,
                             int64_t queries, int64_t repeats, float scale) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
        const T* chance = chances + row * columns;
        T* here = gradients + row * columns;
        int64_t seen = before + row % (queries * repeats) / repeats + 1;
        float mean = 0.0f;
#pragma omp simd reduction(+ : mean)
        for (int64_t i = 0; i < seen; ++i) mean += load(chance + i) * load(here + i);
#pragma omp simd
        for (int64_t i = 0; i < seen; ++i) store(here + i, load(chance + i) * (load(here + i) - mean) * scale);
        std::memset(static_cast<void*>(here + seen), 0, size_t(columns - seen) * sizeof(T));
    }
}

// out = silu(gate) * up, gate and up side by side in each row.
template <class T>
void silu_mul(const T* gate_up, int64_t stride, T* out, int64_t out_stride, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
        const T* gate = gate_up + row * stride;
        T* to = out + row * out_stride;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
            float g = load(gate + i);
            store(to + i, rounded<T>(g / (1.0f + exponential(-g))) * load(gate + width + i));
        }
    }
}

// Puts the gradients of gate and up in their own place, and what silu_mul gave, for it is needed again, in `out`.
template <class T>
void silu_mul_backward(T* gate_up, int64_t stride, const T* gradient, int64_t gradient_stride, T* out,
                       int64_t out_stride, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
        T* gate = gate_up + row * stride;
        T* to = out + row * out_stride;
        const T* given = gradient + row * gradient_stride;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
            float g = load(gate + i), u = load(gate + width + i), d = load(given + i);
            float sigmoid = 1.0f / (1.0f + exponential(-g));
            store(to + i, rounded<T>(g * sigmoid) * u);
            store(gate + i, d * u * sigmoid * (1.0f + g * (1.0f - sigmoid)));
            store(gate + width + i, d * g * sigmoid);
        }
    }
}

// Cross-entropy of each row of logits; where `factors` is given the logits become factor * (softmax - one-hot).
template <class T>
void cross_entropy(T* logits, const int64_t* labels, const float* factors, float* nats, int64_t* correct, int64_t rows,
                   int64_t width) {
#pragma omp parallel
    {
        std::vector<float> values(static_cast<size_t>(width));
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; ++row) {
            T* here = logits + row * width;
            float* value = values.data();
            int64_t label = labels[row];
            float most = -INFINITY, total = 0.0f, target = load(here + label);
#pragma omp simd reduction(max : most)
            for (int64_t i = 0; i < width; ++i) most = load(here + i) > most ? load(here + i) : most;
#pragma omp simd reduction(+ : total)
            for (int64_t i = 0; i < width; ++i) {
                value[i] = exponential(load(here + i) - most);
                total += value[i];
            }
            nats[row] = std::log(total) + most - target;
            int64_t first = 0;
            if (target == most)
                while (load(here + first) != most) ++first;
            correct[row] = target == most && first == label;
            if (factors == nullptr) continue;
            float share = factors[row] / total, own = (value[label] / total - 1.0f) * factors[row];
#pragma omp simd
            for (int64_t i = 0; i < width; ++i) store(here + i, value[i] * share);
            store(here + label, own);
        }
    }
}

}  // namespace

#define LUTHIER_EXPORT(T, suffix)                                                                                          \
    extern "C" void add_norm_##suffix(const T* a, const T* b, T* c, const T* d, T* e, int64_t f, float* g, int64_t h,      \
                                      int64_t i, float j) {                                                               \
        add_norm(a, b, c, d, e, f, g, h, i, j);                                                                            \
    }                                                                                                                      \
    extern "C" void norm_backward_##suffix(const T* a, const T* b, const float* c, const T* d, int64_t e, T* f, int64_t g, \
                                           int64_t h, int64_t i) {                                                         \
        norm_backward(a, b, c, d, e, f, g, h, i);                                                                             \
    }                                                                                                                      \
    extern "C" void pack_heads_##suffix(const T* a, int64_t b, const float* c, const float* d, const int64_t* e,           \
                                        const int64_t* f, T* g, T* h, T* i, int64_t j, int64_t k, int64_t l, int64_t m) {  \
        pack_heads(a, b, c, d, e, f, g, h, i, j, k, l, m);                                                                    \
    }                                                                                                                      \
    extern "C" void unpack_gradients_##suffix(const T* a, const float* b, const float* c, const float* d, const float* e,  \
                                              const int64_t* f, const int64_t* g, T* h, int64_t i, int64_t j, int64_t k,   \
                                              int64_t l, int64_t m) {                                                      \
        unpack_gradients(a, b, c, d, e, f, g, h, i, j, k, l, m);                                                              \
    }                                                                                                                      \
    extern "C" void move_heads_##suffix(T* a, T* b, int64_t c, const int64_t* d, const int64_t* e, int64_t f, int64_t g,   \
                                        int64_t h, int64_t i, int64_t j) {                                                 \
        move_heads(a, b, c, d, e, f, g, h, i, j);                                                                          \
    }                                                                                                                      \
    extern "C" void causal_softmax_##suffix(T* a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f, float g) {        \
        causal_softmax(a, b, c, d, e, f, g);                                                                               \
    }                                                                                                                      \
    extern "C" void causal_softmax_backward_##suffix(const T* a, T* b, int64_t c, int64_t d, int64_t e, int64_t f,         \
                                                     int64_t g, float h) {                                                 \
        causal_softmax_backward(a, b, c, d, e, f, g, h);                                                                   \
    }                                                                                                                      \
    extern "C" void silu_mul_##suffix(const T* a, int64_t b, T* c, int64_t d, int64_t e, int64_t f) {                       \
        silu_mul(a, b, c, d, e, f);                                                                                        \
    }                                                                                                                      \
    extern "C" void silu_mul_backward_##suffix(T* a, int64_t b, const T* c, int64_t d, T* e, int64_t f, int64_t g,         \
                                               int64_t h) {                                                                \
        silu_mul_backward(a, b, c, d, e, f, g, h);                                                                         \
    }                                                                                                                      \
    extern "C" void cross_entropy_##suffix(T* a, const int64_t* b, const float* c, float* d, int64_t* e, int64_t f,        \
                                           int64_t g) {                                                                    \
        cross_entropy(a, b, c, d, e, f, g);                                                                                \
    }

LUTHIER_EXPORT(bf16, bfloat16)
LUTHIER_EXPORT(float, float32)
