// Products of ternary weights with activations as they are, in float or double.
//
// A weight becomes -scale, 0 or scale in a register. A few tokens multiply it there; for many, a
// tile of weights is written out once, in the core's cache, and every token multiplies that.
#pragma once
#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "ternary_packed.h"

namespace {

// Bytes, each in a lane.
template <class Real> inline Index<Real> widen(const uint8_t* bytes) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Real) == 4)
    return (Index<Real>)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)bytes));
#elif defined(__AVX2__)
  if constexpr (sizeof(Real) == 4)
    return (Index<Real>)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)bytes));
#endif
  Index<Real> lanes;
  for (int i = 0; i < LANES<Real>; ++i) lanes[i] = bytes[i];
  return lanes;
}

// Turns stored weights of a plane into numbers. A lane is shifted first, so that the weight lies in
// its low bits.
template <class Real> class Decoder;
template <> class Decoder<double> {
 public:
  explicit Decoder(double scale = 0, int = 0) : scale(scale) {}
  static constexpr int shift(int plane) { return 2 * plane; }
  // 2^52 + i is a double whose low bits are i.
  Lanes<double> operator()(Index<double> stored) const {
    const auto shifted = (Lanes<double>)((stored & 3) + 0x4330000000000000);
    return (shifted - (4503599627370496.0 + 1)) * scale;
  }

 private:
  double scale;
};
template <> class Decoder<float> {
 public:
#if defined(__AVX512F__)  // a table of 16 numbers by four bits: of two weights, one of which counts
  explicit Decoder(float scale = 0, int plane = 0) {
    constexpr float SIGNS[4] = {-1, 0, 1, 0};
    for (int i = 0; i < 16; ++i) table[i] = SIGNS[i >> 2 * (plane % 2) & 3];
    table *= scale;
  }
  static constexpr int shift(int plane) { return plane / 2 * 4; }
  Lanes<float> operator()(Index<float> stored) const {
    return (Lanes<float>)_mm512_permutexvar_ps((__m512i)stored, (__m512)table);
  }

 private:
  Lanes<float> table;
#elif defined(__AVX__)  // a table of four numbers, of which the two low bits of a lane take one
  explicit Decoder(float scale = 0, int = 0) {
    for (int i = 0; i < LANES<float>; ++i) table[i] = i % 4 < 3 ? float(i % 4 - 1) : 0.0f;
    table *= scale;
  }
  static constexpr int shift(int plane) { return 2 * plane; }
  Lanes<float> operator()(Index<float> stored) const {
    return (Lanes<float>)_mm256_permutevar_ps((__m256)table, (__m256i)stored);
  }

 private:
  Lanes<float> table;
#else
  explicit Decoder(float scale = 0, int = 0) : scale(scale) {}
  static constexpr int shift(int plane) { return 2 * plane; }
  Lanes<float> operator()(Index<float> stored) const {
    return (__builtin_convertvector(stored & 3, Lanes<float>) - 1) * scale;
  }

 private:
  float scale;
#endif
};

// The sum over lanes, in few steps: each waits for the one before.
template <class Real> inline Real total(Lanes<Real> x) {
  typedef Real Part __attribute__((vector_size(16)));
  Part parts[VECTOR_BYTES / 16];
  std::memcpy(parts, &x, sizeof x);
  for (int n = VECTOR_BYTES / 32; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) parts[i] += parts[i + n];
  if constexpr (sizeof(Real) == 8) return parts[0][0] + parts[0][1];
  return (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
}

template <class Real> struct Float {
  static constexpr int L = LANES<Real>, FEW = 4;
  static constexpr int MANY = 256;  // tokens whose sums, and a run of columns, stay in the cache
  using V = Lanes<Real>;

  const Problem& p;
  const int64_t runs = p.runs(), padded = runs * RUN, groups = p.groups();
  std::unique_ptr<int64_t[]> group_of{new int64_t[runs * PLANES]};  // of a plane; no division

  explicit Float(const Problem& p) : p(p) {
    for (int64_t plane = 0; plane < runs * PLANES; ++plane)
      group_of[plane] = std::min(plane * PLANE / p.group_size, groups - 1);
  }

  // Calls use(k, weights) for each vector of weights of a run, k its first column within the run.
  // WHOLE: the run has one scale, so its planes share tables.
  template <bool WHOLE = false, class Use> void unpack(int64_t n, int64_t run, Use use) const {
    const uint8_t* bytes = p.packed_row(n) + run * RUN_BYTES;
    const float* scale = p.scale + n * groups;
    const int64_t* group = &group_of[run * PLANES];
    Decoder<Real> decoders[PLANES];
#pragma GCC unroll 4
    for (int plane = 0; plane < PLANES; ++plane)
      decoders[plane] = Decoder<Real>(scale[group[WHOLE ? 0 : plane]], plane);
#pragma GCC unroll 4
    for (int i = 0; i < PLANE; i += L) {
      const Index<Real> stored = widen<Real>(bytes + i);
#pragma GCC unroll 4
      for (int plane = 0; plane < PLANES; ++plane)
        use(plane * PLANE + i, decoders[plane](stored >> Decoder<Real>::shift(plane)));
    }
  }

  template <int N> static V sum_of(const V* sums) {
    if constexpr (N == 1) return *sums;
    else return sum_of<N / 2>(sums) + sum_of<N / 2>(sums + N / 2);
  }
  // One row of the weight and M tokens, in several sums each: one would wait for its last addition.
  template <int M, bool WHOLE> void dot(int64_t n, const Real* x, Real* to) const {
    constexpr int SUMS = M == 1 ? 8 : M == 2 ? 4 : 2;
    V sum[M][SUMS];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
      for (int i = 0; i < SUMS; ++i) sum[m][i] = V{};
    for (int64_t run = 0; run < runs; ++run) {
      __builtin_prefetch(p.packed_row(n) + run * RUN_BYTES + AHEAD);
      unpack<WHOLE>(n, run, [&](int k, V weights) {
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m)
          sum[m][k / L % SUMS] += weights * load(x + m * padded + run * RUN + k);
      });
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) to[m * TILE] = total<Real>(sum_of<SUMS>(sum[m]));
  }
  template <bool WHOLE> void few(int64_t tile, const Real* x) const {
    constexpr void (Float::*DOTS[FEW])(int64_t, const Real*, Real*) const = {
        &Float::dot<1, WHOLE>, &Float::dot<2, WHOLE>, &Float::dot<3, WHOLE>, &Float::dot<4, WHOLE>};
    Real results[FEW * TILE];
    for (int i = 0; i < p.tile_rows(tile); ++i)
      (this->*DOTS[p.rows - 1])(tile * TILE + i, x, results + i);
    for (int64_t m = 0; m < p.rows; ++m) p.write_tile(m, tile, results + m * TILE);
  }

  // Tokens lie in panels, column by column: of two vectors of tokens each, but the last may be one.
  static int64_t panels(int64_t count) { return (count + 2 * L - 1) / (2 * L); }
  static int width(int64_t panel, int64_t count) { return count - panel * 2 * L > L ? 2 * L : L; }
  void pack_panel(int64_t first, int64_t panel, int64_t count, Real* rows, Real* panels) const {
    const int w = width(panel, count);
    for (int i = 0; i < w; ++i) {
      const int64_t m = panel * 2 * L + i;
      if (m < count)
        p.read_row(first + m, rows + i * padded, p.columns, padded);
      else
        std::fill(rows + i * padded, rows + (i + 1) * padded, Real(0));
    }
    transpose(rows, padded, panels + panel * 2 * L * padded, w, w, (int)padded);
  }
  // sums[n][m] of a tile, a run of columns after another. `space` holds the tile's part of a run.
  void many(int64_t tile, int64_t first, int64_t count, const Real* x, Real* space,
            Real* sums) const {
    using Product = Plain<Real>;
    const int rows = p.tile_rows(tile);
    const int64_t row = round_up(count, L);
    std::fill(space + rows * RUN, space + TILE * RUN, Real(0));
    std::fill(sums, sums + TILE * row, Real(0));
    for (int64_t run = 0; run < runs; ++run) {
      for (int i = 0; i < rows; ++i)
        unpack(tile * TILE + i, run,
               [&](int k, V weights) { store<Real>(space + i * RUN + k, weights); });
      for (int64_t panel = 0; panel < panels(count); ++panel) {
        const int w = width(panel, count);
        Product::template multiply<true>(TILE, w, RUN, Product::left(space, RUN),
                                         x + panel * 2 * L * padded + run * RUN * w,
                                         sums + panel * 2 * L, row);
      }
    }
    Real results[TILE];
    for (int64_t m = 0; m < count; ++m) {
      for (int i = 0; i < rows; ++i) results[i] = sums[i * row + m];
      p.write_tile(first + m, tile, results);
    }
  }

  void linear() const {
    const bool is_few = p.rows <= FEW;
    const int64_t most = std::min<int64_t>(MANY, round_up(p.rows, 2 * L));
    Space<Real> shared;
    Real* x = shared.get((is_few ? p.rows : most) * padded);
    for (int64_t m = 0; is_few && m < p.rows; ++m)
      p.read_row(m, x + m * padded, p.columns, padded);
#pragma omp parallel num_threads(p.threads) if (p.threads > 1 && p.tiles() > 1)
    {
      Space<Real> rows, weights, sums;
      if (is_few) {
#pragma omp for schedule(dynamic, 1)
        for (int64_t tile = 0; tile < p.tiles(); ++tile)
          groups > 1 && p.group_size % RUN ? few<false>(tile, x) : few<true>(tile, x);
      } else {
        for (int64_t first = 0; first < p.rows; first += MANY) {
          const int64_t count = std::min<int64_t>(MANY, p.rows - first);
#pragma omp for schedule(static)
          for (int64_t panel = 0; panel < panels(count); ++panel)
            pack_panel(first, panel, count, rows.get(2 * L * padded), x);
#pragma omp for schedule(dynamic, 1)
          for (int64_t tile = 0; tile < p.tiles(); ++tile)
            many(tile, first, count, x, weights.get(TILE * RUN), sums.get(TILE * most));
        }
      }
    }
  }
};

}  // namespace
