// Attention of some rows of one sequence to its KV cache, page by page, with a running softmax (Milakov and
// Gimelshein 2018; Dao et al. 2022). A page holds 64 positions of every layer: keys as [head][dimension][position], so
// that lanes are positions, values as [head][position][dimension]. The order of all sums depends on positions alone.

#pragma once

#include <algorithm>

#include "vectors.h"

constexpr int PAGE = 64;
constexpr int MAX_HEAD_DIM = 256;
constexpr int QUERIES = 6;  // that are computed side by side: they share what is read of the cache

struct CacheShape {
    int n_layers, n_kv_heads, head_dim;

    size_t head() const { return size_t(head_dim) * PAGE; }
    size_t layer() const { return size_t(n_kv_heads) * head() * 2; }
    size_t page() const { return layer() * n_layers; }
};

struct Query {
    const float* q;
    float* out;
    int n_positions;  // that it sees: its own position and all before it
    int first;        // the first that it sees, above 0 with a sliding window
};

// One layer and key-value head; `pages` are the sequence's.
struct CachedHead {
    f16* const* pages;
    size_t offset;  // of the head's keys within a page
    CacheShape shape;
    float scale;

    const f16* keys(int page) const { return pages[page] + offset; }
    const f16* values(int page) const { return pages[page] + offset + shape.n_kv_heads * shape.head(); }
};

template <int Q>
void attend_tile(const CachedHead& cache, const Query* queries) {
    const int dim = cache.shape.head_dim;
    float out[Q][MAX_HEAD_DIM], largest[Q], total[Q];
    alignas(64) float scores[Q][PAGE];
    int last = 0, first = queries[0].first;
    for (int i = 0; i < Q; i++) {
        std::fill_n(out[i], dim, 0.0f);
        largest[i] = -INFINITY;
        total[i] = 0.0f;
        last = std::max(last, queries[i].n_positions);
        first = std::min(first, queries[i].first);
    }
    for (int page = first / PAGE; page * PAGE < last; page++) {
        const f16* keys = cache.keys(page);
        f32x16 sums[Q][PAGE / LANES] = {};
        for (int d = 0; d < dim; d++) {
#pragma GCC unroll 4
            for (int v = 0; v < PAGE / LANES; v++) {
                f32x16 key = load16(keys + size_t(d) * PAGE + v * LANES);
#pragma GCC unroll 6
                for (int i = 0; i < Q; i++) sums[i][v] += key * queries[i].q[d];
            }
        }
        const int n = std::min(PAGE, last - page * PAGE);
        for (int i = 0; i < Q; i++) {
            for (int v = 0; v < PAGE / LANES; v++) store16(scores[i] + v * LANES, sums[i][v] * cache.scale);
            const int visible = queries[i].n_positions - page * PAGE, hidden = queries[i].first - page * PAGE;
            for (int p = std::max(visible, 0); p < PAGE; p++) scores[i][p] = -INFINITY;
            for (int p = 0; p < std::min(hidden, PAGE); p++) scores[i][p] = -INFINITY;
            f32x16 most = load16(scores[i]);
            for (int v = 1; v < PAGE / LANES; v++) most = max16(most, load16(scores[i] + v * LANES));
            const float before = largest[i], now = std::max(before, largest16(most));
            if (now == -INFINITY) {
                std::fill_n(scores[i], PAGE, 0.0f);
                continue;
            }
            f32x16 sum = {};
            for (int v = 0; v < PAGE / LANES; v++) {
                f32x16 weight = exp16(load16(scores[i] + v * LANES) - now);
                store16(scores[i] + v * LANES, weight);
                sum += weight;
            }
            largest[i] = now;
            if (before != now && before != -INFINITY) {
                const float shrink = exp16(all16(before - now))[0];
                total[i] *= shrink;
                for (int d = 0; d < dim; d += LANES) store16(out[i] + d, load16(out[i] + d) * shrink);
            }
            total[i] += sum16(sum);
        }
        const f16* values = cache.values(page);
        for (int d = 0; d < dim; d += LANES) {
            f32x16 parts[Q];
            for (int i = 0; i < Q; i++) parts[i] = load16(out[i] + d);
            for (int p = 0; p < n; p++) {
                f32x16 value = load16(values + size_t(p) * dim + d);
#pragma GCC unroll 6
                for (int i = 0; i < Q; i++) parts[i] += value * scores[i][p];
            }
            for (int i = 0; i < Q; i++) store16(out[i] + d, parts[i]);
        }
    }
    for (int i = 0; i < Q; i++)
        for (int d = 0; d < dim; d += LANES) store16(queries[i].out + d, load16(out[i] + d) * (1.0f / total[i]));
}

inline void attend(const CachedHead& cache, const Query* queries, int n) {
    while (n > 0) {
        const int size = std::min(n, QUERIES);
        switch (size) {
            case 1: attend_tile<1>(cache, queries); break;
            case 2: attend_tile<2>(cache, queries); break;
            case 3: attend_tile<3>(cache, queries); break;
            case 4: attend_tile<4>(cache, queries); break;
            case 5: attend_tile<5>(cache, queries); break;
            default: attend_tile<6>(cache, queries);
        }
        queries += size;
        n -= size;
    }
}
