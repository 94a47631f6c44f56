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
// holds for STEPS blocks of 4 * BYTES weights before it must be added to Wide, in 32 bits. The unit
// of AVX-512 needs its instruction; EMULATE_VNNI computes the same in plain loops, to test it.
#if (defined(__AVX512VNNI__) && defined(__AVX512BW__)) || defined(EMULATE_VNNI)
struct Unit {  // four products an addend, in 32 bits from the start
  static constexpr int BYTES = 64, STEPS = 1 << 20;
  typedef uint16_t Bytes __attribute__((vector_size(BYTES)));
  typedef int32_t Wide __attribute__((vector_size(BYTES)));
  using Sum = Wide;

  // `left` bytes of the row remain; weights that are not there become zeros.
  static Bytes load_packed(const uint8_t* from, int64_t left) {
    Bytes x = {};
#if defined(EMULATE_VNNI)
    std::memcpy(&x, from, std::min<int64_t>(left, BYTES));
#else
    x = (Bytes)_mm512_maskz_loadu_epi8(left < BYTES ? ~0ull >> (BYTES - left) : ~0ull, from);
#endif
    return x;
  }
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
  typedef uint16_t Bytes __attribute__((vector_size(BYTES)));
  typedef int32_t Wide __attribute__((vector_size(BYTES)));
  typedef int16_t Sum __attribute__((vector_size(BYTES)));

  static Bytes load_packed(const uint8_t* from, int64_t) {
    return (Bytes)_mm256_loadu_si256((const __m256i*)from);
  }
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
  typedef uint16_t Bytes __attribute__((vector_size(BYTES)));
  typedef int16_t Sum __attribute__((vector_size(2 * BYTES)));
  typedef int32_t Wide __attribute__((vector_size(4 * BYTES)));

  static Bytes load_packed(const uint8_t* from, int64_t) {
    Bytes x;
    std::memcpy(&x, from, BYTES);
    return x;
  }
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
// unpacked, with `next` bytes from block to block. The factor is infinite for a row of zeros, whose
// integers are zeros all the same, and NaN for one with NaN or infinity.
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
  const Real none = std::numeric_limits<Real>::quiet_NaN();
  const Real factor = magnitude <= std::numeric_limits<Real>::max() ? 127 / magnitude : none;
  int32_t sum = 0;
  for (int64_t k = 0; k < padded; k += PLANE) {
    const int64_t run = k / RUN % BLOCK_RUNS, plane = k / PLANE % PLANES;
    int8_t* q = to + k / BLOCK * next + plane * Unit::BYTES + run * RUN_BYTES;
    for (int i = 0; i < PLANE; ++i) {
      Real value = std::rint(factor * x[k + i]);
      value = value == value ? value : 0;  // zero times infinity
      q[i] = (int8_t)std::min<Real>(std::max<Real>(value, -127), 127);
      sum += q[i];
    }
  }
  return {factor, sum};
}

inline int32_t total(Unit::Wide wide) {
  typedef int32_t Quarter __attribute__((vector_size(16)));
  Quarter parts[sizeof wide / sizeof(Quarter)], sum = {};
  std::memcpy(parts, &wide, sizeof wide);
  for (const Quarter& part : parts) sum += part;
  return sum[0] + sum[1] + (sum[2] + sum[3]);
}

// Sums of one row of the weight and a piece of M tokens: sums[m * TILE]. The tokens share the work
// of unpacking; the load of activations is part of the instruction that multiplies.
template <int M>
void multiply_integers(const uint8_t* packed, int64_t packed_row, const int8_t* x, int64_t blocks,
                       int32_t* sums) {
  Unit::Wide wide[M] = {};
  for (int64_t from = 0; from < blocks; from += Unit::STEPS) {
    const int64_t to = std::min<int64_t>(from + Unit::STEPS, blocks);
    Unit::Sum sum[M] = {};
    for (int64_t block = from; block < to; ++block) {
      const int64_t at = block * Unit::BYTES;
      const Unit::Bytes stored = Unit::load_packed(packed + at, packed_row - at);
#pragma GCC unroll 4
      for (int p = 0; p < PLANES; ++p) {
        const Unit::Bytes weights = stored >> (2 * p) & 0x0303;
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
          Unit::Bytes with;
          std::memcpy(&with, x + (block * M + m) * BLOCK + p * Unit::BYTES, sizeof with);
          Unit::add(sum[m], weights, with);
        }
      }
    }
    for (int m = 0; m < M; ++m) wide[m] += Unit::widened(sum[m]);
  }
  for (int m = 0; m < M; ++m) sums[m * TILE] = total(wide[m]);
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
        for (int n = 0; n < rows; ++n)
          multiply(p.packed_row(tile * TILE + n), packed_row, x + m * padded, blocks, sums + n);
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
