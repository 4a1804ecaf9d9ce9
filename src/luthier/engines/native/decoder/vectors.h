// Sixteen floats at a time, on whatever the processor has, and the number formats of weights and of the KV cache.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__F16C__)
#include <immintrin.h>
#endif

constexpr int LANES = 16;

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));

struct bf16 {
    uint16_t bits;
};

struct f16 {
    uint16_t bits;
};

inline f32x16 load16(const float* p) {
    f32x16 v;
    std::memcpy(&v, p, 64);
    return v;
}

inline f32x16 load16(const bf16* p) {
    u16x16 narrow;
    std::memcpy(&narrow, p, 32);
    u32x16 wide = __builtin_convertvector(narrow, u32x16) << 16;
    f32x16 v;
    std::memcpy(&v, &wide, 64);
    return v;
}

inline float widen(f16 h) {
#if defined(__F16C__)
    return _cvtsh_ss(h.bits);
#else
    uint32_t sign = uint32_t(h.bits & 0x8000u) << 16, exponent = (h.bits >> 10) & 31u, fraction = h.bits & 1023u;
    float value;
    if (exponent == 0) {
        value = std::ldexp(float(fraction), -24);
        return sign ? -value : value;
    }
    uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (fraction << 13);
    std::memcpy(&value, &bits, 4);
    return value;
#endif
}

// To nearest, ties to even; beyond the format's range its largest number, so that the cache holds no infinity.
inline f16 narrow(float value) {
    value = value > 65504.0f ? 65504.0f : value < -65504.0f ? -65504.0f : value;
#if defined(__F16C__)
    return {uint16_t(_cvtss_sh(value, 0))};
#else
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    uint16_t sign = uint16_t((bits >> 16) & 0x8000u);
    float magnitude = std::fabs(value);
    if (magnitude < 6.103515625e-05f) return {uint16_t(sign | uint16_t(std::nearbyint(magnitude * 16777216.0f)))};
    bits &= 0x7fffffffu;
    bits += 0xfffu + ((bits >> 13) & 1u);
    return {uint16_t(sign | ((bits >> 13) - (112u << 10)))};
#endif
}

inline f32x16 load16(const f16* p) {
#if defined(__AVX512F__)
    __m256i half;
    std::memcpy(&half, p, 32);
    return (f32x16)_mm512_cvtph_ps(half);
#elif defined(__F16C__)
    __m128i low, high;
    std::memcpy(&low, p, 16);
    std::memcpy(&high, p + 8, 16);
    __m256 parts[2] = {_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)};
    f32x16 v;
    std::memcpy(&v, parts, 64);
    return v;
#else
    f32x16 v;
    for (int i = 0; i < LANES; i++) v[i] = widen(p[i]);
    return v;
#endif
}

inline void store16(float* p, f32x16 v) { std::memcpy(p, &v, 64); }

inline f32x16 all16(float value) { return f32x16{} + value; }

inline f32x16 max16(f32x16 a, f32x16 b) { return a > b ? a : b; }

// Always added up in the same order: a sum has the same bits whoever asks.
inline float sum16(f32x16 v) {
    float t[LANES];
    std::memcpy(t, &v, 64);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) t[i] += t[i + width];
    return t[0];
}

inline float largest16(f32x16 v) {
    float t[LANES];
    std::memcpy(t, &v, 64);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) t[i] = t[i] > t[i + width] ? t[i] : t[i + width];
    return t[0];
}

// e^x with an error of about one unit in the last place: x = n ln 2 + r, and a polynomial for e^r (Cephes, expf).
// Below -87 the result is 0, above 88 it is e^88.
inline f32x16 exp16(f32x16 x) {
    const f32x16 low = all16(-87.0f), high = all16(88.0f);
    i32x16 vanishes = x < low;
    x = x < low ? low : x;
    x = x > high ? high : x;
    f32x16 n = x * 1.44269504088896341f;
    i32x16 whole = __builtin_convertvector(n + (n < 0.0f ? all16(-0.5f) : all16(0.5f)), i32x16);
    n = __builtin_convertvector(whole, f32x16);
    f32x16 r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    f32x16 y = all16(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    i32x16 power = (whole + 127) << 23;
    f32x16 scale;
    std::memcpy(&scale, &power, 64);
    y = y * scale;
    return vanishes ? all16(0.0f) : y;
}
