// The gated delta rule on a CPU, token by token, forward and backward.
//
//   S_t = e^g (I - beta k k') S_{t-1} + beta k v',   o = scale S_t' q        (beta: or plain k v')
//
// Columns of the state do not meet: a task is one slice of them, narrow enough for the sums of a
// token to stay in registers. Forward, one sweep over the rows of S does the update and the read
// of a token and, for the next one, already k' S.
#include <algorithm>
#include <cmath>

#include "matmul.h"
#include "rows.h"

namespace {

constexpr int64_t SEGMENT = 16;  // tokens between two kept states: their states fit the L2 cache
constexpr int VECTORS = VECTOR_BYTES == 64 ? 4 : 2;

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

template <class Real> struct Task {
  static constexpr int L = LANES<Real>, WIDTH = VECTORS * L;
  using V = Lanes<Real>;

  const Problem& p;
  const int64_t K;
  int64_t b, h, head, from, columns;
  Space<Real> rows_space, states_space, state_space, kept_space;
  Real *q, *k, *v, *grad;     // of a segment: [SEGMENT][K], [SEGMENT][WIDTH]
  Real *sums_q, *sums_k;      // of a token: [K][L], K rounded up

  explicit Task(const Problem& p) : p(p), K(p.key_dim) {}

  static int64_t element(int64_t type) { return type == DOUBLE ? 8 : type == FLOAT ? 4 : 2; }

  void begin(int64_t task) {
    const int64_t slices = (p.value_dim + WIDTH - 1) / WIDTH;
    head = task / slices, b = head / p.heads, h = head % p.heads;
    from = task % slices * WIDTH, columns = std::min<int64_t>(WIDTH, p.value_dim - from);
    const int64_t sums = round_up(K, L) * L;
    Real* space = rows_space.get(2 * (sums + SEGMENT * (K + WIDTH)));
    sums_q = space, sums_k = sums_q + sums, space += 2 * sums;
    q = space, k = q + SEGMENT * K, v = k + SEGMENT * K, grad = v + SEGMENT * WIDTH;
    std::fill(v, v + 2 * SEGMENT * WIDTH, Real(0));
    std::fill(sums_q, sums_q + 2 * sums, Real(0));
  }
  void read_rows(const View& view, int64_t t, int64_t n, int64_t first, int64_t width, Real* to,
                 int64_t to_row) {
    const int64_t size = element(p.type);
    for (int64_t i = 0; i < n; ++i)
      read(to + i * to_row,
           view.data + (b * view.batch + h * view.head + (t + i) * view.row + first) * size, p.type,
           (int)width);
  }
  void read_segment(int64_t t, int64_t n) {
    read_rows(p.query, t, n, 0, K, q, K);
    read_rows(p.key, t, n, 0, K, k, K);
    read_rows(p.value, t, n, from, columns, v, WIDTH);
  }
  Real decay(int64_t t) const { return std::exp(((const Real*)p.log_decay)[head * p.tokens + t]); }
  Real beta(int64_t t) const {
    return p.has_beta ? ((const Real*)p.beta)[head * p.tokens + t] : Real(1);
  }

  // States are padded to WIDTH columns of zeros.
  void get_state(const void* states, Real* to) const {
    std::fill(to, to + K * WIDTH, Real(0));
    if (!states) return;
    const Real* state = (const Real*)states + head * K * p.value_dim + from;
    for (int64_t i = 0; i < K; ++i)
      std::copy(state + i * p.value_dim, state + i * p.value_dim + columns, to + i * WIDTH);
  }
  void put_state(const Real* state, void* states) const {
    Real* to = (Real*)states + head * K * p.value_dim + from;
    for (int64_t i = 0; i < K; ++i)
      std::copy(state + i * WIDTH, state + i * WIDTH + columns, to + i * p.value_dim);
  }

  struct Row {
    V x[VECTORS];
  };
  static Row zero() { return {}; }

  // held = S' k, all rows.
  Row under_key(const Real* state, const Real* key) const {
    Row held = zero();
    for (int64_t i = 0; i < K; ++i)
#pragma GCC unroll 4
      for (int n = 0; n < VECTORS; ++n) held.x[n] += key[i] * load(state + i * WIDTH + n * L);
    return held;
  }
  // What a token writes: beta (v - e^g held), or v.
  Row write_of(int64_t i, const Row& held, Real decay, Real beta) const {
    Row write;
#pragma GCC unroll 4
    for (int n = 0; n < VECTORS; ++n) {
      const V value = load(v + i * WIDTH + n * L);
      write.x[n] = p.has_beta ? beta * (value - decay * held.x[n]) : value;
    }
    return write;
  }
  // S = e^g S + k w', out = S' q and, with the next token's key, held = S' k_next.
  template <bool READ>
  void sweep(const Real* before, Real* state, const Real* query, const Real* key, const Real* next, Real decay,
             const Row& write, Row& out, Row& held) const {
    Row o = zero(), u = zero();
    for (int64_t i = 0; i < K; ++i) {
#pragma GCC unroll 4
      for (int n = 0; n < VECTORS; ++n) {
        const int64_t at = i * WIDTH + n * L;
        const V s = decay * load(before + at) + key[i] * write.x[n];
        store<Real>(state + at, s);
        if (READ) o.x[n] += query[i] * s;
        u.x[n] += next[i] * s;
      }
    }
    out = o, held = u;
  }

  void forward(int64_t task) {
    begin(task);
    Real* state = state_space.get(K * WIDTH);
    get_state(p.initial_state, state);
    Row held = zero(), out = zero();
    for (int64_t t = 0; t < p.tokens; t += SEGMENT) {
      const int64_t n = std::min(SEGMENT, p.tokens - t);
      read_segment(t, n);
      if (p.has_beta) held = under_key(state, k);
      for (int64_t i = 0; i < n; ++i) {
        const Real d = decay(t + i);
        const Row write = write_of(i, held, d, beta(t + i));
        const Real* next = k + (i + 1 < n ? i + 1 : i) * K;  // the last one is not used
        sweep<true>(state, state, q + i * K, k + i * K, next, d, write, out, held);
        Real* to = grad + i * WIDTH;
        for (int m = 0; m < VECTORS; ++m) store<Real>(to + m * L, out.x[m]);
      }
      write_rows(t, n);
    }
    put_state(state, p.final_state);
  }
  void write_rows(int64_t t, int64_t n) const {
    for (int64_t i = 0; i < n; ++i)
      write(p.out.data + (b * p.out.batch + h * p.out.head + (t + i) * p.out.row + from) *
                             element(p.type),
            grad + i * WIDTH, p.type, (int)columns, Real(p.scale));
  }

  // ---- backward ---------------------------------------------------------------------------------

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
  template <class To> Real* part(To* all, int64_t task, int64_t t, int64_t width) const {
    const int64_t slice = task % ((p.value_dim + WIDTH - 1) / WIDTH);
    return (Real*)all + ((slice * p.batch * p.heads + head) * p.tokens + t) * width;
  }

  // The states before each segment, into kept.
  void keep_states(Real* kept) {
    const int64_t size = K * WIDTH;
    Row held = zero(), unused;
    get_state(p.initial_state, kept);
    for (int64_t t = 0; t + SEGMENT < p.tokens; t += SEGMENT) {
      Real *state = kept + t / SEGMENT * size, *next_state = state + size;
      std::copy(state, state + size, next_state);
      read_segment(t, SEGMENT);
      if (p.has_beta) held = under_key(next_state, k);
      for (int64_t i = 0; i < SEGMENT; ++i) {
        const Real d = decay(t + i);
        const Real* next = k + (i + 1 < SEGMENT ? i + 1 : i) * K;
        const Row write = write_of(i, held, d, beta(t + i));
        sweep<false>(next_state, next_state, nullptr, k + i * K, next, d, write, unused, held);
      }
    }
  }

  // One token: its state S' (faded, before the write) and dS arrive, dS of the token before leaves.
  //   dw = dS' k;  dv = beta dw, du = -dv;  dS' = dS + k du';  dq = scale S do;  dk = dS w + S' du
  void token_backward(int64_t i, const Real* before, Real* grad_state, Real d, Real beta,
                      Real* grad_q, Real* grad_k, Row& grad_v, Real& grad_g, Real& grad_b) const {
    const Real *query = q + i * K, *key = k + i * K;
    Row held = zero(), write, residue, out_grad, written = zero();
    if (p.has_beta) held = under_key(before, key);
#pragma GCC unroll 4
    for (int n = 0; n < VECTORS; ++n) {
      residue.x[n] = load(v + i * WIDTH + n * L) - d * held.x[n];
      if (!p.has_beta) residue.x[n] = load(v + i * WIDTH + n * L);
      write.x[n] = beta * residue.x[n];
      out_grad.x[n] = Real(p.scale) * load(grad + i * WIDTH + n * L);
    }
    for (int64_t j = 0; j < K; ++j) {
      V for_q = {}, for_k = {};
#pragma GCC unroll 4
      for (int n = 0; n < VECTORS; ++n) {
        Real* at = grad_state + j * WIDTH + n * L;
        const V s = d * load(before + j * WIDTH + n * L) + key[j] * write.x[n];
        const V ds = load(at) + query[j] * out_grad.x[n];
        store<Real>(at, ds);
        for_q += s * out_grad.x[n];
        for_k += ds * write.x[n];
        written.x[n] += key[j] * ds;
      }
      store<Real>(sums_q + j * L, for_q), store<Real>(sums_k + j * L, for_k);
    }
    V for_b = {}, for_g = {};
    Row back = zero();
#pragma GCC unroll 4
    for (int n = 0; n < VECTORS; ++n) {
      for_b += written.x[n] * residue.x[n];
      grad_v.x[n] = beta * written.x[n];
      if (p.has_beta) back.x[n] = -grad_v.x[n];
    }
    for (int64_t j = 0; j < K; ++j) {
      V for_k = load(sums_k + j * L);
#pragma GCC unroll 4
      for (int n = 0; n < VECTORS; ++n) {
        Real* at = grad_state + j * WIDTH + n * L;
        const V faded = d * load(before + j * WIDTH + n * L);
        const V ds = load(at) + key[j] * back.x[n];
        for_k += faded * back.x[n];
        for_g += ds * faded;
        store<Real>(at, d * ds);
      }
      store<Real>(sums_k + j * L, for_k);
    }
    sum_rows(sums_q, grad_q), sum_rows(sums_k, grad_k);
    grad_g = sum(for_g), grad_b = sum(for_b);
  }

  void backward(int64_t task) {
    begin(task);
    const int64_t size = K * WIDTH, segments = (p.tokens + SEGMENT - 1) / SEGMENT;
    Real *kept = kept_space.get(segments * size), *states = states_space.get(SEGMENT * size),
         *grad_state = state_space.get(size);
    keep_states(kept);
    get_state(p.grad_final_state, grad_state);
    for (int64_t segment = segments - 1; segment >= 0; --segment) {
      const int64_t t = segment * SEGMENT, n = std::min(SEGMENT, p.tokens - t);
      read_segment(t, n);
      read_rows(p.grad_out, t, n, from, columns, grad, WIDTH);
      std::copy(kept + segment * size, kept + (segment + 1) * size, states);
      Row held = zero(), unused, grad_v;
      if (p.has_beta) held = under_key(states, k);
      for (int64_t i = 0; i + 1 < n; ++i) {
        const Real d = decay(t + i);
        const Row write = write_of(i, held, d, beta(t + i));
        sweep<false>(states + i * size, states + (i + 1) * size, nullptr, k + i * K, k + (i + 1) * K,
                     d, write, unused, held);
      }
      for (int64_t i = n - 1; i >= 0; --i) {
        Real unused_beta = 0;
        Real& grad_b = p.has_beta ? *part(p.grad_beta, task, t + i, 1) : unused_beta;
        token_backward(i, states + i * size, grad_state, decay(t + i), beta(t + i),
                       part(p.grad_query, task, t + i, K), part(p.grad_key, task, t + i, K), grad_v,
                       *part(p.grad_log_decay, task, t + i, 1), grad_b);
        Real* to = (Real*)p.grad_value + (head * p.tokens + t + i) * p.value_dim + from;
        for (int64_t j = 0; j < columns; ++j) to[j] = grad_v.x[j / L][j % L];
      }
    }
    put_state(grad_state, p.grad_initial_state);
  }
};

template <class Real> int64_t slices(const Problem& p) {
  return (p.value_dim + Task<Real>::WIDTH - 1) / Task<Real>::WIDTH;
}

template <class Real, class Work> void run(const Problem& p, Work&& work) {
  const int64_t tasks = p.batch * p.heads * slices<Real>(p);
#pragma omp parallel num_threads(std::min(p.threads, tasks))
  {
    Task<Real> task(p);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < tasks; ++i) work(task, i);
  }
}
template <class Real> void forward(const Problem& p) {
  run<Real>(p, [](Task<Real>& task, int64_t i) { task.forward(i); });
}
template <class Real> void backward(const Problem& p) {
  run<Real>(p, [](Task<Real>& task, int64_t i) { task.backward(i); });
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {
int64_t problem_bytes() { return sizeof(Problem); }
// Parts in which slices of columns sum the gradients that they share.
int64_t gradient_parts(const Problem* p) {
  return p->type == DOUBLE ? slices<double>(*p) : slices<float>(*p);
}
int gated_delta_forward(const Problem* p) {
  p->type == DOUBLE ? forward<double>(*p) : forward<float>(*p);
  return 0;
}
int gated_delta_backward(const Problem* p) {
  p->type == DOUBLE ? backward<double>(*p) : backward<float>(*p);
  return 0;
}
}
#pragma GCC visibility pop
