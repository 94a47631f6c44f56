// Products of ternary weights with activations that are rounded to 8 bits, in exact integers.
//
// Weights stay 0, 1, 2 as they are stored: the instructions ask for one unsigned factor. What the
// plus 1 of each weight adds is the sum of the activations, known once for a token.
#pragma once
#include <cmath>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "ternary_packed.h"

namespace {

// A unit multiplies BYTES weights with as many activations and adds the products to a Sum, which
// holds for STEPS blocks of 4 * BYTES weights before it must be added to Wide, in 32 bits. IN_PLACE
// says that it holds weights where they lie in a byte, too: times 1, 4, 16 or 64. The unit of
// AVX-512 needs its instruction; EMULATE_VNNI computes the same in plain loops, to test it.
#if (defined(__AVX512VNNI__) && defined(__AVX512BW__)) || defined(EMULATE_VNNI)
struct Unit {  // four products an addend, in 32 bits from the start: 4 * 128 * 127 a block at most
  static constexpr int BYTES = 64, STEPS = 1 << 15;
  static constexpr bool IN_PLACE = true;
  typedef uint16_t Bytes __attribute__((vector_size(BYTES)));
  typedef int32_t Wide __attribute__((vector_size(BYTES)));
  using Sum = Wide;

  static void add(Sum& sum, Bytes weights, Bytes x) {
#if defined(EMULATE_VNNI)
    for (int i = 0; i < BYTES; ++i)
      sum[i / 4] += ((const uint8_t*)&weights)[i] * ((const int8_t*)&x)[i];
#else
    sum = (Sum)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, (__m512i)x);
#endif
  }
  static Wide widened(Sum sum) { return sum; }
};
#elif defined(__AVX2__)
struct Unit {  // two products an addend, in 16 bits: 4 * (2 + 2) * 127 a block at most
  static constexpr int BYTES = 32, STEPS = 32767 / (4 * 4 * 127);
  static constexpr bool IN_PLACE = false;
  typedef uint16_t Bytes __attribute__((vector_size(BYTES)));
  typedef int32_t Wide __attribute__((vector_size(BYTES)));
  typedef int16_t Sum __attribute__((vector_size(BYTES)));

  static void add(Sum& sum, Bytes weights, Bytes x) {
    // Kept: else the compiler makes more products before the first sum than it has registers for.
    sum = keep(sum + (Sum)_mm256_maddubs_epi16((__m256i)weights, (__m256i)x));
  }
  static Wide widened(Sum sum) {
    return (Wide)_mm256_madd_epi16((__m256i)sum, _mm256_set1_epi16(1));
  }
};
#else
struct Unit {  // what any processor has: products of 16 bits, 4 * 2 * 127 a block at most
  static constexpr int BYTES = 32, STEPS = 32767 / (4 * 2 * 127);
  static constexpr bool IN_PLACE = false;
  typedef uint16_t Bytes __attribute__((vector_size(BYTES)));
  typedef int16_t Sum __attribute__((vector_size(2 * BYTES)));
  typedef int32_t Wide __attribute__((vector_size(4 * BYTES)));

  static void add(Sum& sum, Bytes weights, Bytes x) {
    typedef uint8_t Unsigned __attribute__((vector_size(BYTES)));
    typedef int8_t Signed __attribute__((vector_size(BYTES)));
    const Sum of = __builtin_convertvector((Signed)x, Sum);
    sum += of * __builtin_convertvector((Unsigned)weights, Sum);
  }
  static Wide widened(Sum sum) { return __builtin_convertvector(sum, Wide); }
};
#endif
constexpr int BLOCK = PLANES * Unit::BYTES;          // weights that are unpacked at once
constexpr int BLOCK_RUNS = Unit::BYTES / RUN_BYTES;  // from one run, or from two

// Packed weights of a block; those that are not there become zeros.
template <int BYTES = Unit::BYTES> inline Unit::Bytes load_packed(const uint8_t* from) {
  Unit::Bytes x = {};
  std::memcpy(&x, from, BYTES);
  return x;
}

// A token's activations as integers, with what turns its sums into results.
template <class Real> struct Token {
  Real factor;  // integers a unit of x
  int32_t sum;
};

// Tokens go in pieces of 8, the rest in pieces of 4, 2 and 1. A piece lies together, block after
// block of all its tokens, so that one address leads through it.
constexpr int TOKENS = 8;  // as many sums as leave registers for a block of weights
struct Piece {
  int64_t first;
  int tokens;
};
inline Piece piece_of(int64_t m, int64_t rows) {
  Piece piece{m / TOKENS * TOKENS, TOKENS};
  while (piece.first + piece.tokens > rows || piece.first + piece.tokens <= m)
    if (piece.first + piece.tokens > rows)
      piece.tokens /= 2;
    else
      piece.first += piece.tokens;
  return piece;
}

// to = round(factor * x), with factor = 127 / max |x|; plane after plane, as a block of weights is
// unpacked, with `next` bytes from block to block. The factor is infinite for a row of zeros, and
// NaN for one with NaN or infinity; their results are zeros and NaN whatever the integers, here 0.
template <class Real>
Token<Real> quantize(const Real* x, int64_t padded, int8_t* to, int64_t next) {
  using I = Int<Real>;
  I largest = 0;  // magnitudes compare as their bits do
  for (int64_t k = 0; k < padded; ++k) {
    I bits;
    std::memcpy(&bits, x + k, sizeof bits);
    bits &= std::numeric_limits<I>::max();
    largest = bits > largest ? bits : largest;
  }
  Real magnitude;
  std::memcpy(&magnitude, &largest, sizeof magnitude);
  const Real most = std::numeric_limits<Real>::max();
  const Real factor =
      magnitude <= most ? 127 / magnitude : std::numeric_limits<Real>::quiet_NaN();
  const bool any = factor <= most;
  int32_t sum = 0;
  for (int64_t k = 0; k < padded; k += PLANE) {
    const int64_t run = k / RUN % BLOCK_RUNS, plane = k / PLANE % PLANES;
    int8_t* q = to + k / BLOCK * next + plane * Unit::BYTES + run * RUN_BYTES;
    if (any) {
      int32_t integers[PLANE];
#pragma omp simd reduction(+ : sum)
      for (int i = 0; i < PLANE; ++i) {
        integers[i] = (int32_t)std::rint(factor * x[k + i]);
        sum += integers[i];
      }
#pragma omp simd
      for (int i = 0; i < PLANE; ++i) q[i] = (int8_t)integers[i];
    } else {
      std::memset(q, 0, PLANE);
    }
  }
  return {factor, sum};
}

// The sums of WORDS vectors, each over its lanes.
template <int S> inline void fold(Words (&rows)[WORDS]) {
#pragma GCC unroll 8
  for (int i = 0; i < S; ++i) {
    exchange<S>(rows[i], rows[i + S], std::make_integer_sequence<int, WORDS>());
    rows[i] += rows[i + S];
  }
  if constexpr (S > 1) fold<S / 2>(rows);
}
inline void totals(const Unit::Wide* wide, int32_t* to) {
  Words rows[WORDS] = {};
  for (int i = 0; i < WORDS; ++i)
    for (size_t part = 0; part < sizeof *wide / sizeof(Words); ++part) {
      Words some;
      std::memcpy(&some, (const Words*)(wide + i) + part, sizeof some);
      rows[i] += some;
    }
  fold<WORDS / 2>(rows);
  std::memcpy(to, &rows[0], sizeof rows[0]);
}

// Adds a block of a row of the weight times a piece of M tokens. Few tokens have a sum a plane: one
// would wait for its last addition, and with one a plane, weights may stay in place.
template <int M> struct Sums {
  static constexpr bool APART = Unit::IN_PLACE && M <= 4;
  static constexpr int EACH = APART ? PLANES : 1;
  Unit::Sum sum[M][EACH] = {};

  void add(Unit::Bytes stored, const int8_t* x) {
#pragma GCC unroll 4
    for (int p = 0; p < PLANES; ++p) {
      const Unit::Bytes weights =
          APART ? stored & (uint16_t)(0x0303 << 2 * p) : stored >> (2 * p) & 0x0303;
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        Unit::Bytes with;  // its load is part of the instruction that multiplies
        std::memcpy(&with, x + m * BLOCK + p * Unit::BYTES, sizeof with);
        Unit::add(sum[m][p % EACH], weights, with);
      }
    }
  }
  Unit::Wide widened(int m) const {
    Unit::Wide wide = {};
#pragma GCC unroll 4
    for (int p = 0; p < EACH; ++p) wide += Unit::widened(sum[m][p]) >> (2 * p);
    return wide;
  }
};

// Sums of WORDS rows of the weight, or the first `rows` of them, and a piece of M tokens: a row of
// sums a token. Some rows of the weight at once share the loads of activations.
template <int M>
void multiply_integers(const uint8_t* packed, int64_t packed_row, int rows, const int8_t* x,
                       int64_t blocks, int32_t* sums, int64_t sums_row) {
  constexpr int R = Sums<M>::APART && M == 1 ? 4 : 1;
  Unit::Wide wide[M][WORDS] = {};
  const int64_t whole = packed_row / Unit::BYTES;
  for (int n = 0; n < rows; n += R) {
    const uint8_t* row[R];
    for (int r = 0; r < R; ++r) row[r] = packed + std::min(n + r, rows - 1) * packed_row;
    for (int64_t from = 0; from < blocks; from += Unit::STEPS) {
      Sums<M> some[R];
      const int64_t to = std::min<int64_t>(from + Unit::STEPS, whole);
      for (int64_t block = from; block < to; ++block)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const uint8_t* stored = row[r] + block * Unit::BYTES;
          __builtin_prefetch(stored + AHEAD);
          some[r].add(load_packed(stored), x + block * M * BLOCK);
        }
      if (whole < blocks && blocks <= from + Unit::STEPS)
        for (int r = 0; r < R; ++r)
          some[r].add(load_packed<RUN_BYTES>(row[r] + whole * Unit::BYTES), x + whole * M * BLOCK);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) wide[m][n + r] += some[r].widened(m);
    }
  }
  for (int m = 0; m < M; ++m) totals(wide[m], sums + m * sums_row);
}

template <class Real> void linear_int8(const Problem& p) {
  const int64_t padded = round_up(p.columns, BLOCK);
  Space<int8_t> space;
  int8_t* x = space.get(p.rows * padded);
  std::unique_ptr<Token<Real>[]> tokens(new Token<Real>[p.rows]);
#pragma omp parallel num_threads(p.threads) if (p.threads > 1 && p.tiles() > 1)
  {
    Space<Real> row;
    Real* values = row.get(padded);
#pragma omp for schedule(static)
    for (int64_t m = 0; m < p.rows; ++m) {
      p.read_row(m, values, p.columns, padded);
      const Piece piece = piece_of(m, p.rows);
      int8_t* to = x + piece.first * padded + (m - piece.first) * BLOCK;
      tokens[m] = quantize(values, padded, to, (int64_t)piece.tokens * BLOCK);
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t tile = 0; tile < p.tiles(); ++tile) {
      const int64_t packed_row = p.runs() * RUN_BYTES, blocks = padded / BLOCK;
      const int rows = p.tile_rows(tile);
      const float* scale = p.scale + tile * TILE;
      int32_t sums[TOKENS * TILE];
      for (int64_t m = 0, size; m < p.rows; m += size) {
        size = piece_of(m, p.rows).tokens;
        const auto multiply = size == 8   ? multiply_integers<8>
                              : size == 4 ? multiply_integers<4>
                              : size == 2 ? multiply_integers<2>
                                          : multiply_integers<1>;
        for (int n = 0; n < rows; n += WORDS)
          multiply(p.packed_row(tile * TILE + n), packed_row, std::min(WORDS, rows - n),
                   x + m * padded, blocks, sums + n, TILE);
        for (int i = 0; i < size; ++i) {
          const Token<Real>& token = tokens[m + i];
          Real results[TILE];
          for (int n = 0; n < rows; ++n)
            results[n] = (Real)(sums[i * TILE + n] - token.sum) * ((Real)scale[n] / token.factor);
          p.write_tile(m + i, tile, results);
        }
      }
    }
  }
}

}  // namespace
