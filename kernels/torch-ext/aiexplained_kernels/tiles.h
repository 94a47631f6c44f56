// Products of bfloat16 in the matrix unit (AMX): tiles of 16 rows by 64 bytes.
//
// The unit multiplies pairs: a left operand is [M][K] as it lies in memory, a right operand is
// [K / 2][N][2], two rows interleaved. Included by matmul.h.
#pragma once

#ifdef EMULATE_TILES
static thread_local uint8_t emulated[8][16][64];
#define TILE_LOAD(t, from, row_bytes) \
  for (int r = 0; r < 16; ++r) std::memcpy(emulated[t][r], (const char*)(from) + r * (row_bytes), 64)
#define TILE_STORE(t, to, row_bytes) \
  for (int r = 0; r < 16; ++r) std::memcpy((char*)(to) + r * (row_bytes), emulated[t][r], 64)
#define TILE_ZERO(t) std::memset(emulated[t], 0, sizeof emulated[t])
#define TILE_DOT(c, a, b) emulated_dot(emulated[c], emulated[a], emulated[b])
inline void emulated_dot(uint8_t (*c)[64], uint8_t (*a)[64], uint8_t (*b)[64]) {
  const auto value = [](const uint8_t* row, int i) {
    uint32_t bits = 0;
    std::memcpy((uint8_t*)&bits + 2, row + 2 * i, 2);
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
  };
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) {
      float sum;
      std::memcpy(&sum, c[i] + 4 * j, 4);
      for (int k = 0; k < 32; ++k) sum += value(a[i], k) * value(b[k / 2], 2 * j + k % 2);
      std::memcpy(c[i] + 4 * j, &sum, 4);
    }
}
#else
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define TILE_LOAD(t, from, row_bytes) _tile_loadd(t, from, row_bytes)
#define TILE_STORE(t, to, row_bytes) _tile_stored(t, to, row_bytes)
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_DOT(c, a, b) _tile_dpbf16ps(c, a, b)
#endif

struct Tiles {
  using Real = float;
  using Value = uint16_t;
  static constexpr int COLUMNS = 32;

  // Ask the system for the unit and set the shape of this thread's tiles; false if it refuses.
  static bool begin() {
#ifndef EMULATE_TILES
    constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)) return false;
    struct alignas(64) Shape {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    // Static: GCC 12 believes that 8 bytes of it are read, and would not write the rest.
    static constexpr Shape shape;
    _tile_loadconfig(&shape);
#endif
    return true;
  }
  static void end() {
#ifndef EMULATE_TILES
    _tile_release();
#endif
  }

  static const Value* right_of_columns(const Value* columns, int k, int n, Value* space) {
    transpose_words(columns, k / 2, space, n, n, k / 2);
    return space;
  }
  static const Value* right_of_rows(const Value* rows, int k, int n, Value* space) {
    interleave(rows, n, k, n, space);
    return space;
  }
  static Left<Value> left(const Value* rows, int64_t row) { return {rows, row, false}; }
  // The transposed of 64 rows of n values; space for twice as much.
  static Left<Value> left_transposed(const Value* rows, int64_t row, int n, Value* space) {
    interleave(rows, row, 64, n, space + 64 * n);
    transpose_words(space + 64 * n, n, space, 32, 32, n);
    return {space, 64, false};
  }
  // A result [64][n] becomes an operand while it is stored: as a left one in rows, as a right one
  // two rows at a time.
  static constexpr bool ONE_FORM = false;
  static Value* form_of_result(Real*, Value* space) { return space; }
  static void store_left(Value* to, Lanes<Real> x) {
    const auto half = __builtin_convertvector(rounded(x) >> 16, Halves);
    std::memcpy(to, &half, sizeof half);
  }
  static void store_right(Value* to, int, Lanes<Real> even, Lanes<Real> odd) {
    const Words pair = rounded(even) >> 16 | (rounded(odd) & 0xffff0000u);
    std::memcpy(to, &pair, sizeof pair);
  }

  template <bool ADD>
  static void multiply(int m, int n, int k, Left<Value> a, const Value* b, Real* c, int64_t c_row) {
    for (int i = 0; i < m; i += 32)
      for (int j = 0; j < n; j += 32) {
        Real *upper = c + i * c_row + j, *lower = upper + 16 * c_row;
        if (ADD) {
          TILE_LOAD(0, upper, c_row * 4);
          TILE_LOAD(1, upper + 16, c_row * 4);
          TILE_LOAD(2, lower, c_row * 4);
          TILE_LOAD(3, lower + 16, c_row * 4);
        } else {
          TILE_ZERO(0);
          TILE_ZERO(1);
          TILE_ZERO(2);
          TILE_ZERO(3);
        }
        for (int x = 0; x < k; x += 32) {
          TILE_LOAD(4, a.data + i * a.row + x, a.row * 2);
          TILE_LOAD(6, b + x * n + 2 * j, n * 4);
          TILE_DOT(0, 4, 6);
          TILE_LOAD(7, b + x * n + 2 * j + 32, n * 4);
          TILE_DOT(1, 4, 7);
          TILE_LOAD(5, a.data + (i + 16) * a.row + x, a.row * 2);
          TILE_DOT(2, 5, 6);
          TILE_DOT(3, 5, 7);
        }
        TILE_STORE(0, upper, c_row * 4);
        TILE_STORE(1, upper + 16, c_row * 4);
        TILE_STORE(2, lower, c_row * 4);
        TILE_STORE(3, lower + 16, c_row * 4);
      }
  }

 private:
  typedef uint16_t Halves __attribute__((vector_size(VECTOR_BYTES / 2)));

  // The bits of x, the upper half rounded to the nearest bfloat16; a NaN stays one.
  static Words rounded(Lanes<Real> x) {
    return x == x ? (Words)x + 0x8000u : (Words)x | 0x400000u;
  }

  // Rows 2r and 2r + 1 side by side: [k][n] to [k / 2][n][2].
  static void interleave(const Value* rows, int64_t row, int k, int n, Value* space) {
    for (int r = 0; r < k / 2; ++r) {
      const Value *even = rows + 2 * r * row, *odd = even + row;
      uint32_t* to = (uint32_t*)space + r * n;
#pragma omp simd
      for (int j = 0; j < n; ++j) to[j] = even[j] | (uint32_t)odd[j] << 16;
    }
  }
};
