// The pieces of core/ops/cuda/kernels/ptx.cuh one by one, with data that shows where each byte
// went.

#include <cuda_bf16.h>

#include "core/ops/cuda/kernels/ptx.cuh"
#include "core/ops/cuda/tensor_map.h"
#include "tests/gpu/fp8_data.h"
#include "tests/gpu/gpu_test.h"

namespace strait::cuda {
namespace {

constexpr int kThreads = 128;

class Ptx : public GpuTest {};

// Where byte `col` of row `row` of a box with rows of 128 bytes stands in shared memory: eight
// chunks of 16 bytes a row, and their numbers are changed by the row's, modulo 8.
int swizzled(int row, int col) { return row * 128 + ((col / 16) ^ (row % 8)) * 16 + col % 16; }

// No two bytes near each other are equal.
uint8_t pattern(int64_t row, int64_t col) {
  return static_cast<uint8_t>(row * 37 + col * 11 + row / 7);
}

__global__ void load_kernel(const __grid_constant__ CUtensorMap map, int inner, int outer,
                            int bytes, uint8_t* out) {
  extern __shared__ __align__(1024) uint8_t box[];
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::mbarrier_fence_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect(&barrier, bytes);
    ptx::tma_load(&map, &barrier, box, inner, outer);
  }
  ptx::mbarrier_wait(&barrier, 0);
  for (int i = threadIdx.x; i < bytes; i += kThreads) out[i] = box[i];
}

TEST_F(Ptx, TmaLoadSwizzlesAndFillsWithZeros) {
  const int64_t rows = 100, cols = 208;
  std::vector<uint8_t> matrix(rows * cols);
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = 0; c < cols; c++) matrix[r * cols + c] = pattern(r, c);
  }
  const Buffer data = upload(matrix), out = poisoned(64 * 128);
  const CUtensorMap map = make_tensor_map({TmaType::e4m3, data.data(), rows, cols, 64, 128, true});
  for (const auto& [outer, inner] : {std::pair(0, 0), std::pair(16, 64), std::pair(64, 128)}) {
    load_kernel<<<1, kThreads, 64 * 128>>>(map, inner, outer, 64 * 128, out.as<uint8_t>());
    STRAIT_CUDA_CALL(cudaGetLastError());
    const std::vector<uint8_t> box = download<uint8_t>(out);
    std::vector<float> got(64 * 128), want(64 * 128);
    for (int r = 0; r < 64; r++) {
      for (int c = 0; c < 128; c++) {
        const bool inside = outer + r < rows && inner + c < cols;
        got[r * 128 + c] = box[swizzled(r, c)];
        want[r * 128 + c] = inside ? pattern(outer + r, inner + c) : 0;
      }
    }
    EXPECT_EQ(differences(got, want, 64, 128), "")
        << "box at row " << outer << ", column " << inner;
  }
}

// One 64 x 128 x 128 product from shared memory that TMA filled; sums in the order of
// wgmma_e4m3's comment.
__global__ void wgmma_kernel(const __grid_constant__ CUtensorMap a,
                             const __grid_constant__ CUtensorMap b, int num_steps, float* out) {
  extern __shared__ __align__(1024) uint8_t tiles[];
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::mbarrier_fence_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect(&barrier, (64 + 128) * 128);
    ptx::tma_load(&a, &barrier, tiles, 0, 0);
    ptx::tma_load(&b, &barrier, tiles + 64 * 128, 0, 0);
  }
  ptx::mbarrier_wait(&barrier, 0);
  float sums[64];
#pragma unroll
  for (int i = 0; i < 64; i++) sums[i] = 0;
#pragma unroll
  for (int i = 0; i < 64; i++) ptx::pin(sums[i]);
  ptx::wgmma_fence();
  for (int step = 0; step < num_steps; step++) {
    ptx::wgmma_e4m3(sums, ptx::wgmma_operand(tiles) + step * ptx::kWgmmaKStep,
                    ptx::wgmma_operand(tiles + 64 * 128) + step * ptx::kWgmmaKStep, step > 0);
  }
  ptx::wgmma_commit();
#pragma unroll
  for (int i = 0; i < 64; i++) ptx::pin(sums[i]);
  ptx::wgmma_wait();
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
  for (int i = 0; i < 16; i++) {
    float* to = out + row * 128 + i * 8 + column;
    to[0] = sums[4 * i];
    to[1] = sums[4 * i + 1];
    to[8 * 128] = sums[4 * i + 2];
    to[8 * 128 + 1] = sums[4 * i + 3];
  }
}

TEST_F(Ptx, WgmmaMultipliesOneTile) {
  const Fp8Matrix a = make_matrix(64, 128, ScaleLayout::rows_1x128, Data::exact, 1);
  const Fp8Matrix b = make_matrix(128, 128, ScaleLayout::rows_1x128, Data::exact, 2);
  const Buffer a_q = upload(a.q), b_q = upload(b.q);
  const CUtensorMap a_map = make_tensor_map({TmaType::e4m3, a_q.data(), 64, 128, 64, 128, true});
  const CUtensorMap b_map = make_tensor_map({TmaType::e4m3, b_q.data(), 128, 128, 128, 128, true});
  for (int num_steps : {1, 2, 4}) {
    const Buffer out = poisoned(64 * 128 * 4);
    wgmma_kernel<<<1, kThreads, (64 + 128) * 128>>>(a_map, b_map, num_steps, out.as<float>());
    STRAIT_CUDA_CALL(cudaGetLastError());
    std::vector<float> want(64 * 128);
    for (int r = 0; r < 64; r++) {
      for (int c = 0; c < 128; c++) {
        for (int k = 0; k < 32 * num_steps; k++) {
          want[r * 128 + c] += from_e4m3(a.q[r * 128 + k]) * from_e4m3(b.q[c * 128 + k]);
        }
      }
    }
    EXPECT_EQ(differences(download<float>(out), want, 64, 128), "")
        << "the first " << 32 * num_steps << " of K";
  }
}

// An accumulator whose element (r, c) is 128 r + c (exact in BF16 up to 256: modulo 251), through
// stmatrix and TMA.
__global__ void store_kernel(const __grid_constant__ CUtensorMap map) {
  extern __shared__ __align__(1024) __nv_bfloat16 stored[];  // 64 x 64
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row = warp * 16 + lane / 4, column = lane % 4 * 2, address_row = warp * 16 + lane % 16;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const auto value = [&](int r, int c) { return static_cast<float>((r * 128 + c) % 251); };
    const int c = i * 8 + column;
    const __nv_bfloat162 upper = __floats2bfloat162_rn(value(row, c), value(row, c + 1));
    const __nv_bfloat162 lower = __floats2bfloat162_rn(value(row + 8, c), value(row + 8, c + 1));
    ptx::store_matrix_x2(stored + address_row * 64 + ((i ^ address_row % 8) * 8),
                         *reinterpret_cast<const uint32_t*>(&upper),
                         *reinterpret_cast<const uint32_t*>(&lower));
  }
  ptx::fence_async_proxy();
  ptx::named_barrier(1, kThreads);
  if (threadIdx.x == 0) {
    ptx::tma_store(&map, stored, 64, 32);
    ptx::tma_commit();
    ptx::tma_wait();
  }
}

TEST_F(Ptx, StoreMatrixAndTmaStoreReachTheirPlaces) {
  // The box at (32, 64) of an 80 x 120 matrix: 48 rows and 56 columns of it are inside.
  const int64_t rows = 80, cols = 120;
  const Buffer out = poisoned(rows * cols * 2);
  store_kernel<<<1, kThreads, 64 * 64 * 2>>>(
      make_tensor_map({TmaType::bf16, out.data(), rows, cols, 64, 64, true}));
  STRAIT_CUDA_CALL(cudaGetLastError());
  const std::vector<float> all = floats_of_bf16(download<uint16_t>(out));
  std::vector<float> got(rows * cols), want(rows * cols);
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = 0; c < cols; c++) {
      const bool inside = r >= 32 && c >= 64;
      want[r * cols + c] = inside ? static_cast<float>(((r - 32) * 128 + c - 64) % 251) : -1;
      got[r * cols + c] =
          std::isnan(all[r * cols + c]) ? -1 : all[r * cols + c];  // -1: not written
    }
  }
  EXPECT_EQ(differences(got, want, rows, cols), "");
}

__global__ void add_kernel(const __grid_constant__ CUtensorMap map) {
  extern __shared__ __align__(1024) float values[];  // 32 x 128
  for (int i = threadIdx.x; i < 32 * 128; i += kThreads) values[i] = static_cast<float>(i);
  ptx::fence_async_proxy();
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::tma_add(&map, values, 128, 16);
    ptx::tma_commit();
    ptx::tma_wait();
  }
}

TEST_F(Ptx, TmaAddAdds) {
  const int64_t rows = 40, cols = 200;  // 24 rows and 72 columns of the box are inside
  const Buffer out = upload(std::vector<float>(rows * cols, 0.5f));
  const CUtensorMap map = make_tensor_map({TmaType::f32, out.data(), rows, cols, 32, 128, false});
  for (int i = 0; i < 2; i++)
    add_kernel<<<2, kThreads, 32 * 128 * 4>>>(map);  // four additions in all
  STRAIT_CUDA_CALL(cudaGetLastError());
  std::vector<float> want(rows * cols, 0.5f);
  for (int64_t r = 16; r < rows; r++) {
    for (int64_t c = 128; c < cols; c++) {
      want[r * cols + c] += 4 * static_cast<float>((r - 16) * 128 + c - 128);
    }
  }
  EXPECT_EQ(differences(download<float>(out), want, rows, cols), "");
}

}  // namespace
}  // namespace strait::cuda
