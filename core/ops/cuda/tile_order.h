// core/ops/cuda/tile_order.h: in which order a GEMM's output tiles are made.
#pragma once

#include "core/ops/math/host_device.h"

namespace strait::cuda {

struct TilePosition {
  int m, n;
};

// Tiles run down strips of kStripRows tiles in m, so that the tiles that run at one time (a chip
// holds 132) need few distinct rows and columns, and those stay in L2: 8 x 16 tiles read 24 strips
// of operand, 4 x 32 would read 36.
constexpr int kStripRows = 8;

// Position of `tile` among num_m x num_n. REQUIRES: 0 <= tile < num_m * num_n.
STRAIT_HD inline TilePosition tile_at(int tile, int num_m, int num_n) {
  const int strip = tile / (kStripRows * num_n), in_strip = tile % (kStripRows * num_n);
  const int left = num_m - strip * kStripRows, rows = left < kStripRows ? left : kStripRows;
  return {strip * kStripRows + in_strip % rows, in_strip / rows};
}

}  // namespace strait::cuda
