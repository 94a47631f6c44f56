// Products with ternary weights, packed four to a byte, on a CPU.
//
//   y = sum over groups of scale * (sum over the group of t x),   t in {-1, 0, 1}
#include "ternary_backward.h"
#include "ternary_float.h"
#include "ternary_int8.h"
#include "ternary_tiles.h"

namespace {

constexpr int64_t FEWEST = 6;  // rows of x for which the matrix unit is worth its bytes

template <class Real> int int8(const Problem& p) {
#ifdef HAVE_BYTE_TILES
  if (p.rows >= FEWEST && Tiles::begin()) {
    ManyTokens<Real>{p}.linear();
    return 0;
  }
#endif
  linear_int8<Real>(p);
  return 0;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {
int64_t problem_bytes() { return sizeof(Problem); }
int ternary_linear_native(const Problem* p) {
  p->type == DOUBLE ? Float<double>(*p).linear() : Float<float>(*p).linear();
  return 0;
}
int ternary_linear_int8(const Problem* p) {
  return p->type == DOUBLE ? int8<double>(*p) : int8<float>(*p);
}
int ternary_linear_backward(const Problem* p) {
  p->type == DOUBLE ? Backward<double>(*p).backward() : Backward<float>(*p).backward();
  return 0;
}
}
#pragma GCC visibility pop
