// What a number of a tensor is to the kernels: bfloat16 or float32 in memory, float32 in every computation.

#pragma once

#include <cstdint>
#include <cstring>

struct bf16 {
    uint16_t bits;
};

inline float load(const bf16* p) {
    uint32_t wide = uint32_t(p->bits) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value;
}

inline float load(const float* p) { return *p; }

inline void store(bf16* p, float value) {
    uint32_t wide;
    std::memcpy(&wide, &value, 4);
    uint32_t rounded = (wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16;  // to nearest, ties to even
    p->bits = uint16_t(value != value ? 0x7fc0u : rounded);
}

inline void store(float* p, float value) { *p = value; }
