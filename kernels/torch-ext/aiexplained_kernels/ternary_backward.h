// The gradient of the activations: that of the outputs times the weight, some columns of it after
// others. Here the problem's `x` is the gradient of the outputs, and `out` that of the activations.
#pragma once
#include "ternary_float.h"

namespace {

template <class Real> struct Backward : Float<Real> {
  using Base = Float<Real>;
  using Base::p;
  using Base::unpack;
  static constexpr int RUNS = 2, WIDTH = RUNS * RUN;  // whole lines of memory of packed bytes
  static constexpr int PANEL = 2 * LANES<Real>;       // columns that a product takes at a time
  static constexpr int MANY = 128;                    // tokens whose sums stay in the cache

  using Base::Base;

  void part(int64_t part, int64_t first, int64_t count, const Real* grad, int64_t grad_row,
            Real* weights, Real* sums) const {
    using Product = Plain<Real>;
    const int64_t from = part * RUNS, to = std::min(from + RUNS, p.runs());
    const int rows = (int)round_up(count, 8);
    std::fill(sums, sums + rows * WIDTH, Real(0));
    std::fill(weights, weights + TILE * WIDTH, Real(0));
    for (int64_t tile = 0; tile < p.tiles(); ++tile) {
      // Past the last output the gradients are zeros, and the weights those of the tile before.
      for (int i = 0; i < p.tile_rows(tile); ++i)
        for (int64_t run = from; run < to; ++run)
          unpack(tile * TILE + i, run, [&](int k, Lanes<Real> some) {
            const int64_t column = (run - from) * RUN + k;
            store<Real>(weights + (column / PANEL * TILE + i) * PANEL + column % PANEL, some);
          });
      for (int64_t column = 0; column < (to - from) * RUN; column += PANEL)
        Product::template multiply<true>(rows, PANEL, TILE,
                                         Product::left(grad + tile * TILE, grad_row),
                                         weights + column * TILE, sums + column, WIDTH);
    }
    const int64_t column = from * RUN, columns = std::min<int64_t>(WIDTH, p.columns - column);
    for (int64_t m = 0; m < count; ++m)
      p.write_part((first + m) * p.columns + column, sums + m * WIDTH, columns);
  }

  void backward() const {
    const int64_t most = round_up(std::min<int64_t>(MANY, p.rows), 8);
    const int64_t padded = round_up(p.outputs, TILE), parts = (p.runs() + RUNS - 1) / RUNS;
    Space<Real> shared;
    Real* grad = shared.get(most * padded);
#pragma omp parallel num_threads(p.threads) if (p.threads > 1 && parts > 1)
    {
      Space<Real> weights, sums;
      for (int64_t first = 0; first < p.rows; first += MANY) {
        const int64_t count = std::min<int64_t>(MANY, p.rows - first);
#pragma omp for schedule(static)
        for (int64_t m = 0; m < most; ++m) {
          const int64_t known = m < count ? p.outputs : 0;
          p.read_row(first + m, grad + m * padded, known, padded);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < parts; ++i)
          part(i, first, count, grad, padded, weights.get(TILE * WIDTH), sums.get(most * WIDTH));
      }
    }
  }
};

}  // namespace
