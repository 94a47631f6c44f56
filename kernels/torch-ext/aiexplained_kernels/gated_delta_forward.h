// The gated delta rule forward: two tokens a sweep over the rows of the state.
//
// A pair needs what stands under its keys, and what its first query reads, before the sweep that
// writes it; that was summed in the sweep before. So one sweep writes two tokens, reads with the
// second one's query, and looks ahead: three multiply-adds a number of the state and token, and
// each number is loaded and stored once for two tokens.
#pragma once
#include "gated_delta_slice.h"

namespace {

// As many vectors as leave room in the registers for four sums and two writes.
constexpr int FORWARD_VECTORS = VECTOR_BYTES == 64 ? 4 : 2;

template <class Real> struct Forward : Slice<Real, FORWARD_VECTORS> {
  using Base = Slice<Real, FORWARD_VECTORS>;
  using typename Base::Row;
  using typename Base::V;
  using Base::K, Base::L, Base::p, Base::WIDTH;
  static constexpr int VECTORS = FORWARD_VECTORS;
  static constexpr int64_t SEGMENT = 8;  // even; tokens whose rows stay in the L1 cache

  // The state in memory is true but for a factor, so that fading costs no multiplication: it is
  // brought up to date before the factor leaves these bounds, and at the end.
  static constexpr Real LEAST = Real(1) / (1 << 20), MOST = 1 << 20;
  static bool is_within(Real x) { return x > LEAST && x < MOST; }

  // What all slices of a head share, for two tokens a and b.
  struct Pair {
    const Real *query_a, *query_b, *key_a, *key_b;
    Real faded_a, faded_b;      // of the state in memory before the pair
    Real beta_a, beta_b, a_under_b, a_read_by_a;  // d_b k_a'k_b and k_a'q_a
    Real write_a, write_b;      // as the state in memory counts
    Real factor;                // of the state in memory afterwards
    bool fades, is_single;
  };
  struct Ahead {
    Row under_a, under_b, read_a;
  };
  struct Writes {
    Row a, b;
  };
  // The state before a sweep and after it, with the strides of their rows.
  struct Move {
    const Real* from;
    int64_t from_row;
    Real* to;
    int64_t to_row;
  };

  Space<Real> rows_space, state_space;
  Space<Ahead> ahead_space;
  alignas(64) Real value_a[WIDTH], value_b[WIDTH];
  Pair pairs[SEGMENT / 2 + 1];

  explicit Forward(const Problem& p) : Base(p), value_a(), value_b() {}

  // Tasks are heads; where those are too few for the threads, parts of the slices of one.
  static int64_t groups(const Problem& p) {
    const int64_t heads = p.batch * p.heads;
    return p.threads == 1 ? 1 : std::min(Base::count(p), (2 * p.threads + heads - 1) / heads);
  }
  void work(int64_t task) {
    const int64_t n_groups = groups(p), group = task % n_groups;
    const int64_t first = group * Base::count(p) / n_groups,
                  n = (group + 1) * Base::count(p) / n_groups - first;
    this->enter_head(task / n_groups);
    Real *space = rows_space.get(2 * (SEGMENT + 2) * K), *states = state_space.get(n * K * WIDTH);
    Ahead* ahead = ahead_space.get(n);
    Real factor = 1;
    for (int64_t t = 0; t < p.tokens; t += SEGMENT) {
      const int64_t tokens = std::min(SEGMENT, p.tokens - t);
      plan(t, tokens, factor, space);
      for (int64_t i = 0; i < n; ++i) {
        this->enter_slice(first + i);
        p.has_beta ? segment<true>(t, tokens, states + i * K * WIDTH, ahead[i])
                   : segment<false>(t, tokens, states + i * K * WIDTH, ahead[i]);
      }
    }
  }

  // A decode step: a task is a head. Its state is read once and written once, by whole rows.
  void step(int64_t task) {
    this->enter_head(task);
    const int64_t columns = p.value_dim, size = K * columns;
    Real* space = rows_space.get(2 * K + 3 * columns);
    Real *under = space + 2 * K, *reads = under + columns, *write = reads + columns;
    const Real *query = this->row(p.query, 0, space), *key = this->row(p.key, 0, space + K);
    const Real *from = (const Real*)p.initial_state + task * size;
    Real *to = (Real*)p.final_state + task * size;
    const Real decay = this->decay(0), beta = this->beta(0);
    std::fill(under, under + 2 * columns, Real(0));
    Real read_by_itself = 0;
    for (int64_t i = 0; i < K; i += 4) {
      const Real* rows[4];
      Real by_key[4], by_query[4];
      for (int64_t j = 0; j < 4; ++j) {
        const int64_t row = std::min(i + j, K - 1);
        rows[j] = from + row * columns;
        by_key[j] = i + j < K ? key[row] : 0, by_query[j] = i + j < K ? query[row] : 0;
        read_by_itself += by_key[j] * by_query[j];
      }
      add_rows(columns, rows, by_key, under), add_rows(columns, rows, by_query, reads);
    }
    read(write, this->place(p.value, 0, 0), p.type, (int)columns);
    for (int64_t n = 0; n < columns; ++n) {
      if (p.has_beta) write[n] = beta * (write[n] - decay * under[n]);
      reads[n] = decay * reads[n] + read_by_itself * write[n];
    }
    for (int64_t i = 0; i < K; ++i)
      fade(columns, from + i * columns, decay, key[i], write, to + i * columns);
    ::write(this->place(p.out, 0, 0), reads, p.type, (int)columns, Real(p.scale));
  }
  static void add_rows(int64_t n, const Real* const* rows, const Real* by, Real* __restrict sums) {
    const Real *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    const Real by_a = by[0], by_b = by[1], by_c = by[2], by_d = by[3];
    for (int64_t i = 0; i < n; ++i)
      sums[i] += by_a * a[i] + by_b * b[i] + by_c * c[i] + by_d * d[i];
  }
  static void fade(int64_t n, const Real* from, Real decay, Real by, const Real* write,
                   Real* __restrict to) {
    for (int64_t i = 0; i < n; ++i) to[i] = decay * from[i] + by * write[i];
  }

  // Fills in the pairs of a segment and the rows of the one that follows.
  void plan(int64_t t, int64_t tokens, Real& factor, Real* space) {
    const int64_t left = p.tokens - t;
    for (int64_t i = 0; i < tokens + 2; i += 2) {
      Pair& pair = pairs[i / 2];
      const int64_t a = t + std::min(i, left - 1), b = t + std::min(i + 1, left - 1);
      pair.query_a = this->row(p.query, a, space), space += K;
      pair.query_b = this->row(p.query, b, space), space += K;
      pair.key_a = this->row(p.key, a, space), space += K;
      pair.key_b = this->row(p.key, b, space), space += K;
      if (i >= tokens) break;
      pair.is_single = a == b;
      const Real decay_b = pair.is_single ? 1 : this->decay(b);
      pair.faded_a = factor * this->decay(a), pair.faded_b = pair.faded_a * decay_b;
      pair.beta_a = this->beta(a), pair.beta_b = pair.is_single ? 0 : this->beta(b);
      products(pair);
      pair.a_under_b *= decay_b;
      const bool is_last = i + 2 >= left;
      pair.fades = is_last || !is_within(pair.faded_a) || !is_within(pair.faded_b);
      pair.write_a = pair.fades ? decay_b : 1 / pair.faded_a;
      pair.write_b = pair.fades ? 1 : 1 / pair.faded_b;
      pair.factor = factor = pair.fades ? 1 : pair.faded_b;
    }
  }
  void products(Pair& pair) const {
    V under[2] = {}, read[2] = {};
    int64_t i = 0;
    for (; i + 2 * L <= K; i += 2 * L)
      for (int n = 0; n < 2; ++n) {
        const V key = load(pair.key_a + i + n * L);
        under[n] += key * load(pair.key_b + i + n * L);
        read[n] += key * load(pair.query_a + i + n * L);
      }
    under[0] += under[1], read[0] += read[1];
    Real under_b = 0, read_a = 0;
    for (int n = 0; n < L; ++n) under_b += under[0][n], read_a += read[0][n];
    for (; i < K; ++i) {
      under_b += pair.key_a[i] * pair.key_b[i];
      read_a += pair.key_a[i] * pair.query_a[i];
    }
    pair.a_under_b = under_b, pair.a_read_by_a = read_a;
  }

  template <bool CORRECTS> void segment(int64_t t, int64_t tokens, Real* state, Ahead& ahead) {
    Move move = {state, WIDTH, state, WIDTH};
    if (t == 0) {
      if (this->is_whole() && p.initial_state)
        move.from = this->part(p.initial_state), move.from_row = p.value_dim;
      else
        this->get_state(p.initial_state, state);
      sweep<0, false, CORRECTS, true>(K, move, pairs[0], pairs[0], {}, ahead);
    }
    for (int64_t i = 0; i < tokens; i += 2) {
      const Pair &pair = pairs[i / 2], &next = pairs[i / 2 + 1];
      const bool is_last = t + i + 2 >= p.tokens;
      Row out_a, out_b;
      const Writes writes = solve<CORRECTS>(t + i, pair, ahead, out_a);
      if (is_last && this->is_whole())
        move.to = this->part(p.final_state), move.to_row = p.value_dim;
      if (is_last && pair.is_single)
        out_b = sweep<1, true, CORRECTS, false>(K, move, pair, next, writes, ahead);
      else if (is_last)
        out_b = sweep<2, true, CORRECTS, false>(K, move, pair, next, writes, ahead);
      else if (pair.fades)
        out_b = sweep<2, true, CORRECTS, true>(K, move, pair, next, writes, ahead);
      else
        out_b = sweep<2, false, CORRECTS, true>(K, move, pair, next, writes, ahead);
      put_row(t + i, out_a, p.scale);
      if (!pair.is_single) put_row(t + i + 1, out_b, p.scale * pair.factor);
      move.from = state, move.from_row = WIDTH;
      if (is_last && !this->is_whole()) this->put_state(state, p.final_state);
    }
  }
  // What a pair writes, as the state in memory counts, and the output of its first token.
  template <bool CORRECTS>
  Writes solve(int64_t t, const Pair& pair, const Ahead& ahead, Row& out_a) {
    const Real *from_a = columns_at(t, value_a), *from_b = value_b;
    if (!pair.is_single) from_b = columns_at(t + 1, value_b);
    Writes writes;
    #pragma GCC unroll 4
    for (int n = 0; n < VECTORS; ++n) {
      V a = load(from_a + n * L), b = load(from_b + n * L);
      if (CORRECTS) {
        a = pair.beta_a * (a - pair.faded_a * ahead.under_a.x[n]);
        b = pair.beta_b * (b - pair.faded_b * ahead.under_b.x[n] - pair.a_under_b * a);
      }
      out_a.x[n] = pair.faded_a * ahead.read_a.x[n] + pair.a_read_by_a * a;
      writes.a.x[n] = pair.write_a * a, writes.b.x[n] = pair.write_b * b;
    }
    return writes;
  }
  // The slice's part of a value: where it lies, or converted and padded.
  const Real* columns_at(int64_t t, Real* space) const {
    if (this->as_it_is() && this->is_whole())
      return (const Real*)this->place(p.value, t, this->from_column);
    this->read_columns(p.value, t, space);
    return space;
  }
  void put_row(int64_t t, const Row& out, Real factor) const {
    alignas(64) Real sums[WIDTH];
    const bool in_place = this->as_it_is() && this->is_whole();
    Real* to = in_place ? (Real*)this->place(p.out, t, this->from_column) : sums;
    for (int n = 0; n < VECTORS; ++n) store<Real>(to + n * L, factor * out.x[n]);
    if (!in_place)
      write(this->place(p.out, t, this->from_column), sums, p.type, (int)this->columns, Real(1));
  }

  // S = (fade) S + k_a w_a' + k_b w_b'; what the second query reads of it, and what the next pair
  // needs. A function of its own: inlined, its addresses and numbers do not stay in registers.
  template <int WRITES, bool FADES, bool CORRECTS, bool LOOKS>
  __attribute__((noinline))
  static Row sweep(int64_t K, const Move& move, const Pair& pair,
                   const Pair& next, const Writes& writes, Ahead& ahead) {
    const Real *key_a = pair.key_a, *key_b = pair.key_b;
    const Real *next_a = next.key_a, *next_b = next.key_b;
    const Real *query_b = pair.query_b, *next_query = next.query_a;
    const Real *from = move.from;
    Real *to = move.to;
    const int64_t from_row = move.from_row, to_row = move.to_row;
    const Row a = writes.a, b = writes.b;
    const Real fade = pair.faded_b;
    Row out = {}, under_a = {}, under_b = {}, read_a = {};
    for (int64_t i = 0; i < K; ++i) {
      V s[VECTORS];
      const V by_a = everywhere<V>(WRITES > 0 ? key_a[i] : 0);
      const V by_b = everywhere<V>(WRITES > 1 ? key_b[i] : 0);
      #pragma GCC unroll 4
      for (int n = 0; n < VECTORS; ++n) {
        s[n] = load(from + n * L);
        if (FADES) s[n] *= fade;
        if (WRITES > 0) s[n] += by_a * a.x[n];
        if (WRITES > 1) s[n] += by_b * b.x[n];
        if (WRITES > 0) store<Real>(to + n * L, s[n]);
      }
      if (WRITES > 1) add(out, query_b[i], s);
      if (LOOKS && CORRECTS) add(under_a, next_a[i], s);
      if (LOOKS && CORRECTS) add(under_b, next_b[i], s);
      if (LOOKS) add(read_a, next_query[i], s);
      from += from_row, to += to_row;
    }
    if (LOOKS) ahead = {under_a, under_b, read_a};
    return out;
  }
  static void add(Row& sums, Real factor, const V* s) {
    const V x = everywhere<V>(factor);
    #pragma GCC unroll 4
    for (int n = 0; n < VECTORS; ++n) sums.x[n] += x * s[n];
  }
};

}  // namespace
