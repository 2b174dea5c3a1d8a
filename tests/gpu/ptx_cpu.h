// tests/gpu/ptx_cpu.h: core/ops/cuda/kernels/ptx.cuh with bodies for the CPU, on fibers: what each
// instruction does, as the PTX manual says it. TMA moves its boxes some time after it was asked and
// in any order; wgmma reads its operands when it is waited for. So a wait that a kernel lacks shows
// as a wrong result. Fences have no effect, and none is missed.
#pragma once

#include "tests/gpu/fiber_launch.h"
//
#include <cuda.h>

#include <map>

#include "core/ops/cuda/tensor_map.h"
#include "core/ops/math/fp8.h"

#define STRAIT_DEVICE inline

namespace strait::cuda {

// A TMA map that these bodies read.
inline CUtensorMap make_cpu_tensor_map(const TmaMatrix& matrix) {
  CUtensorMap map{};
  static_assert(sizeof matrix <= sizeof map);
  std::memcpy(&map, &matrix, sizeof matrix);
  return map;
}

}  // namespace strait::cuda

namespace strait::cuda::ptx {

using fiber::launch;
using fiber::self;

inline uint8_t* dynamic_shared() { return self().block->dynamic_shared; }
inline bool elect_one() { return fiber::lane() == 0; }

// An mbarrier has 8 bytes: what the phase still waits for, and what the next phase will.
struct MBarrier {
  int16_t arrivals, pending;
  int32_t bytes_and_phase;  // twice the bytes that are missing, plus the phase's parity

  bool parity() const { return (bytes_and_phase & 1) != 0; }
  void add(int num_arrivals, int bytes) {
    pending = static_cast<int16_t>(pending - num_arrivals);
    bytes_and_phase += 2 * bytes;
    if (pending < 0)
      throw std::logic_error("[ptx] more arrivals at an mbarrier than it was initialised for");
    if (pending == 0 && bytes_and_phase / 2 == 0) {
      pending = arrivals;
      bytes_and_phase ^= 1;
    }
  }
};
static_assert(sizeof(MBarrier) == sizeof(uint64_t));
inline MBarrier& mbarrier(uint64_t* barrier) { return *reinterpret_cast<MBarrier*>(barrier); }

inline void mbarrier_init(uint64_t* barrier, uint32_t num_arrivals) {
  mbarrier(barrier) = {static_cast<int16_t>(num_arrivals), static_cast<int16_t>(num_arrivals), 0};
}
inline void mbarrier_fence_init() {}
inline void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
  mbarrier(barrier).bytes_and_phase += 2 * static_cast<int>(bytes);
  mbarrier(barrier).add(1, 0);
}
inline void mbarrier_arrive(uint64_t* barrier) { mbarrier(barrier).add(1, 0); }
inline void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  fiber::wait_until([&] { return mbarrier(barrier).parity() != (parity != 0); });
}

// The box's bytes one by one: where each stands in shared memory, and in the matrix (null:
// outside).
template <class Visit>
void for_box(const CUtensorMap& map, uint8_t* box, int inner, int outer, const Visit& visit) {
  TmaMatrix m;
  std::memcpy(static_cast<void*>(&m), &map, sizeof m);
  const int size = m.type == TmaType::e4m3 ? 1 : m.type == TmaType::bf16 ? 2 : 4;
  auto* data = static_cast<uint8_t*>(const_cast<void*>(m.data));
  for (int r = 0; r < m.box_rows; r++) {
    for (int c = 0; c < m.box_cols; c++) {
      int64_t at = (static_cast<int64_t>(r) * m.box_cols + c) * size;
      // The swizzle changes bits 4-6 of the address by bits 7-9.
      if (m.swizzle) {
        const auto address = reinterpret_cast<uintptr_t>(box + at);
        at +=
            static_cast<int64_t>(address ^ (address >> 7 & 7) << 4) - static_cast<int64_t>(address);
      }
      const bool inside =
          outer + r >= 0 && outer + r < m.rows && inner + c >= 0 && inner + c < m.cols;
      visit(box + at, inside ? data + ((outer + r) * m.cols + inner + c) * size : nullptr, size);
    }
  }
}

inline int bytes_of_box(const CUtensorMap& map) {
  TmaMatrix m;
  std::memcpy(static_cast<void*>(&m), &map, sizeof m);
  return m.box_rows * m.box_cols * (m.type == TmaType::e4m3 ? 1 : m.type == TmaType::bf16 ? 2 : 4);
}

inline void tma_load(const CUtensorMap* map, uint64_t* barrier, void* to, int inner, int outer) {
  auto* box = static_cast<uint8_t*>(to);
  launch()->pending.emplace_back([map = *map, box, barrier, inner, outer] {
    for_box(map, box, inner, outer, [](uint8_t* shared, const uint8_t* global, int size) {
      for (int i = 0; i < size; i++) shared[i] = global != nullptr ? global[i] : 0;
    });
    mbarrier(barrier).add(0, -bytes_of_box(map));
  });
}

// Stores that a thread has asked for and that have not been done.
inline std::map<const fiber::Fiber*, int>& stores() {
  static std::map<const fiber::Fiber*, int> all;
  return all;
}
template <class Visit>
void tma_write(const CUtensorMap* map, const void* from, int inner, int outer, Visit visit) {
  auto* box = static_cast<uint8_t*>(const_cast<void*>(from));
  const fiber::Fiber* me = &self();
  stores()[me]++;
  launch()->pending.emplace_back([map = *map, box, inner, outer, visit, me] {
    for_box(map, box, inner, outer, visit);
    stores()[me]--;
  });
}
inline void tma_store(const CUtensorMap* map, const void* from, int inner, int outer) {
  tma_write(map, from, inner, outer, [](const uint8_t* shared, uint8_t* global, int size) {
    if (global != nullptr) std::memcpy(global, shared, size);
  });
}
inline void tma_add(const CUtensorMap* map, const void* from, int inner, int outer) {
  tma_write(map, from, inner, outer, [](const uint8_t* shared, uint8_t* global, int) {
    float sum = 0, value = 0;
    if (global == nullptr) return;
    std::memcpy(&sum, global, 4);
    std::memcpy(&value, shared, 4);
    sum += value;
    std::memcpy(global, &sum, 4);
  });
}
inline void tma_commit() {}
inline void tma_wait() {
  const fiber::Fiber* me = &self();
  fiber::wait_until([=] { return stores()[me] == 0; });
}
inline void tma_wait_read() { tma_wait(); }
inline void fence_async_proxy() {}

template <int kRegisters>
void registers_up() {}
template <int kRegisters>
void registers_down() {}
inline void named_barrier(int id, int num_threads) {
  fiber::wait(self().block->named[id], num_threads);
}

constexpr int kWgmmaK = 32;
constexpr uint64_t kWgmmaKStep = kWgmmaK / 16;

// The address of an operand from the start of the block's shared memory, in units of 16 bytes.
inline uint64_t wgmma_operand(const void* tile) {
  const auto offset = static_cast<uint64_t>(static_cast<const uint8_t*>(tile) - dynamic_shared());
  if (offset % 1024 != 0)
    throw std::logic_error("[ptx] a wgmma operand that is not at a multiple of 1024");
  return offset / 16;
}

inline uint8_t wgmma_element(uint64_t operand, int row, int k) {
  const auto address = reinterpret_cast<uintptr_t>(dynamic_shared() + operand * 16 + row * 128 + k);
  return *reinterpret_cast<const uint8_t*>(address ^ (address >> 7 & 7) << 4);
}

inline std::map<const fiber::Fiber*, std::vector<std::function<void()>>>& products() {
  static std::map<const fiber::Fiber*, std::vector<std::function<void()>>> all;
  return all;
}
template <size_t kSums>
void wgmma_e4m3(float (&d)[kSums], uint64_t a, uint64_t b, bool accumulate) {
  products()[&self()].emplace_back([&d, a, b, accumulate] {
    const int thread = self().thread % 128, row = thread / 32 * 16 + thread % 32 / 4,
              column = thread % 4 * 2;
    static const std::vector<float> value = [] {
      std::vector<float> values(256);
      for (int i = 0; i < 256; i++) values[i] = from_e4m3(static_cast<uint8_t>(i));
      return values;
    }();
    for (int i = 0; i < static_cast<int>(kSums); i++) {
      const int r = row + i / 2 % 2 * 8, c = i / 4 * 8 + column + i % 2;
      float sum = accumulate ? d[i] : 0;
      for (int k = 0; k < kWgmmaK; k++)
        sum += value[wgmma_element(a, r, k)] * value[wgmma_element(b, c, k)];
      d[i] = sum;
    }
  });
}
// These are .sync: a warp's lanes are together after each.
inline void wgmma_fence() { fiber::sync_warp(); }
inline void wgmma_commit() { fiber::sync_warp(); }
inline void wgmma_wait() {
  for (auto& product : products()[&self()]) product();
  products()[&self()].clear();
  fiber::sync_warp();
}
inline void pin(float&) {}

// After a launch that ended in an exception: what its fibers had under way.
inline void forget() {
  stores().clear();
  products().clear();
}

inline void store_matrix_x2(void* to, uint32_t upper, uint32_t lower) {
  const int lane = fiber::lane();
  const auto address = reinterpret_cast<uint64_t>(to);
  auto* upper_row = reinterpret_cast<uint8_t*>(fiber::exchange(address, lane / 4));
  auto* lower_row = reinterpret_cast<uint8_t*>(fiber::exchange(address, 8 + lane / 4));
  std::memcpy(upper_row + lane % 4 * 4, &upper, 4);
  std::memcpy(lower_row + lane % 4 * 4, &lower, 4);
}

}  // namespace strait::cuda::ptx
