// One thread's work on one list of key blocks at a time; included by block_list_attention.cpp.
//
// Everything is computed transposed: scores are [64 keys][queries], the result [D][queries]. Keys
// and values are then left operands in the order in which they lie in memory, and the softmax runs
// down the columns, one query a lane, without a sum across lanes. The query rows that one list
// serves (64 rows, or the heads of a group in a decode step) are the columns; they go in panels of
// at most 64, and a block of keys is read once for all panels of its list.
#pragma once
#include <algorithm>
#include <vector>

#include "matmul.h"
#include "rows.h"

constexpr int BLOCK = 64;
constexpr double LOG2_E = 1.4426950408889634;

extern "C" {
struct View {
  char* data;
  int64_t batch, head, row;  // strides in elements; the last axis is contiguous
};
struct Problem {
  int64_t type, batch, heads, kv_heads, lists, n_queries, n_keys, head_dim, list_width;
  int64_t causal, window_size, sink_tokens, threads, shares, page_size, tiles;
  double scale;
  View query, key, value, out, grad_out, grad_query;
  void *logsumexp, *grad_logsumexp, *grad_key, *grad_value;
  const int32_t *counts, *indices, *lengths;  // with pages, indices is the page table
};
}

// What a query may see of a block depends on why the block is read.
enum Pass { SINK, LISTED };

template <class Value> struct Rows {
  const Value* data;
  int64_t row;
};

// Up to 64 of the queries that a list serves, as columns; width is padded for the operands.
template <class M> struct Panel {
  int64_t head;
  int columns, width;
  const typename M::Value* query;        // right operand [dim][width]
  typename M::Real *sum, *highest, *total;  // [dim][width], [width], [width]
  // Backward only: right operands [dim][width], [width][dim], [width][dim], and two rows.
  const typename M::Value *grad, *query_rows, *grad_rows;
  typename M::Real *log2_sum, *delta;
};

// One thread's work on one list at a time.
template <class M> class Worker {
 public:
  using Real = typename M::Real;
  using Value = typename M::Value;

  explicit Worker(const Problem& problem) : p(problem), dim(round_up(p.head_dim, 32)) {}

  void forward(int64_t batch, int64_t list, int64_t block) {
    start(batch, list, block, false);
    each_block(batch, list, block, [&](Pass pass, int64_t first, int64_t next) {
      const Rows<Value> key = rows(p.key, first, key_space), value = rows(p.value, first, value_space);
      const Left<Value> keys = M::left(key.data, key.row);
      const Left<Value> values =
          M::left_transposed(value.data, value.row, dim, turned.get(2 * BLOCK * dim));
      for (auto& panel : panels) {
        fetch(next, panel);
        const int n = panel.width;
        Real* score = scores.get(BLOCK * n);
        Value* weights = M::form_of_result(score, packed.get(BLOCK * n));
        M::template multiply<false>(BLOCK, n, dim, keys, panel.query, score, n);
        weigh(panel, pass, first, score, weights);
        M::template multiply<true>(dim, n, BLOCK, values, weights, panel.sum, n);
      }
    });
    for (auto& panel : panels) finish(panel);
  }

  // Adds to grad_key and grad_value of one key head, [n_keys rounded up to 64][dim].
  void backward(int64_t batch, int64_t list, int64_t block, Real* grad_key, Real* grad_value) {
    start(batch, list, block, true);
    each_block(batch, list, block, [&](Pass pass, int64_t first, int64_t next) {
      const Rows<Value> key = rows(p.key, first, key_space), value = rows(p.value, first, value_space);
      const Left<Value> keys = M::left(key.data, key.row), values = M::left(value.data, value.row);
      const Left<Value> turned_keys =
          M::left_transposed(key.data, key.row, dim, turned.get(2 * BLOCK * dim));
      for (auto& panel : panels) {
        fetch(next, panel);
        const int n = panel.width, size = BLOCK * n;
        Real *score = scores.get(size), *grad = slopes.get(size);
        Value* space = packed.get(3 * size);
        Value* weights = M::form_of_result(score, space);
        Value* slope = M::form_of_result(grad, space + size);  // as a right operand
        Value* slope_left = M::ONE_FORM ? slope : space + 2 * size;
        M::template multiply<false>(BLOCK, n, dim, keys, panel.query, score, n);
        M::template multiply<false>(BLOCK, n, dim, values, panel.grad, grad, n);
        differentiate(panel, pass, first, score, grad, weights, slope, slope_left);
        M::template multiply<true>(BLOCK, dim, n, {weights, n, false}, panel.grad_rows,
                                   grad_value + first * dim, dim);
        M::template multiply<true>(BLOCK, dim, n, {slope_left, n, false}, panel.query_rows,
                                   grad_key + first * dim, dim);
        M::template multiply<true>(dim, n, BLOCK, turned_keys, slope, panel.sum, n);
      }
    });
    for (auto& panel : panels) write_columns(panel, p.grad_query, nullptr);
  }

 private:
  const Problem& p;
  const int64_t dim;
  int64_t batch, kv_head, first_query, n_rows, n_keys;
  std::vector<Panel<M>> panels;
  // The interval of keys that each column sees, [pass][column]; all see one within narrow, none
  // sees one outside wide.
  Int<Real> low[2][BLOCK + 32], high[2][BLOCK + 32];
  int64_t narrow_low[2], narrow_high[2], wide_low[2], wide_high[2];
  Space<Value> operands, key_space, value_space, turned, packed;
  Space<Real> state, scores, slopes, results;

  int64_t bytes() const { return p.type == DOUBLE ? 8 : p.type == FLOAT ? 4 : 2; }
  const char* row_of(const View& x, int64_t at, int64_t head, int64_t i) const {
    return x.data + (at * x.batch + head * x.head + i * x.row) * bytes();
  }
  const char* query_row(const View& x, const Panel<M>& panel, int c) const {
    return row_of(x, batch, panel.head + c / n_rows, first_query + c % n_rows);
  }
  int64_t query_index(const Panel<M>& panel, int c) const {
    return (batch * p.heads + panel.head + c / n_rows) * p.n_queries + first_query + c % n_rows;
  }

  void start(int64_t at, int64_t list, int64_t block, bool with_grad) {
    batch = at;
    kv_head = list * p.kv_heads / p.lists;
    first_query = block * BLOCK;
    n_rows = std::min<int64_t>(BLOCK, p.n_queries - first_query);
    n_keys = p.lengths ? p.lengths[batch] : p.n_keys;
    const int64_t heads = p.heads / p.lists, a_panel = std::min(heads, BLOCK / n_rows);
    const int64_t n_panels = (heads + a_panel - 1) / a_panel;
    const int64_t width = round_up(a_panel * n_rows, M::COLUMNS), rows = with_grad ? 4 : 1;
    panels.resize(n_panels);
    Value* operand = operands.get((n_panels * (rows + 1) + 2) * dim * width);
    Value* const copied = operand + n_panels * (rows + 1) * dim * width;
    Real* real = state.get(n_panels * (dim + 2) * width);
    for (int64_t i = 0; i < n_panels; ++i) {
      Panel<M>& panel = panels[i];
      panel.head = list * heads + i * a_panel;
      panel.columns = std::min(a_panel, heads - i * a_panel) * n_rows;
      panel.width = round_up(panel.columns, M::COLUMNS);
      const int n = panel.width;
      const auto next = [&] { return std::exchange(operand, operand + dim * width); };
      Value* queries = with_grad ? next() : copied;
      copy_columns(panel, p.query, queries);
      panel.query = M::right_of_columns(queries, dim, n, next());
      panel.sum = real;
      panel.highest = panel.log2_sum = real + dim * width;
      panel.total = panel.delta = panel.highest + width;
      real += (dim + 2) * width;
      std::fill(panel.sum, panel.sum + dim * n, Real(0));
      if (with_grad) {
        Value* grads = next();
        copy_columns(panel, p.grad_out, grads);
        panel.grad = M::right_of_columns(grads, dim, n, next());
        panel.query_rows = turn(queries, n, copied);
        panel.grad_rows = turn(grads, n, copied);
        recall(panel);
      } else {
        std::fill(panel.highest, panel.highest + n, -std::numeric_limits<Real>::infinity());
        std::fill(panel.total, panel.total + n, Real(0));
      }
    }
    see(panels[0]);
  }

  // A right operand from n rows, in their place; space for as much again.
  const Value* turn(Value* rows, int n, Value* space) {
    const Value* turned = M::right_of_rows(rows, n, dim, space);
    if (turned != rows) std::memcpy(rows, turned, n * dim * sizeof(Value));
    return rows;
  }

  void copy_columns(const Panel<M>& panel, const View& from, Value* to) {
    std::fill(to, to + panel.width * dim, Value(0));
    for (int c = 0; c < panel.columns; ++c)
      read(to + c * dim, query_row(from, panel, c), p.type, p.head_dim);
  }

  // The logsumexp and delta = sum(grad_out * out) - grad_logsumexp of each column.
  void recall(Panel<M>& panel) {
    Real* row = results.get(2 * dim);
    const Real infinity = std::numeric_limits<Real>::infinity();
    std::fill(panel.log2_sum, panel.log2_sum + panel.width, infinity);  // no weight in the padding
    std::fill(panel.delta, panel.delta + panel.width, Real(0));
    for (int c = 0; c < panel.columns; ++c) {
      read(row, query_row(p.out, panel, c), p.type, p.head_dim);
      read(row + dim, query_row(p.grad_out, panel, c), p.type, p.head_dim);
      const int64_t i = query_index(panel, c);
      Real delta = -((const Real*)p.grad_logsumexp)[i];
      for (int d = 0; d < p.head_dim; ++d) delta += row[d] * row[dim + d];
      const Real sum = ((const Real*)p.logsumexp)[i];
      panel.delta[c] = delta;
      panel.log2_sum[c] = sum == -infinity ? infinity : sum * Real(LOG2_E);
    }
  }

  // Which keys the columns see; the panels of a list have the same rows, the first has most.
  void see(const Panel<M>& panel) {
    for (const Pass pass : {SINK, LISTED}) {
      wide_low[pass] = narrow_high[pass] = std::numeric_limits<int32_t>::max();
      wide_high[pass] = narrow_low[pass] = -1;
      for (int c = 0; c < panel.width; ++c) {
        const int64_t row = c < panel.columns ? c % n_rows : 0;
        const int64_t at = first_query + row + n_keys - p.n_queries;
        const int64_t past = p.window_size ? at - p.window_size + 1 : 0;
        const int64_t future = p.window_size ? at + p.window_size - 1 : n_keys - 1;
        int64_t from = pass == SINK ? 0 : std::max(past, p.sink_tokens);
        int64_t to = pass == SINK ? p.sink_tokens - 1 : future;
        to = std::min({to, n_keys - 1, p.causal ? at : n_keys - 1});
        low[pass][c] = from;
        high[pass][c] = to;
        narrow_low[pass] = std::max(narrow_low[pass], from);
        narrow_high[pass] = std::min(narrow_high[pass], to);
        if (from > to) continue;
        wide_low[pass] = std::min(wide_low[pass], from);
        wide_high[pass] = std::max(wide_high[pass], to);
      }
    }
  }

  // Visits the blocks of a list, each with the one that will follow, or -1.
  template <class F> void each_block(int64_t at, int64_t list, int64_t block, F&& visit) {
    Pass pass = SINK;
    int64_t first = -1;
    const auto then = [&](Pass next_pass, int64_t next) {
      if (next >= 0 && (next > wide_high[next_pass] || next + BLOCK <= wide_low[next_pass])) return;
      if (first >= 0) visit(pass, first, next);
      pass = next_pass;
      first = next;
    };
    const int64_t sinks = std::min(p.sink_tokens, n_keys);
    for (int64_t sink = 0; sink < sinks; sink += BLOCK) then(SINK, sink);
    if (p.page_size) {
      for (int64_t next = 0; next < n_keys; next += BLOCK) then(LISTED, next);
    } else {
      const int64_t i = (at * p.lists + list) * ((p.n_queries + BLOCK - 1) / BLOCK) + block;
      const int32_t* entries = p.indices + i * p.list_width;
      for (int32_t x = 0; x < p.counts[i]; ++x) then(LISTED, int64_t(entries[x]) * BLOCK);
    }
    then(LISTED, -1);
  }

  // Ask for a share of the next block's rows while this panel computes.
  void fetch(int64_t first, const Panel<M>& panel) {
    if (first < 0) return;
    const int64_t i = &panel - panels.data(), n = panels.size();
    const int64_t last = std::min(first + BLOCK * (i + 1) / n, n_keys);
    for (int64_t j = first + BLOCK * i / n; j < last; ++j)
      for (const View* x : {&p.key, &p.value})
        for (int64_t byte = 0; byte < p.head_dim * bytes(); byte += 64)
          __builtin_prefetch(key_row(*x, j) + byte, 0, 2);
  }

  const char* key_row(const View& from, int64_t j) const {
    if (!p.page_size) return row_of(from, batch, kv_head, j);
    const int32_t* table = p.indices + batch * p.list_width;
    return row_of(from, table[j / p.page_size], kv_head, j % p.page_size);
  }

  // 64 rows of keys or values, in place where they lie as an operand needs them, else copied.
  Rows<Value> rows(const View& from, int64_t first, Space<Value>& space) {
    const int64_t n = std::min<int64_t>(BLOCK, n_keys - first);
    const bool contiguous = !p.page_size || p.page_size == BLOCK;
    if (sizeof(Value) == bytes() && n == BLOCK && p.head_dim == dim && contiguous)
      return {(const Value*)key_row(from, first), from.row};
    Value* to = space.get(BLOCK * dim);
    if (n < BLOCK || p.head_dim < dim) std::fill(to, to + BLOCK * dim, Value(0));
    for (int64_t j = 0; j < n; ++j) read(to + j * dim, key_row(from, first + j), p.type, p.head_dim);
    return {to, dim};
  }

  bool sees_all(Pass pass, int64_t first) const {
    return first >= narrow_low[pass] && first + BLOCK - 1 <= narrow_high[pass];
  }

  // Scores [64][width] of one panel to unnormalized weights, and its running softmax.
  void weigh(Panel<M>& panel, Pass pass, int64_t first, Real* scores, Value* weights) {
    // The reference of the exponents follows the highest score only when a weight would pass 2^8:
    // the result is the same, and the sums seldom need another scale.
    constexpr Real SLACK = 8, INFINITE = std::numeric_limits<Real>::infinity();
    constexpr int L = LANES<Real>;
    const int n = panel.width;
    Real scale = p.scale * LOG2_E;
    if (!sees_all(pass, first)) {
      for (int c = 0; c < n; c += L) hide(scores + c, n, scale, first, pass, c);
      scale = 1;
    }
    for (int c = 0; c < n; c += L) {
      const Lanes<Real> before = load(panel.highest + c), none = {};
      Lanes<Real> highest = none - INFINITE, total = none;
      for (int j = 0; j < BLOCK; ++j) {
        const Lanes<Real> x = load(scores + j * n + c) * scale;
        highest = x > highest ? x : highest;
      }
      const Lanes<Real> reference = highest > before + SLACK ? highest : before;
      const Lanes<Real> safe = reference == -INFINITE ? none : reference;
      for (int j = 0; j < BLOCK; j += 2) {
        const Lanes<Real> even = exp2_lanes(load(scores + j * n + c) * scale - safe);
        const Lanes<Real> odd = exp2_lanes(load(scores + (j + 1) * n + c) * scale - safe);
        M::store_right(weights + j * n + (M::ONE_FORM ? c : 2 * c), n, even, odd);
        total += even + odd;
      }
      const Lanes<Real> kept = exp2_lanes(before - safe);
      store<Real>(panel.total + c, load(panel.total + c) * kept + total);
      store<Real>(panel.highest + c, reference);
      if (!any(reference != before)) continue;
      for (int64_t d = 0; d < dim; ++d) {
        Real* sum = panel.sum + d * n + c;
        store<Real>(sum, load(sum) * kept);
      }
    }
  }

  // Scores and gradients of the weights to weights and gradients of q.k, as operands.
  void differentiate(Panel<M>& panel, Pass pass, int64_t first, Real* scores, const Real* grads,
                     Value* weights, Value* slopes, Value* slopes_left) {
    constexpr int L = LANES<Real>;
    const int n = panel.width;
    Real scale = p.scale * LOG2_E;
    const Real factor = p.scale;
    if (!sees_all(pass, first)) {
      for (int c = 0; c < n; c += L) hide(scores + c, n, scale, first, pass, c);
      scale = 1;
    }
    for (int c = 0; c < n; c += L) {
      const Lanes<Real> sum = load(panel.log2_sum + c), delta = load(panel.delta + c);
      for (int j = 0; j < BLOCK; j += 2) {
        Lanes<Real> slope[2];
        for (int i = 0; i < 2; ++i) {
          const int64_t at = (j + i) * n + c;
          const Lanes<Real> weight = exp2_lanes(load(scores + at) * scale - sum);
          slope[i] = weight * (load(grads + at) - delta) * factor;
          M::store_left(weights + at, weight);
          if (!M::ONE_FORM) M::store_left(slopes_left + at, slope[i]);
        }
        M::store_right(slopes + j * n + (M::ONE_FORM ? c : 2 * c), n, slope[0], slope[1]);
      }
    }
  }

  // Scale a column of 64 lanes of scores and set to -infinity what its queries do not see.
  void hide(Real* scores, int n, Real scale, int64_t first, Pass pass, int c) {
    const Index<Real> from = load_index<Real>(low[pass] + c), to = load_index<Real>(high[pass] + c);
    const Lanes<Real> nothing = Lanes<Real>{} - std::numeric_limits<Real>::infinity();
    for (int j = 0; j < BLOCK; ++j) {
      const Index<Real> at = Index<Real>{} + Int<Real>(first + j);
      const Lanes<Real> x = load(scores + j * n) * scale;
      store<Real>(scores + j * n, (at >= from) & (at <= to) ? x : nothing);
    }
  }

  // The columns of sum as rows of x, each times its factor.
  void write_columns(const Panel<M>& panel, const View& x, const Real* factors) {
    Real* rows = results.get(panel.width * dim);
    transpose(panel.sum, panel.width, rows, dim, dim, panel.width);
    for (int c = 0; c < panel.columns; ++c)
      write(const_cast<char*>(query_row(x, panel, c)), rows + c * dim, p.type, p.head_dim,
            factors ? factors[c] : Real(1));
  }

  void finish(Panel<M>& panel) {
    for (int c = 0; c < panel.columns; ++c) {
      const Real total = panel.total[c];
      ((Real*)p.logsumexp)[query_index(panel, c)] =
          total == 0 ? -std::numeric_limits<Real>::infinity()
                     : (panel.highest[c] + std::log2(total)) / Real(LOG2_E);
      panel.total[c] = total == 0 ? 0 : 1 / total;  // a query that sees no key gets 0
    }
    write_columns(panel, p.out, panel.total);
  }
};
