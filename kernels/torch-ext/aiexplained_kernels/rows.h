// Rows of tensors in their types, and as the arithmetic needs them.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>

enum Type : int64_t { FLOAT, BFLOAT16, HALF, DOUBLE };

inline float half_to_float(uint16_t h) {
  const uint32_t magnitude = (h & 0x7fffu) << 13, sign = (uint32_t)(h & 0x8000u) << 16;
  float x;
  std::memcpy(&x, &magnitude, 4);
  x *= 0x1p112f;  // the exponent's bias; subnormals come out right
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : bits;
  bits |= sign;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline uint16_t float_to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint16_t sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  std::memcpy(&x, &bits, 4);
  if (bits > 0x7f800000u) return sign | 0x7e00u;
  if (x >= 65520.0f) return sign | 0x7c00u;
  if (x < 0x1p-14f) {  // subnormal: the addition rounds at the last place of a half
    x += 0.5f;
    std::memcpy(&bits, &x, 4);
    return sign | (bits - 0x3f000000u);
  }
  return sign | ((bits - 0x38000000u + 0xfffu + (bits >> 13 & 1)) >> 13);
}
inline float bfloat16_to_float(uint16_t b) {
  const uint32_t bits = (uint32_t)b << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline uint16_t float_to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) return 0x7fc0;
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

template <class Real> void read(Real* to, const char* from, int64_t type, int n) {
  const auto* half = (const uint16_t*)from;
  if (type == FLOAT)
    for (int i = 0; i < n; ++i) to[i] = ((const float*)from)[i];
  else if (type == DOUBLE)
    for (int i = 0; i < n; ++i) to[i] = ((const double*)from)[i];
  else if (type == BFLOAT16)
    for (int i = 0; i < n; ++i) to[i] = bfloat16_to_float(half[i]);
  else
    for (int i = 0; i < n; ++i) to[i] = half_to_float(half[i]);
}
inline void read(uint16_t* to, const char* from, int64_t, int n) { std::memcpy(to, from, 2 * n); }

template <class Real> void write(char* to, const Real* from, int64_t type, int n, Real factor) {
  auto* half = (uint16_t*)to;
  if (type == FLOAT)
    for (int i = 0; i < n; ++i) ((float*)to)[i] = from[i] * factor;
  else if (type == DOUBLE)
    for (int i = 0; i < n; ++i) ((double*)to)[i] = from[i] * factor;
  else if (type == BFLOAT16)
    for (int i = 0; i < n; ++i) half[i] = float_to_bfloat16(from[i] * factor);
  else
    for (int i = 0; i < n; ++i) half[i] = float_to_half(from[i] * factor);
}

template <class T> class Space {  // 64-byte aligned, grown when a task needs more
 public:
  T* get(int64_t n) {
    if (n > size) {
      bytes.reset(new char[n * sizeof(T) + 64]);
      size = n;
    }
    return (T*)(((uintptr_t)bytes.get() + 63) / 64 * 64);
  }

 private:
  std::unique_ptr<char[]> bytes;
  int64_t size = 0;
};

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
