// Products of ternary weights with activations in 8 bits for many tokens, in the matrix unit (AMX).
//
// A step of the unit multiplies 16 rows of 64 weights with 64 integers of 16 tokens. Weights become
// bytes in the core's first cache, few blocks of 32 rows at a time (more would push out what else
// is needed there), and every token meets them; the integers lie as the unit takes them, four of a
// token side by side, 16 tokens in a row.
#pragma once
#include "ternary_int8.h"

#if defined(HAVE_TILES) && (defined(__AMX_INT8__) || defined(EMULATE_TILES))
#define HAVE_BYTE_TILES 1

#ifdef EMULATE_TILES
#define TILE_DOT_BYTES(c, a, b) emulated_dot_bytes(emulated[c], emulated[a], emulated[b])
inline void emulated_dot_bytes(uint8_t (*c)[64], uint8_t (*a)[64], uint8_t (*b)[64]) {
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) {
      int32_t sum;
      std::memcpy(&sum, c[i] + 4 * j, 4);
      for (int k = 0; k < 64; ++k) sum += a[i][k] * (int8_t)b[k / 4][4 * j + k % 4];
      std::memcpy(c[i] + 4 * j, &sum, 4);
    }
}
#else
#define TILE_DOT_BYTES(c, a, b) _tile_dpbusd(c, a, b)
#endif

namespace {

constexpr int SIDE = 16, STEP = 64, HEIGHT = 2 * SIDE;  // rows and bytes of a tile; rows of a task
constexpr int CHUNK = 2;                                // blocks of weights that are bytes at once
constexpr int64_t INTEGERS = 1 << 20;                   // that stay in the core's cache

// Blocks of HEIGHT rows of the weight as bytes: [block][plane][row][STEP]. Past the last row, it is
// found again.
inline void unpack_rows(const Problem& p, int64_t first, int64_t from, int64_t to, uint8_t* bytes) {
  const int64_t whole = p.runs() * RUN_BYTES / STEP;
  for (int64_t block = from; block < to; ++block, bytes += PLANES * HEIGHT * STEP)
    for (int i = 0; i < HEIGHT; ++i) {
      const uint8_t* at = p.packed_row(std::min(first + i, p.outputs - 1)) + block * STEP;
      __builtin_prefetch(at + CHUNK * STEP);
      const Unit::Bytes stored = block < whole ? load_packed(at) : load_packed<RUN_BYTES>(at);
#pragma GCC unroll 4
      for (int plane = 0; plane < PLANES; ++plane) {
        const Unit::Bytes weights = stored >> (2 * plane) & 0x0303;
        std::memcpy(bytes + (plane * HEIGHT + i) * STEP, &weights, STEP);
      }
    }
}

// sums[group][row][token] (+)= weights times the tokens of N groups, which lie `next` bytes apart.
template <int N>
void multiply_tiles(int steps, const uint8_t* weights, const int8_t* x, int64_t next, bool add,
                    int32_t* sums) {
  constexpr int TILE_SUMS = SIDE * SIDE;
  if (add) {
    TILE_LOAD(0, sums, STEP);
    TILE_LOAD(1, sums + TILE_SUMS, STEP);
    TILE_LOAD(2, sums + (N - 1) * 2 * TILE_SUMS, STEP);
    TILE_LOAD(3, sums + (N - 1) * 2 * TILE_SUMS + TILE_SUMS, STEP);
  } else {
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
  }
  for (int i = 0; i < steps; ++i) {
    TILE_LOAD(6, x + i * SIDE * STEP, STEP);
    TILE_LOAD(4, weights + i * HEIGHT * STEP, STEP);
    TILE_DOT_BYTES(0, 4, 6);
    TILE_LOAD(5, weights + (i * HEIGHT + SIDE) * STEP, STEP);
    TILE_DOT_BYTES(1, 5, 6);
    if (N == 1) continue;
    TILE_LOAD(7, x + next + i * SIDE * STEP, STEP);
    TILE_DOT_BYTES(2, 4, 7);
    TILE_DOT_BYTES(3, 5, 7);
  }
  TILE_STORE(0, sums, STEP);
  TILE_STORE(1, sums + TILE_SUMS, STEP);
  if (N == 1) return;
  TILE_STORE(2, sums + 2 * TILE_SUMS, STEP);
  TILE_STORE(3, sums + 3 * TILE_SUMS, STEP);
}

template <class Real> struct ManyTokens {
  const Problem& p;
  const int64_t padded = round_up(p.columns, BLOCK), blocks = padded / BLOCK;
  const int64_t group_bytes = SIDE * padded;  // of the integers of SIDE tokens

  // The integers of SIDE tokens, or of the `count` that there are.
  void quantize_group(int64_t first, int64_t count, Real* row, int8_t* integers, int8_t* x,
                      Token<Real>* tokens) const {
    for (int64_t i = 0; i < count; ++i) {
      p.read_row(first + i, row, p.columns, padded);
      tokens[i] = quantize(row, padded, integers + i * padded, BLOCK);
    }
    std::memset(integers + count * padded, 0, (SIDE - count) * padded);
    transpose_words(integers, padded / 4, x, SIDE, SIDE, padded / 4);
  }

  // HEIGHT outputs of `count` tokens.
  void task(int64_t output, int64_t first, int64_t count, const int8_t* x, uint8_t* bytes,
            int32_t* sums, const Token<Real>* tokens) const {
    const int64_t groups = (count + SIDE - 1) / SIDE;
    for (int64_t from = 0; from < blocks; from += CHUNK) {
      const int64_t to = std::min(from + CHUNK, blocks);
      unpack_rows(p, output, from, to, bytes);
      for (int64_t group = 0; group < groups; group += 2) {
        const bool two = group + 1 < groups, last = to == blocks;
        const int64_t m = group * SIDE;
        if (last)
          for (int64_t i = m; i < std::min(m + 2 * SIDE, count); ++i) p.expect(first + i, output);
        (two ? multiply_tiles<2> : multiply_tiles<1>)(
            (to - from) * PLANES, bytes, x + m * padded + from * BLOCK * SIDE, group_bytes,
            from > 0, sums + m * HEIGHT);
        for (int64_t i = m; last && i < std::min(m + 2 * SIDE, count); i += SIDE)
          write_group(output, first + i, std::min<int64_t>(SIDE, count - i), sums + i * HEIGHT,
                      tokens + i);
      }
    }
  }
  void write_group(int64_t output, int64_t first, int64_t count, const int32_t* sums,
                   const Token<Real>* tokens) const {
    const int64_t known = std::min<int64_t>(HEIGHT, p.outputs - output);
    int32_t turned[SIDE * HEIGHT];
    transpose_words(sums, SIDE, turned, HEIGHT, HEIGHT, SIDE);
    Real scale[HEIGHT] = {};
    std::copy(p.scale + output, p.scale + output + known, scale);
    for (int64_t i = 0; i < count; ++i) {
      Real results[HEIGHT];
      const int32_t* sum = turned + i * HEIGHT;
      for (int n = 0; n < HEIGHT; ++n)
        results[n] = (Real)(sum[n] - tokens[i].sum) * (scale[n] / tokens[i].factor);
      const int64_t at = (first + i) * p.outputs + output;
      known == HEIGHT ? p.write_part(at, results, HEIGHT) : p.write_part(at, results, known);
    }
  }

  void linear() const {
    const int64_t many = std::max<int64_t>(2 * SIDE, INTEGERS / padded / (2 * SIDE) * (2 * SIDE));
    const int64_t most = std::min(many, round_up(p.rows, SIDE));
    const int64_t tasks = (p.outputs + HEIGHT - 1) / HEIGHT;
    Space<int8_t> shared;
    int8_t* x = shared.get(most * padded);
    std::unique_ptr<Token<Real>[]> tokens(new Token<Real>[most]);
#pragma omp parallel num_threads(p.threads) if (p.threads > 1 && tasks > 1)
    {
      Tiles::begin();
      Space<Real> row;
      Space<int8_t> integers;
      Space<uint8_t> bytes;
      Space<int32_t> sums;
      for (int64_t first = 0; first < p.rows; first += many) {
        const int64_t count = std::min(many, p.rows - first);
#pragma omp for schedule(static)
        for (int64_t m = 0; m < count; m += SIDE)
          quantize_group(first + m, std::min<int64_t>(SIDE, count - m), row.get(padded),
                         integers.get(SIDE * padded), x + m * padded, &tokens[m]);
#pragma omp for schedule(dynamic, 1)
        for (int64_t task_ = 0; task_ < tasks; ++task_)
          task(task_ * HEIGHT, first, count, x, bytes.get(CHUNK * PLANES * HEIGHT * STEP),
               sums.get(most * HEIGHT), &tokens[0]);
      }
      Tiles::end();
    }
  }
};

}  // namespace
#endif
