// Small matrix products on one core: blocks of 64 that lie in its caches.
//
// A product is C[M][N] (+)= left[M][K] right[K][N], with every size a multiple of 32. Two policies
// share one interface: Plain<Real> computes in float or double with whatever vectors the compiler
// targets, Tiles in bfloat16 with the matrix unit of recent Intel processors (AMX). Each says how
// rows in memory become its operands, so that what is built on them reads the same.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

// Tiles need the processor's unit; EMULATE_TILES computes the same in plain loops, to test them.
#if (defined(__AMX_BF16__) && defined(__AVX512F__) && defined(__linux__)) || defined(EMULATE_TILES)
#define HAVE_TILES 1
#endif

template <class Real> struct Vector;
template <> struct Vector<float> {
  typedef float Lanes __attribute__((vector_size(VECTOR_BYTES)));
  typedef int32_t Index __attribute__((vector_size(VECTOR_BYTES)));
  typedef float Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
  typedef int32_t Int;
};
template <> struct Vector<double> {
  typedef double Lanes __attribute__((vector_size(VECTOR_BYTES)));
  typedef int64_t Index __attribute__((vector_size(VECTOR_BYTES)));
  typedef double Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
  typedef int64_t Int;
};
template <class Real> using Lanes = typename Vector<Real>::Lanes;
template <class Real> using Index = typename Vector<Real>::Index;
template <class Real> using Int = typename Vector<Real>::Int;
template <class Real> constexpr int LANES = VECTOR_BYTES / sizeof(Real);

template <class Real> inline Lanes<Real> load(const Real* from) {
  return *reinterpret_cast<const typename Vector<Real>::Unaligned*>(from);
}
// In a register: else the compiler may load it again for each use.
template <class Lanes> inline Lanes keep(Lanes x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#elif defined(__x86_64__)
  asm("" : "+x"(x));
#endif
  return x;
}
template <class Real> inline void store(Real* to, Lanes<Real> x) {
  *reinterpret_cast<typename Vector<Real>::Unaligned*>(to) = x;
}
template <class Real> inline Index<Real> load_index(const Int<Real>* from) {
  Index<Real> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

// 2^x, zero below the normal range. In float within 2 ulp: 2^x = 2^n 2^f with n = round(x), and a
// polynomial of degree 6 for |f| <= 1/2 (relative error 2e-9). Adding 1.5 * 2^23 rounds x and
// leaves n in the low bits.
inline Lanes<float> exp2_lanes(Lanes<float> x) {
  const Lanes<float> round = x + 12582912.0f;
  const Lanes<float> f = x - (round - 12582912.0f);
  Lanes<float> p = f * 1.53533614e-4f + 1.33988746e-3f;
  p = p * f + 9.61843736e-3f;
  p = p * f + 5.55033247e-2f;
  p = p * f + 2.40226479e-1f;
  p = p * f + 6.93147203e-1f;
  p = p * f + 1.0f;
  const Index<float> scaled = (Index<float>)p + ((Index<float>)round << 23);
  const Lanes<float> power = x < -126.0f ? Lanes<float>{} : (Lanes<float>)scaled;
  return x == x ? power : x;  // a NaN stays one
}
inline Lanes<double> exp2_lanes(Lanes<double> x) {
  for (int i = 0; i < LANES<double>; ++i) x[i] = std::exp2(x[i]);
  return x;
}

typedef int64_t Longs __attribute__((vector_size(VECTOR_BYTES)));
template <class Mask> inline bool any(Mask mask) {
  int64_t found = 0;
  for (int i = 0; i < VECTOR_BYTES / 8; ++i) found |= ((Longs)mask)[i];
  return found;
}

// A matrix of 32-bit elements, transposed in square blocks of one vector: rows and columns are
// multiples of it. Stage S exchanges, between rows i and i + S, the lanes whose bit S differs.
typedef uint32_t Words __attribute__((vector_size(VECTOR_BYTES)));
constexpr int WORDS = VECTOR_BYTES / 4;

template <int S, int... I>
inline void exchange(Words& a, Words& b, std::integer_sequence<int, I...>) {
  const Words low = __builtin_shufflevector(a, b, (I & S ? WORDS + I - S : I)...);
  b = __builtin_shufflevector(a, b, (I & S ? WORDS + I : I + S)...);
  a = low;
}
template <int S> inline void exchange_rows(Words (&rows)[WORDS]) {
#pragma GCC unroll 16
  for (int i = 0; i < WORDS; ++i)
    if (!(i & S)) exchange<S>(rows[i], rows[i | S], std::make_integer_sequence<int, WORDS>());
  if constexpr (S > 1) exchange_rows<S / 2>(rows);
}
inline void transpose_words(const void* from, int64_t from_row, void* to, int64_t to_row, int rows,
                            int columns) {
  for (int i = 0; i < rows; i += WORDS)
    for (int j = 0; j < columns; j += WORDS) {
      Words block[WORDS];
      for (int r = 0; r < WORDS; ++r)
        std::memcpy(&block[r], (const uint32_t*)from + (i + r) * from_row + j, VECTOR_BYTES);
      exchange_rows<WORDS / 2>(block);
      for (int r = 0; r < WORDS; ++r)
        std::memcpy((uint32_t*)to + (j + r) * to_row + i, &block[r], VECTOR_BYTES);
    }
}
inline void transpose(const float* from, int64_t from_row, float* to, int64_t to_row, int rows,
                      int columns) {
  transpose_words(from, from_row, to, to_row, rows, columns);
}
inline void transpose(const double* from, int64_t from_row, double* to, int64_t to_row, int rows,
                      int columns) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) to[j * to_row + i] = from[i * from_row + j];
}

template <class Value> struct Left {
  const Value* data;
  int64_t row;
  bool transposed;
};

template <class Float> struct Plain {
  using Real = Float;
  using Value = Float;
  static constexpr int COLUMNS = LANES<Real>;  // right operands are padded to a multiple

  static bool begin() { return true; }
  static void end() {}

  // The right operand [k][n] whose columns, or whose rows, lie in memory one after another.
  static const Value* right_of_columns(const Value* columns, int k, int n, Value* space) {
    transpose(columns, k, space, n, n, k);
    return space;
  }
  static const Value* right_of_rows(const Value* rows, int, int, Value*) { return rows; }
  static Left<Value> left(const Value* rows, int64_t row) { return {rows, row, false}; }
  static Left<Value> left_transposed(const Value* rows, int64_t row, int, Value*) {
    return {rows, row, true};
  }
  // A result [64][n] that becomes an operand, left or right, is one as it is.
  static constexpr bool ONE_FORM = true;
  static Value* form_of_result(Real* result, Value*) { return result; }
  static void store_left(Value* to, Lanes<Real> x) { store<Real>(to, x); }
  static void store_right(Value* to, int n, Lanes<Real> even, Lanes<Real> odd) {
    store<Real>(to, even);
    store<Real>(to + n, odd);
  }

  template <bool ADD>
  static void multiply(int m, int n, int k, Left<Value> a, const Value* b, Real* c, int64_t c_row) {
    a.transposed ? panels<true, ADD>(m, n, k, a.data, a.row, b, c, c_row)
                 : panels<false, ADD>(m, n, k, a.data, a.row, b, c, c_row);
  }

 private:
  // Enough sums in flight to hide the latency of a fused multiply-add, few enough for registers.
  static constexpr int ROWS = VECTOR_BYTES == 64 ? 8 : 4;

  template <bool TRANSPOSED, bool ADD>
  static void panels(int m, int n, int k, const Real* a, int64_t a_row, const Real* b, Real* c,
                     int64_t c_row) {
    constexpr int L = LANES<Real>;
    int j = 0;
    for (; j + 2 * L <= n; j += 2 * L)
      for (int i = 0; i < m; i += ROWS)
        micro<ROWS, 2, TRANSPOSED, ADD>(k, TRANSPOSED ? a + i : a + i * a_row, a_row, b + j, n,
                                        c + i * c_row + j, c_row);
    if (j < n)
      for (int i = 0; i < m; i += 8)
        micro<8, 1, TRANSPOSED, ADD>(k, TRANSPOSED ? a + i : a + i * a_row, a_row, b + j, n,
                                     c + i * c_row + j, c_row);
  }

  // A function of its own, so that all its addresses have registers.
  template <int M, int N, bool TRANSPOSED, bool ADD>
  __attribute__((noinline)) static void micro(int k, const Real* a, int64_t a_row, const Real* b, int64_t b_row, Real* c,
                    int64_t c_row) {
    constexpr int L = LANES<Real>;
    Lanes<Real> sum[M][N] = {};
    for (int x = 0; x < k; ++x) {
      Lanes<Real> right[N];
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) right[j] = keep(load(b + x * b_row + j * L));
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        const Real left = TRANSPOSED ? a[x * a_row + i] : a[i * a_row + x];
#pragma GCC unroll 2
        for (int j = 0; j < N; ++j) sum[i][j] += left * right[j];
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) {
        Real* to = c + i * c_row + j * L;
        store<Real>(to, ADD ? load(to) + sum[i][j] : sum[i][j]);
      }
  }
};

#ifdef HAVE_TILES
#include "tiles.h"
#endif
