// Attention of some rows of one sequence to its KV cache, page by page, with a running softmax (Milakov and
// Gimelshein 2018; Dao et al. 2022). A page holds 64 positions of every layer: keys as [head][dimension][position], so
// that lanes are positions, values as [head][position][dimension]. The order of all sums depends on positions alone.

#pragma once

#include <algorithm>

#include "vectors.h"

constexpr int PAGE = 64;
constexpr int MAX_HEAD_DIM = 256;
constexpr int QUERIES = 6;     // that are computed side by side: they share what is loaded of the cache
constexpr int MOST_QUERIES = 24;  // of one call: from QUERIES on, a page is widened to float32 once for all of them

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

// Of one query, between pages.
struct Running {
    float out[MAX_HEAD_DIM];
    float largest, total;
};

// The weights of a page's positions, from their scores; false if the query sees none of them.
inline bool weigh(float* scores, const Query& query, int page, Running& state, int dim) {
    const int visible = query.n_positions - page * PAGE, hidden = query.first - page * PAGE;
    if (visible <= 0 || hidden >= PAGE) {
        std::fill_n(scores, PAGE, 0.0f);
        return false;
    }
    for (int p = visible; p < PAGE; p++) scores[p] = -INFINITY;
    for (int p = 0; p < hidden; p++) scores[p] = -INFINITY;
    f32x16 most = load16(scores);
    for (int v = 1; v < PAGE / LANES; v++) most = max16(most, load16(scores + v * LANES));
    const float before = state.largest, now = std::max(before, largest16(most));
    f32x16 sum = {};
    for (int v = 0; v < PAGE / LANES; v++) {
        f32x16 weight = exp16(load16(scores + v * LANES) - now);
        store16(scores + v * LANES, weight);
        sum += weight;
    }
    if (before != now) {
        const float shrink = before == -INFINITY ? 0.0f : exp16(all16(before - now))[0];
        state.total *= shrink;
        for (int d = 0; d < dim; d += LANES) store16(state.out + d, load16(state.out + d) * shrink);
        state.largest = now;
    }
    state.total += sum16(sum);
    return true;
}

// D vectors of dimensions of the weighted sum of a page's values.
template <int Q, int D, typename E>
inline void add_values(const E* values, int dim, int n, const float (&weights)[Q][PAGE], Running* states, int first) {
    f32x16 parts[Q][D];
#pragma GCC unroll 6
    for (int i = 0; i < Q; i++)
#pragma GCC unroll 4
        for (int v = 0; v < D; v++) parts[i][v] = load16(states[i].out + first + v * LANES);
    for (int p = 0; p < n; p++) {
        f32x16 value[D];
#pragma GCC unroll 4
        for (int v = 0; v < D; v++) value[v] = load16(values + size_t(p) * dim + first + v * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < Q; i++)
#pragma GCC unroll 4
            for (int v = 0; v < D; v++) parts[i][v] += value[v] * weights[i][p];
    }
#pragma GCC unroll 6
    for (int i = 0; i < Q; i++)
#pragma GCC unroll 4
        for (int v = 0; v < D; v++) store16(states[i].out + first + v * LANES, parts[i][v]);
}

template <int Q, typename E>
void attend_page(const E* keys, const E* values, int dim, float scale, int page, const Query* queries, Running* states) {
    alignas(64) float scores[Q][PAGE];
    f32x16 sums[Q][PAGE / LANES];
    const float* q[Q];
    int n = 0;
#pragma GCC unroll 6
    for (int i = 0; i < Q; i++) {
        q[i] = queries[i].q;
        n = std::max(n, queries[i].n_positions);
#pragma GCC unroll 4
        for (int v = 0; v < PAGE / LANES; v++) sums[i][v] = f32x16{};
    }
    n = std::min(PAGE, n - page * PAGE);
    if (n <= 0) return;
    for (int d = 0; d < dim; d++) {
        f32x16 key[PAGE / LANES];
#pragma GCC unroll 4
        for (int v = 0; v < PAGE / LANES; v++) key[v] = load16(keys + size_t(d) * PAGE + v * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < Q; i++)
#pragma GCC unroll 4
            for (int v = 0; v < PAGE / LANES; v++) sums[i][v] += key[v] * q[i][d];
    }
    bool any = false;
    for (int i = 0; i < Q; i++) {
        for (int v = 0; v < PAGE / LANES; v++) store16(scores[i] + v * LANES, sums[i][v] * scale);
        any = weigh(scores[i], queries[i], page, states[i], dim) || any;
    }
    if (!any) return;
    int d = 0;
    for (; d + 4 * LANES <= dim; d += 4 * LANES) add_values<Q, 4, E>(values, dim, n, scores, states, d);
    for (; d < dim; d += LANES) add_values<Q, 1, E>(values, dim, n, scores, states, d);
}

template <typename E>
void attend_page(const E* keys, const E* values, int dim, float scale, int page, const Query* queries, Running* states,
                 int n) {
    for (int i = 0; i < n; i += QUERIES) {
        switch (std::min(QUERIES, n - i)) {
            case 1: attend_page<1, E>(keys, values, dim, scale, page, queries + i, states + i); break;
            case 2: attend_page<2, E>(keys, values, dim, scale, page, queries + i, states + i); break;
            case 3: attend_page<3, E>(keys, values, dim, scale, page, queries + i, states + i); break;
            case 4: attend_page<4, E>(keys, values, dim, scale, page, queries + i, states + i); break;
            case 5: attend_page<5, E>(keys, values, dim, scale, page, queries + i, states + i); break;
            default: attend_page<6, E>(keys, values, dim, scale, page, queries + i, states + i);
        }
    }
}

// At most MOST_QUERIES.
inline void attend(const CachedHead& cache, const Query* queries, int n) {
    const int dim = cache.shape.head_dim;
    Running states[MOST_QUERIES];
    alignas(64) float keys[MAX_HEAD_DIM * PAGE], values[MAX_HEAD_DIM * PAGE];
    int last = 0, first = queries[0].first;
    for (int i = 0; i < n; i++) {
        std::fill_n(states[i].out, dim, 0.0f);
        states[i].largest = -INFINITY;
        states[i].total = 0.0f;
        last = std::max(last, queries[i].n_positions);
        first = std::min(first, queries[i].first);
    }
    for (int page = first / PAGE; page * PAGE < last; page++) {
        if (n <= QUERIES) {
            attend_page(cache.keys(page), cache.values(page), dim, cache.scale, page, queries, states, n);
            continue;
        }
        for (int i = 0; i < dim * PAGE; i += LANES) {
            store16(keys + i, load16(cache.keys(page) + i));
            store16(values + i, load16(cache.values(page) + i));
        }
        attend_page<float>(keys, values, dim, cache.scale, page, queries, states, n);
    }
    for (int i = 0; i < n; i++)
        for (int d = 0; d < dim; d += LANES)
            store16(queries[i].out + d, load16(states[i].out + d) * (1.0f / states[i].total));
}
