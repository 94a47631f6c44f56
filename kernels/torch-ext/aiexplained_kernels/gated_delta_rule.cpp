// The gated delta rule on a CPU, token by token, forward and backward.
//
//   S_t = e^g (I - beta k k') S_{t-1} + beta k v',   o = scale S_t' q        (beta: or plain k v')
#include "gated_delta_backward.h"
#include "gated_delta_forward.h"

namespace {

template <class Real> void forward(const Problem& p) {
  const int64_t heads = p.batch * p.heads;
  if (p.tokens == 1 && p.initial_state)
    run(p, heads, &Forward<Real>::step);
  else
    run(p, heads * Forward<Real>::groups(p), &Forward<Real>::work);
}
template <class Real> void backward(const Problem& p) {
  run(p, p.batch * p.heads * Backward<Real>::count(p), &Backward<Real>::work);
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {
int64_t problem_bytes() { return sizeof(Problem); }
// Parts in which slices of columns sum the gradients that they share.
int64_t gradient_parts(const Problem* p) {
  return p->type == DOUBLE ? Backward<double>::count(*p) : Backward<float>::count(*p);
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
