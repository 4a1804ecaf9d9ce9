// Squares of 32 x 32 on a processor with AMX: their product, and the orders in which its sides must lie.

#pragma once

#include <immintrin.h>

#include "elements.h"

namespace {

constexpr int64_t SIDE = 32, SQUARE = SIDE * SIDE, TILE = 512;  // elements; a tile is 16 rows of 64 bytes

// ---- Tiles

// Eight tiles of 16 rows of 64 bytes, as long as it lives: other libraries configure their own.
struct Tiles {
    Tiles() {
        struct {
            uint8_t palette = 1, start = 0, reserved[14] = {};
            uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } config;
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
};

// A side of a product: its first tile, bytes between a tile's rows, elements to the other 16 rows or columns and to the
// next 32 summands. Tiles of the right side hold pairs: row p has the summands 2p and 2p + 1 of 16 columns.
struct Left {
    const bf16* at;
    int64_t stride, other, next;
};
struct Right {
    const bf16* at;
    int64_t other, next;
};

// Sides that sum over dim: 32 rows of it, and those that `pack_across` made.
inline Left rows_of(const bf16* at, int64_t dim) { return {at, dim * 2, 16 * dim, SIDE}; }
inline Right across(const bf16* at, int64_t dim) { return {at, 16 * dim, TILE}; }
// Sides that sum over rows, 32 of them in a square and the next 32 `next` elements on.
inline Left squares(const bf16* at, int64_t next) { return {at, 64, TILE, next}; }
inline Right pairs(const bf16* at, int64_t next) { return {at, TILE, next}; }

// out (+)= left * right: a square, over 32 * steps summands.
inline void multiply(Left left, Right right, int64_t steps, float* out, int64_t width, bool add) {
    float* low = out + 16 * width;
    if (add) {
        _tile_loadd(0, out, width * 4);
        _tile_loadd(1, out + 16, width * 4);
        _tile_loadd(2, low, width * 4);
        _tile_loadd(3, low + 16, width * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t step = 0; step < steps; ++step, left.at += left.next, right.at += right.next) {
        _tile_loadd(4, left.at, left.stride);
        _tile_loadd(6, right.at, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, right.at + right.other, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, left.at + left.other, left.stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, width * 4);
    _tile_stored(1, out + 16, width * 4);
    _tile_stored(2, low, width * 4);
    _tile_stored(3, low + 16, width * 4);
}

// ---- Vectors of 16

inline __m512 widened(const float* from) { return _mm512_loadu_ps(from); }
inline __m512 widened(const bf16* from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16));
}
inline void narrow(bf16* to, __m512 values) { _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh(values)); }
inline __m512i narrowed(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// 2^x to 3e-6 of itself.
inline __m512 power_of_two(__m512 x) {
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(1.3333558e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6181291e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

inline __m512i lanes() { return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0); }

// 16-bit elements 0, 16, 1, 17 ...: two rows of 16 become pairs.
inline __m512i paired(__m512i two_rows) {
    __m512i twice = _mm512_or_si512(lanes(), _mm512_slli_epi32(lanes(), 16));
    return _mm512_permutexvar_epi16(_mm512_add_epi32(twice, _mm512_set1_epi32(16 << 16)), two_rows);
}

// 16 x 16 of 32 bits: exchanges what lies across the diagonal, in blocks of 1, 2, 4 and 8.
inline void transpose(__m512i rows[16]) {
#pragma GCC unroll 4
    for (int bit = 1; bit < 16; bit *= 2) {
        __m512i block = _mm512_set1_epi32(bit), other_row = _mm512_set1_epi32(16);
        __mmask16 odd = _mm512_test_epi32_mask(lanes(), block);
        __m512i upper = _mm512_mask_or_epi32(lanes(), odd, _mm512_xor_si512(lanes(), block), other_row);
        __m512i lower = _mm512_mask_or_epi32(_mm512_or_si512(lanes(), block), odd, lanes(), other_row);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
            if (i & bit) continue;
            __m512i one = rows[i], other = rows[i | bit];
            rows[i] = _mm512_permutex2var_epi32(one, upper, other);
            rows[i | bit] = _mm512_permutex2var_epi32(one, lower, other);
        }
    }
}

inline __m512i every(int64_t value) { return _mm512_set1_epi32(int32_t(value)); }
inline __mmask16 seen(int64_t key, __m512i last) { return _mm512_cmple_epi32_mask(every(key), last); }
inline __m512 chance(__m512 score, __m512 factor, __m512 offset, __mmask16 seen) {
    return _mm512_maskz_mov_ps(seen, power_of_two(_mm512_fmsub_ps(score, factor, offset)));
}

// Turns a head by its angles (rotary embedding, halves paired) and scales it; with direction -1 it turns back.
template <class S>
inline void rotate(const S* from, bf16* to, const float* cosine, const float* sine, int64_t half, float scale,
                   float direction) {
    for (int64_t i = 0; i < half; i += 16) {
        __m512 low = widened(from + i), high = widened(from + half + i);
        __m512 c = _mm512_mul_ps(_mm512_loadu_ps(cosine + i), _mm512_set1_ps(scale));
        __m512 s = _mm512_mul_ps(_mm512_loadu_ps(sine + i), _mm512_set1_ps(scale * direction));
        narrow(to + i, _mm512_fmsub_ps(low, c, _mm512_mul_ps(high, s)));
        narrow(to + half + i, _mm512_fmadd_ps(high, c, _mm512_mul_ps(low, s)));
    }
}

// 32 columns of dim -> 32 rows of dim.
inline void turn(const float* from, float* to, int64_t dim) {
    for (int64_t column = 0; column < SIDE; column += 16)
        for (int64_t d = 0; d < dim; d += 16) {
            __m512i tile[16];
            for (int64_t i = 0; i < 16; ++i) tile[i] = _mm512_load_si512(from + (d + i) * SIDE + column);
            transpose(tile);
            for (int64_t i = 0; i < 16; ++i) _mm512_store_si512(to + (column + i) * dim + d, tile[i]);
        }
}

// Two rows of 16, side by side, one above the other in a square.
inline void put_rows(bf16* to, __m512i two_rows) {
    _mm256_store_si256((__m256i*)to, _mm512_castsi512_si256(two_rows));
    _mm256_store_si256((__m256i*)(to + SIDE), _mm512_extracti64x4_epi64(two_rows, 1));
}

inline void copy(bf16* to, const bf16* from, int64_t count) {
    for (int64_t i = 0; i < count; i += SIDE) _mm512_storeu_si512(to + i, _mm512_loadu_si512(from + i));
}

// ---- Sides of products, from 32 rows of `dim` elements

// A right side that sums over dim.
void pack_across(const bf16* rows, bf16* to, int64_t dim) {
    for (int64_t row = 0; row < SIDE; row += 16)
        for (int64_t d = 0; d < dim; d += SIDE, to += TILE) {
            __m512i tile[16];
            for (int64_t i = 0; i < 16; ++i) tile[i] = _mm512_loadu_si512(rows + (row + i) * dim + d);
            transpose(tile);
            for (int64_t i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * SIDE, tile[i]);
        }
}

// A right side that sums over rows.
void pack_pairs(const bf16* rows, bf16* to, int64_t dim) {
    for (int64_t d = 0; d < dim; d += 16)
        for (int64_t row = 0; row < SIDE; row += 2, to += SIDE) {
            __m256i even = _mm256_loadu_si256((const __m256i*)(rows + row * dim + d));
            __m256i odd = _mm256_loadu_si256((const __m256i*)(rows + (row + 1) * dim + d));
            _mm512_storeu_si512(to, paired(_mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1)));
        }
}

// A left side that sums over rows: [dim, 32].
void pack_turned(const bf16* rows, bf16* to, int64_t dim) {
    for (int64_t d = 0; d < dim; d += SIDE)
        for (int64_t row = 0; row < SIDE; row += 16) {
            __m512i tile[16];
            for (int64_t i = 0; i < 16; ++i) tile[i] = _mm512_loadu_si512(rows + (row + i) * dim + d);
            transpose(tile);
            for (int64_t i = 0; i < 16; ++i) {
                bf16* even = to + (d + 2 * i) * SIDE + row;
                _mm256_storeu_si256((__m256i*)even, _mm512_cvtepi32_epi16(tile[i]));
                _mm256_storeu_si256((__m256i*)(even + SIDE), _mm512_cvtepi32_epi16(_mm512_srli_epi32(tile[i], 16)));
            }
        }
}

}  // namespace
