// What forward and backward of the gated delta rule share: the arguments, and a slice of columns.
//
// Columns of the state do not meet, so the work is cut into slices of them, narrow enough for the
// sums of a sweep over the rows to stay in registers.
#pragma once
#include <algorithm>
#include <cmath>

#include "matmul.h"
#include "rows.h"

namespace {

struct View {
  char* data;
  int64_t batch, head, row;  // strides in elements
};

struct Problem {
  int64_t type, batch, heads, tokens, key_dim, value_dim, threads, has_beta;
  double scale;
  View query, key, value, out, grad_out;
  // In the arithmetic's type, contiguous: gates (B, H, T); states (B, H, K, V).
  void *log_decay, *beta, *initial_state, *final_state;
  // Gradients, the same; those that slices share have a part a slice, (slices, B, H, T[, K]).
  void *grad_final_state, *grad_query, *grad_key, *grad_value, *grad_log_decay, *grad_beta,
      *grad_initial_state;
};

template <class Real, int VECTORS> struct Slice {
  static constexpr int L = LANES<Real>, WIDTH = VECTORS * L;
  using V = Lanes<Real>;
  struct Row {
    V x[VECTORS];
  };

  const Problem& p;
  const int64_t K;
  int64_t b, h, head, from_column, columns;

  explicit Slice(const Problem& p) : p(p), K(p.key_dim) {}
  static int64_t count(const Problem& p) { return (p.value_dim + WIDTH - 1) / WIDTH; }
  void enter_head(int64_t of) { head = of, b = head / p.heads, h = head % p.heads; }
  void enter_slice(int64_t slice) {
    from_column = slice * WIDTH;
    columns = std::min<int64_t>(WIDTH, p.value_dim - from_column);
  }

  static int64_t element(int64_t type) { return type == DOUBLE ? 8 : type == FLOAT ? 4 : 2; }
  char* place(const View& view, int64_t t, int64_t column) const {
    return view.data + (b * view.batch + h * view.head + t * view.row + column) * element(p.type);
  }
  bool as_it_is() const { return p.type == (sizeof(Real) == 8 ? DOUBLE : FLOAT); }
  // The row of a token: where it lies, or converted.
  const Real* row(const View& view, int64_t t, Real* space) const {
    char* from = place(view, t, 0);
    if (as_it_is()) return (const Real*)from;
    read(space, from, p.type, (int)K);
    return space;
  }
  void read_columns(const View& view, int64_t t, Real* to) const {
    read(to, place(view, t, from_column), p.type, (int)columns);
  }
  Real decay(int64_t t) const { return std::exp(((const Real*)p.log_decay)[head * p.tokens + t]); }
  Real beta(int64_t t) const {
    return p.has_beta ? ((const Real*)p.beta)[head * p.tokens + t] : Real(1);
  }

  // The slice's part of a state; it may be used where it lies if it is as wide as a slice.
  Real* part(void* states) const {
    return (Real*)states + head * K * p.value_dim + from_column;
  }
  bool is_whole() const { return columns == WIDTH; }
  void get_state(void* states, Real* to) const {
    std::fill(to, to + K * WIDTH, Real(0));
    if (!states) return;
    const Real* from = part(states);
    for (int64_t i = 0; i < K; ++i)
      std::copy(from + i * p.value_dim, from + i * p.value_dim + columns, to + i * WIDTH);
  }
  void put_state(const Real* state, void* states) const {
    Real* to = part(states);
    for (int64_t i = 0; i < K; ++i)
      std::copy(state + i * WIDTH, state + i * WIDTH + columns, to + i * p.value_dim);
  }
};

template <class V> inline V everywhere(decltype(V{}[0] + 0) x) { return keep(x - V{}); }

// Each task once, by as many threads as there are tasks at most; a thread has a Worker of its own.
template <class Worker> void run(const Problem& p, int64_t tasks, void (Worker::*work)(int64_t)) {
#pragma omp parallel num_threads(std::min(p.threads, tasks)) if (tasks > 1 && p.threads > 1)
  {
    Worker worker(p);
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; ++task) (worker.*work)(task);
  }
}

}  // namespace
