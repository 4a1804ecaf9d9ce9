// Products with weight matrices. A matrix lies in panels of sixteen outputs, [N/16][K][16]: a panel is read from start
// to end, a lane is an output, and each output is added up in the order of k. So an output has the same bits whatever
// else is computed in the same call.

#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "vectors.h"

enum class Format : int { FLOAT32 = 0, BFLOAT16 = 1, FLOAT16 = 2 };

inline size_t bytes_of(Format format) { return format == Format::FLOAT32 ? 4 : 2; }

inline int panels_of(int n) { return (n + LANES - 1) / LANES; }

struct Free {
    void operator()(void* p) const { std::free(p); }
};

using Buffer = std::unique_ptr<void, Free>;

inline Buffer allocate(size_t bytes) {
    void* p = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) throw std::bad_alloc();
    return Buffer(p);
}

struct Matrix {
    int n = 0, k = 0;
    Format format = Format::FLOAT32;
    Buffer panels;
    Buffer bias;  // n floats, or none

    explicit operator bool() const { return bool(panels); }
};

// Puts `rows` rows of a row-major matrix, from its own row `first` on, into panels; what a last panel lacks is zero.
template <typename E>
void pack_panels(Matrix& matrix, const E* source, int first, int rows, int begin, int end) {
    E* panels = static_cast<E*>(matrix.panels.get());
    for (int panel = begin; panel < end; panel++) {
        E* target = panels + size_t(first / LANES + panel) * matrix.k * LANES;
        for (int k = 0; k < matrix.k; k++)
            for (int lane = 0; lane < LANES; lane++) {
                int row = panel * LANES + lane;
                target[size_t(k) * LANES + lane] = row < rows ? source[size_t(row) * matrix.k + k] : E{};
            }
    }
}

// R rows of x with P panels: y[r][p] += x[r][k] * w[p][k].
template <int R, int P, typename E>
inline void multiply_tile(const E* w, int k_size, const float* x, size_t x_stride, f32x16 (&sums)[R][P]) {
    const size_t panel = size_t(k_size) * LANES;
    for (int k = 0; k < k_size; k++) {
        f32x16 weights[P];
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) weights[p] = load16(w + p * panel + size_t(k) * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            float value = x[r * x_stride + k];
#pragma GCC unroll 8
            for (int p = 0; p < P; p++) sums[r][p] += weights[p] * value;
        }
    }
}

struct Rows {
    const float* x;
    size_t x_stride;
    float* y;
    size_t y_stride;
    int n;
};

template <int R, int P, typename E, bool ADD>
inline void tile(const E* w, int k_size, const Rows& rows, int row, int output) {
    f32x16 sums[R][P];
    float* y = rows.y + row * rows.y_stride + output;
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) sums[r][p] = f32x16{};
    multiply_tile<R, P, E>(w, k_size, rows.x + row * rows.x_stride, rows.x_stride, sums);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
            float* place = y + r * rows.y_stride + p * LANES;
            store16(place, ADD ? load16(place) + sums[r][p] : sums[r][p]);
        }
}

template <int P, typename E, bool ADD>
void multiply_rows(const E* w, int k_size, const Rows& rows, int output) {
    constexpr int MOST = P == 4 ? 4 : P == 2 ? 12 : 12;
    int row = 0;
    while (row < rows.n) {
        int left = rows.n - row, blocks = (left + MOST - 1) / MOST, size = (left + blocks - 1) / blocks;
        switch (size) {
            case 1: tile<1, P, E, ADD>(w, k_size, rows, row, output); break;
            case 2: tile<2, P, E, ADD>(w, k_size, rows, row, output); break;
            case 3: tile<3, P, E, ADD>(w, k_size, rows, row, output); break;
            case 4: tile<4, P, E, ADD>(w, k_size, rows, row, output); break;
            default:
                if constexpr (P < 4) {
                    switch (size) {
                        case 5: tile<5, P, E, ADD>(w, k_size, rows, row, output); break;
                        case 6: tile<6, P, E, ADD>(w, k_size, rows, row, output); break;
                        case 7: tile<7, P, E, ADD>(w, k_size, rows, row, output); break;
                        case 8: tile<8, P, E, ADD>(w, k_size, rows, row, output); break;
                        case 9: tile<9, P, E, ADD>(w, k_size, rows, row, output); break;
                        case 10: tile<10, P, E, ADD>(w, k_size, rows, row, output); break;
                        case 11: tile<11, P, E, ADD>(w, k_size, rows, row, output); break;
                        default: size = 12; tile<12, P, E, ADD>(w, k_size, rows, row, output); break;
                    }
                }
        }
        row += size;
    }
}

// y = x W' for the panels from `begin` to `end`, or y += x W'. `y` needs room for whole panels.
template <typename E, bool ADD>
void multiply_panels(const Matrix& matrix, const Rows& rows, int begin, int end) {
    const E* w = static_cast<const E*>(matrix.panels.get());
    const size_t panel_size = size_t(matrix.k) * LANES;
    int panel = begin;
    if (rows.n <= 4)
        for (; panel + 4 <= end; panel += 4)
            multiply_rows<4, E, ADD>(w + panel * panel_size, matrix.k, rows, panel * LANES);
    for (; panel + 2 <= end; panel += 2)
        multiply_rows<2, E, ADD>(w + panel * panel_size, matrix.k, rows, panel * LANES);
    for (; panel < end; panel++) multiply_rows<1, E, ADD>(w + panel * panel_size, matrix.k, rows, panel * LANES);
}

template <bool ADD = false>
void multiply(const Matrix& matrix, const Rows& rows, int begin, int end) {
    switch (matrix.format) {
        case Format::FLOAT32: return multiply_panels<float, ADD>(matrix, rows, begin, end);
        case Format::BFLOAT16: return multiply_panels<bf16, ADD>(matrix, rows, begin, end);
        case Format::FLOAT16: return multiply_panels<f16, ADD>(matrix, rows, begin, end);
    }
}
