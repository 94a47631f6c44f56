// Attention over listed blocks of 64 keys, forward and backward, on a CPU: how the work is shared
// among threads, and the entries that Python calls. What is computed stands in
// block_list_worker.h.
#include "block_list_worker.h"

namespace {

template <class M> void forward(const Problem& p) {
  const int64_t blocks = (p.n_queries + BLOCK - 1) / BLOCK;
#pragma omp parallel num_threads(p.threads)
  {
    M::begin();
    Worker<M> worker(p);
#pragma omp for schedule(dynamic, 4)
    for (int64_t i = 0; i < p.batch * p.lists * blocks; ++i)
      worker.forward(i / blocks / p.lists, i / blocks % p.lists, i % blocks);
    M::end();
  }
}

// Each share of a key head's query blocks adds into gradients of its own, so that no two threads
// meet. The order of the sums depends on the number of shares, not on which thread is faster.
template <class M> void backward(const Problem& p) {
  using Real = typename M::Real;
  const int64_t blocks = (p.n_queries + BLOCK - 1) / BLOCK, lists = p.lists / p.kv_heads;
  const int64_t a_head = round_up(p.n_keys, BLOCK) * round_up(p.head_dim, 32);
#pragma omp parallel num_threads(p.threads)
  {
    M::begin();
    Worker<M> worker(p);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < p.shares * p.batch * p.kv_heads; ++i) {
      const int64_t head = i % (p.batch * p.kv_heads), share = i / (p.batch * p.kv_heads);
      for (int64_t list = head % p.kv_heads * lists; list < (head % p.kv_heads + 1) * lists; ++list)
        for (int64_t block = share; block < blocks; block += p.shares)
          worker.backward(head / p.kv_heads, list, block, (Real*)p.grad_key + i * a_head,
                          (Real*)p.grad_value + i * a_head);
    }
    M::end();
  }
}

// Nothing outside the tensors is read: a count or an entry out of range, or a block named twice.
bool malformed(const Problem& p) {
  const int64_t blocks = (p.n_queries + BLOCK - 1) / BLOCK, key_blocks = (p.n_keys + BLOCK - 1) / BLOCK;
  std::vector<int64_t> last(key_blocks, -1);
  for (int64_t i = 0; i < p.batch * p.lists * blocks; ++i) {
    if (p.counts[i] < 0 || p.counts[i] > p.list_width) return true;
    for (int64_t x = 0; x < p.counts[i]; ++x) {
      const int64_t entry = p.indices[i * p.list_width + x];
      if (entry < 0 || entry >= key_blocks || last[entry] == i) return true;
      last[entry] = i;
    }
  }
  return false;
}
bool malformed_pages(const Problem& p) {
  for (int64_t b = 0; b < p.batch; ++b) {
    if (p.lengths[b] < 0 || p.lengths[b] > p.list_width * p.page_size) return true;
    for (int64_t j = 0; j * p.page_size < p.lengths[b]; ++j) {
      const int64_t page = p.indices[b * p.list_width + j];
      if (page < 0 || page >= p.n_keys) return true;  // n_keys: pages in the pool
    }
  }
  return false;
}

template <class F> int run(const Problem& p, F&& work) {
  if (p.page_size ? malformed_pages(p) : malformed(p)) return 1;
#ifdef HAVE_TILES
  if (p.tiles && p.type == BFLOAT16) return work(Tiles()), 0;
#endif
  return p.type == DOUBLE ? work(Plain<double>()) : work(Plain<float>()), 0;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {
int64_t problem_bytes() { return sizeof(Problem); }
// Whether products of bfloat16 run in the matrix unit here.
int has_tiles() {
#ifdef HAVE_TILES
  const bool granted = Tiles::begin();
  if (granted) Tiles::end();
  return granted;
#else
  return 0;
#endif
}
// 0, or 1 for a malformed list or page table, before anything is computed.
int block_list_forward(const Problem* p) {
  return run(*p, [&](auto policy) { forward<decltype(policy)>(*p); });
}
int block_list_backward(const Problem* p) {
  return run(*p, [&](auto policy) { backward<decltype(policy)>(*p); });
}
}
#pragma GCC visibility pop
