// What products with packed ternary weights share: the arguments, and the layout of the weights.
//
// A run of 128 weights of a row is 32 bytes: byte i holds the weights i, i + 32, i + 64 and i + 96,
// from the low bits up, each plus 1. One shift and one mask so make 32 weights that lie side by
// side: a plane.
#pragma once
#include <algorithm>

#include "matmul.h"
#include "rows.h"

namespace {

constexpr int RUN = 128, RUN_BYTES = 32, PLANES = 4, PLANE = RUN / PLANES;
constexpr int TILE = 64;     // rows of the weight in a task
constexpr int AHEAD = 4096;  // packed bytes that are asked for before they are needed; rows adjoin

struct Problem {
  int64_t type, rows, columns, outputs, group_size, threads;
  const char* x;  // (rows, columns), with x_row elements from row to row
  int64_t x_row;
  const uint8_t* packed;  // (outputs, 32 * runs)
  const float* scale;     // (outputs, groups)
  char* out;              // (rows, outputs)

  int64_t runs() const { return (columns + RUN - 1) / RUN; }
  int64_t groups() const { return (columns + group_size - 1) / group_size; }
  int64_t element() const { return type == DOUBLE ? 8 : type == FLOAT ? 4 : 2; }
  int64_t tiles() const { return (outputs + TILE - 1) / TILE; }
  int tile_rows(int64_t tile) const { return (int)std::min<int64_t>(TILE, outputs - tile * TILE); }
  const uint8_t* packed_row(int64_t n) const { return packed + n * runs() * RUN_BYTES; }

  // `count` numbers of a row of x in the type of the arithmetic, and zeros up to `padded` numbers.
  template <class Real> void read_row(int64_t m, Real* to, int64_t count, int64_t padded) const {
    read(to, x + m * x_row * element(), type, (int)count);
    std::fill(to + count, to + padded, Real(0));
  }
  template <class Real> void write_part(int64_t at, const Real* from, int64_t count) const {
    write(out + at * element(), from, type, (int)count, Real(1));
  }
  // Ask for the memory of some outputs of token m, which are to be written soon.
  void expect(int64_t m, int64_t output) const {
    const char* at = out + (m * outputs + output) * element();
    __builtin_prefetch(at, 1);
    __builtin_prefetch(at + 64, 1);
  }
  // Of token m, the outputs of a tile.
  template <class Real> void write_tile(int64_t m, int64_t tile, const Real* from) const {
    write_part(m * outputs + tile * TILE, from, tile_rows(tile));
  }
};

}  // namespace
