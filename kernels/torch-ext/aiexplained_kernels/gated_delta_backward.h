// The gated delta rule backward, token by token from the last to the first.
//
// The states before every SEGMENT-th token are kept by a sweep forward; the others of a segment are
// computed again from there when its turn comes.
#pragma once
#include "gated_delta_slice.h"

namespace {

constexpr int BACKWARD_VECTORS = 4;

template <class Real> struct Backward : Slice<Real, BACKWARD_VECTORS> {
  using Base = Slice<Real, BACKWARD_VECTORS>;
  using typename Base::Row;
  using typename Base::V;
  using Base::K, Base::L, Base::p, Base::WIDTH;
  static constexpr int VECTORS = BACKWARD_VECTORS;
  static constexpr int64_t SEGMENT = 16;  // its states fit the L2 cache

  Space<Real> rows_space, kept_space, states_space, grad_space;
  Real *q, *k, *v, *grad;  // of a segment: [SEGMENT][K], [SEGMENT][WIDTH]
  Real *sums_q, *sums_k;   // of a token: [K][L], K rounded up
  Row held[SEGMENT];       // under each token's key, before it

  explicit Backward(const Problem& p) : Base(p) {}

  // Tasks are slices of heads.
  void work(int64_t task) {
    this->enter_head(task / Base::count(p)), this->enter_slice(task % Base::count(p));
    const int64_t size = K * WIDTH, sums = round_up(K, L) * L,
                  segments = (p.tokens + SEGMENT - 1) / SEGMENT;
    Real* space = rows_space.get(2 * (sums + SEGMENT * (K + WIDTH)));
    sums_q = space, sums_k = sums_q + sums, space += 2 * sums;
    q = space, k = q + SEGMENT * K, v = k + SEGMENT * K, grad = v + SEGMENT * WIDTH;
    std::fill(v, v + 2 * SEGMENT * WIDTH, Real(0));
    std::fill(sums_q, sums_q + 2 * sums, Real(0));
    Real *kept = kept_space.get(segments * size), *states = states_space.get(SEGMENT * size),
         *grad_state = grad_space.get(size);
    keep_states(kept);
    this->get_state(p.grad_final_state, grad_state);
    for (int64_t segment = segments - 1; segment >= 0; --segment) {
      const int64_t t = segment * SEGMENT, n = std::min(SEGMENT, p.tokens - t);
      read_segment(t, n);
      for (int64_t i = 0; i < n; ++i) this->read_columns(p.grad_out, t + i, grad + i * WIDTH);
      std::copy(kept + segment * size, kept + (segment + 1) * size, states);
      held[0] = p.has_beta ? under_key(states, k) : Row{};
      for (int64_t i = 0; i + 1 < n; ++i)
        held[i + 1] = step(t + i, i, i + 1, states + i * size, states + (i + 1) * size, held[i]);
      for (int64_t i = n - 1; i >= 0; --i) token(t + i, i, states + i * size, grad_state);
    }
    this->put_state(grad_state, p.grad_initial_state);
  }

  void read_segment(int64_t t, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      read(q + i * K, this->place(p.query, t + i, 0), p.type, (int)K);
      read(k + i * K, this->place(p.key, t + i, 0), p.type, (int)K);
      this->read_columns(p.value, t + i, v + i * WIDTH);
    }
  }
  // The states before each segment, into kept.
  void keep_states(Real* kept) {
    const int64_t size = K * WIDTH;
    this->get_state(p.initial_state, kept);
    for (int64_t t = 0; t + SEGMENT < p.tokens; t += SEGMENT) {
      Real *before = kept + t / SEGMENT * size, *state = before + size;
      read_segment(t, SEGMENT);
      Row held = p.has_beta ? under_key(before, k) : Row{};
      for (int64_t i = 0; i < SEGMENT; ++i)
        held = step(t + i, i, std::min(i + 1, SEGMENT - 1), i ? state : before, state, held);
    }
  }

  // held = S' k, all rows.
  Row under_key(const Real* state, const Real* key) const {
    Row held = {};
    for (int64_t i = 0; i < K; ++i)
#pragma GCC unroll 4
      for (int n = 0; n < VECTORS; ++n) held.x[n] += key[i] * load(state + i * WIDTH + n * L);
    return held;
  }
  // The state after token t, number i of the segment; what it holds under the next key.
  Row step(int64_t t, int64_t i, int64_t next, const Real* before, Real* after,
           const Row& held) const {
    const Real decay = this->decay(t), beta = this->beta(t);
    Row write;
#pragma GCC unroll 4
    for (int n = 0; n < VECTORS; ++n) {
      const V value = load(v + i * WIDTH + n * L);
      write.x[n] = p.has_beta ? beta * (value - decay * held.x[n]) : value;
    }
    return sweep(K, before, after, k + i * K, k + next * K, decay, write);
  }
  // A function of its own: inlined, its addresses and numbers do not stay in registers.
  __attribute__((noinline)) static Row sweep(int64_t K, const Real* before, Real* after,
                                             const Real* key, const Real* next, Real decay,
                                             const Row& written) {
    const Row write = written;
    Row held = {};
    for (int64_t i = 0; i < K; ++i) {
      const V by = everywhere<V>(key[i]), look = everywhere<V>(next[i]);
#pragma GCC unroll 4
      for (int n = 0; n < VECTORS; ++n) {
        const V s = decay * load(before + i * WIDTH + n * L) + by * write.x[n];
        store<Real>(after + i * WIDTH + n * L, s);
        held.x[n] += look * s;
      }
    }
    return held;
  }

  static Real sum(V x) {
    Real total = 0;
    for (int i = 0; i < L; ++i) total += x[i];
    return total;
  }
  // The sum of each row of [K][L], which many small sums leave behind.
  void sum_rows(const Real* rows, Real* to) const {
    alignas(64) Real block[L * L], sums[L];
    for (int64_t j = 0; j < K; j += L) {
      transpose(rows + j * L, L, block, L, L, L);
      V total = load(block);
      for (int r = 1; r < L; ++r) total += load(block + r * L);
      store<Real>(sums, total);
      std::copy(sums, sums + std::min<int64_t>(L, K - j), to + j);
    }
  }
  Real* shared(void* all, int64_t t, int64_t width) const {
    const int64_t slice = this->from_column / WIDTH;
    return (Real*)all + ((slice * p.batch * p.heads + this->head) * p.tokens + t) * width;
  }

  // One token: its state S before it and dS arrive, dS of the token before leaves. S_f = e^g S;
  //   S' = S_f + k w;  dw = dS' k;  dv = beta dw, du = -dv;  dS_f = dS + k du';
  //   dq = scale S' do;  dk = dS w + S_f du
  void token(int64_t t, int64_t i, const Real* before, Real* grad_state) const {
    const Real d = this->decay(t), beta = this->beta(t);
    Row write, residue, out_grad, back = {};
#pragma GCC unroll 4
    for (int n = 0; n < VECTORS; ++n) {
      residue.x[n] = load(v + i * WIDTH + n * L);
      if (p.has_beta) residue.x[n] -= d * held[i].x[n];
      write.x[n] = beta * residue.x[n];
      out_grad.x[n] = Real(p.scale) * load(grad + i * WIDTH + n * L);
    }
    const Row written = after_write(K, before, grad_state, q + i * K, k + i * K, d, write, out_grad,
                                    sums_q, sums_k);
    Real for_b = 0;
    Real* to = (Real*)p.grad_value + (this->head * p.tokens + t) * p.value_dim + this->from_column;
#pragma GCC unroll 4
    for (int n = 0; n < VECTORS; ++n) {
      const V grad_v = beta * written.x[n];
      for_b += sum(written.x[n] * residue.x[n]);
      if (p.has_beta) back.x[n] = -grad_v;
      for (int j = 0; j < L && n * L + j < this->columns; ++j) to[n * L + j] = grad_v[j];
    }
    const Real for_g = before_write(K, before, grad_state, k + i * K, d, back, sums_k);
    sum_rows(sums_q, shared(p.grad_query, t, K)), sum_rows(sums_k, shared(p.grad_key, t, K));
    *shared(p.grad_log_decay, t, 1) = for_g;
    if (p.has_beta) *shared(p.grad_beta, t, 1) = for_b;
  }
  // Adds what the output asks of the state; sums for dq, and for dk where the token writes; dw.
  __attribute__((noinline)) static Row after_write(int64_t K, const Real* before, Real* grad_state,
                                                   const Real* query, const Real* key, Real decay,
                                                   const Row& write, const Row& out_grad,
                                                   Real* sums_q, Real* sums_k) {
    Row written = {};
    for (int64_t j = 0; j < K; ++j) {
      const V by_key = everywhere<V>(key[j]), by_query = everywhere<V>(query[j]);
      V for_q = {}, for_k = {};
#pragma GCC unroll 4
      for (int n = 0; n < VECTORS; ++n) {
        const V s = decay * load(before + n * L) + by_key * write.x[n];
        const V ds = load(grad_state + n * L) + by_query * out_grad.x[n];
        store<Real>(grad_state + n * L, ds);
        for_q += s * out_grad.x[n];
        for_k += ds * write.x[n];
        written.x[n] += by_key * ds;
      }
      store<Real>(sums_q + j * L, for_q), store<Real>(sums_k + j * L, for_k);
      before += WIDTH, grad_state += WIDTH;
    }
    return written;
  }
  // Adds what the correction asks of the state and of the key; what fading gets.
  __attribute__((noinline)) static Real before_write(int64_t K, const Real* before,
                                                     Real* grad_state, const Real* key, Real decay,
                                                     const Row& corrected, Real* sums_k) {
    const Row back = corrected;
    V for_g = {};
    for (int64_t j = 0; j < K; ++j) {
      const V by_key = everywhere<V>(key[j]);
      V for_k = {};
#pragma GCC unroll 4
      for (int n = 0; n < VECTORS; ++n) {
        const V s = load(before + n * L);
        const V ds = load(grad_state + n * L) + by_key * back.x[n];
        for_k += s * back.x[n];
        for_g += ds * s;
        store<Real>(grad_state + n * L, decay * ds);
      }
      store<Real>(sums_k + j * L, load(sums_k + j * L) + decay * for_k);
      before += WIDTH, grad_state += WIDTH;
    }
    return decay * sum(for_g);
  }
};

}  // namespace
