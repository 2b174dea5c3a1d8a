// core/ops/cuda/kernels/launch.cuh: how the plain kernels are launched. Their files also compile
// for the CPU, where tests/gpu/fiber_launch.h says what a launch is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/ops/cuda/device.h"
#include "core/ops/math/scales.h"

#ifdef __CUDACC__
#define STRAIT_LAUNCH(kernel, blocks, threads, stream, ...)      \
  do {                                                           \
    (kernel)<<<(blocks), (threads), 0, (stream)>>>(__VA_ARGS__); \
    STRAIT_CUDA_CALL(cudaGetLastError());                        \
  } while (0)
#endif

namespace strait::cuda {

constexpr int kWarpLanes = 32;
constexpr int kRowThreads = 128;  // of kernels with a warp for each row
constexpr int kRowsPerBlock = kRowThreads / kWarpLanes;
constexpr int kChunk = 8;  // elements of a thread of the kernels that go over chunks of rows

inline void require(bool condition, const char* op, const std::string& message) {
  if (!condition) [[unlikely]]
    throw InternalError(std::string("[") + op + "] " + message);
}

// Blocks of threads for `rows` rows of `chunks` chunks each: a block lies in one row.
struct ChunkGrid {
  unsigned blocks_per_row = 0, blocks = 0;
  unsigned threads = 0;  // a multiple of 32

  ChunkGrid(int64_t rows, int64_t chunks, int64_t most_threads = 256)
      : threads(static_cast<unsigned>(
            std::min(most_threads, round_up(std::max<int64_t>(chunks, 1), kWarpLanes)))) {
    const int64_t of_row = ceil_div(chunks, threads), all = rows * of_row;
    require(all <= 0x7fffffff, "chunks", std::to_string(all) + " blocks are too many");
    blocks_per_row = static_cast<unsigned>(of_row);
    blocks = static_cast<unsigned>(all);
  }
};

inline unsigned warp_blocks(int64_t rows) {
  require(rows <= int64_t{kRowsPerBlock} * 0x7fffffff, "rows",
          std::to_string(rows) + " rows are too many");
  return static_cast<unsigned>(ceil_div(rows, kRowsPerBlock));
}

}  // namespace strait::cuda
