// tests/gpu/fiber_launch.h: runs a CUDA kernel's own source on the CPU. Every thread of a block is
// a fiber, and blocks run one after another. It has thread and block indices, static shared memory,
// __syncthreads, __syncwarp and warp shuffles: what plain kernels use. It has no tensor cores, TMA
// or clusters.
//
// Fibers change only where they wait, and take turns in an order that differs with the seed: a
// missing __syncthreads shows in some order, and a barrier that not all threads reach is an error.
// Include this before the kernel's source. One launch at a time in a process.
#pragma once

#include <cuda_runtime_api.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#undef __global__
#undef __device__
#undef __shared__
#define __global__ inline
#define __device__
#define __shared__ static  // blocks run one at a time, so one copy is the block's

namespace strait::cuda::fiber {

constexpr int kWarp = 32;

struct Fiber {
  ucontext_t context{};
  std::vector<char> stack = std::vector<char>(64 << 10);
  dim3 index;
  bool done = false;
  const void* waits_for = nullptr;  // a Barrier, whose round it waits to end
  int round = 0;
  uint64_t exchanged = 0;
};

struct Barrier {
  int arrived = 0, round = 0;
};

struct Launch {
  dim3 grid, block, block_index;
  std::function<void()> kernel;
  std::vector<std::unique_ptr<Fiber>> fibers;
  Barrier all;
  std::vector<Barrier> warps;
  ucontext_t scheduler{};
  int current = 0;
};

inline Launch*& launch() {
  static Launch* current = nullptr;
  return current;
}
inline Fiber& self() { return *launch()->fibers[launch()->current]; }

inline void run_fiber() {
  launch()->kernel();
  self().done = true;
  swapcontext(&self().context, &launch()->scheduler);
}

inline void wait(Barrier& barrier, int num_threads) {
  if (++barrier.arrived == num_threads) {
    barrier.arrived = 0;
    barrier.round++;
    return;
  }
  self().waits_for = &barrier;
  self().round = barrier.round;
  swapcontext(&self().context, &launch()->scheduler);
}

inline int warp_threads() {
  const int first = launch()->current / kWarp * kWarp;
  return std::min(kWarp, static_cast<int>(launch()->fibers.size()) - first);
}
inline void sync_warp() { wait(launch()->warps[launch()->current / kWarp], warp_threads()); }
inline void sync_block() { wait(launch()->all, static_cast<int>(launch()->fibers.size())); }

template <class T>
T exchange(T value, int lane) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  std::memcpy(&self().exchanged, &value, sizeof value);
  sync_warp();
  if (lane >= 0 && lane < warp_threads()) {
    std::memcpy(&value, &launch()->fibers[launch()->current / kWarp * kWarp + lane]->exchanged,
                sizeof value);
  }
  sync_warp();
  return value;
}

inline void run_block(Launch& l, std::mt19937& engine) {
  const auto num_threads = static_cast<int>(l.fibers.size());
  for (int i = 0; i < num_threads; i++) {
    Fiber& f = *l.fibers[i];
    f.done = false;
    f.waits_for = nullptr;
    f.index = {i % l.block.x, i / l.block.x % l.block.y, i / l.block.x / l.block.y};
    getcontext(&f.context);
    f.context.uc_stack = {f.stack.data(), 0, f.stack.size()};
    makecontext(&f.context, run_fiber, 0);
  }
  l.all = {};
  l.warps.assign((num_threads + kWarp - 1) / kWarp, {});
  std::vector<int> order(num_threads);
  std::iota(order.begin(), order.end(), 0);
  for (int left = num_threads; left > 0;) {
    std::shuffle(order.begin(), order.end(), engine);
    bool moved = false;
    for (int i : order) {
      Fiber& f = *l.fibers[i];
      const auto* barrier = static_cast<const Barrier*>(f.waits_for);
      if (f.done || (barrier != nullptr && barrier->round == f.round)) continue;
      f.waits_for = nullptr;
      l.current = i;
      swapcontext(&l.scheduler, &f.context);
      moved = true;
      left -= f.done;
    }
    if (!moved)
      throw std::logic_error("[fiber] threads wait at a barrier that the others do not reach");
  }
}

// Runs kernel() for every thread of every block; blocks too come in an order of the seed.
inline void run(dim3 grid, dim3 block, unsigned seed, std::function<void()> kernel) {
  Launch l;
  l.grid = grid;
  l.block = block;
  l.kernel = std::move(kernel);
  for (unsigned i = 0; i < block.x * block.y * block.z; i++)
    l.fibers.push_back(std::make_unique<Fiber>());
  launch() = &l;
  std::mt19937 engine(seed);
  std::vector<unsigned> blocks(grid.x * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), 0u);
  std::shuffle(blocks.begin(), blocks.end(), engine);
  for (unsigned b : blocks) {
    l.block_index = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    run_block(l, engine);
  }
  launch() = nullptr;
}

}  // namespace strait::cuda::fiber

#define threadIdx (::strait::cuda::fiber::self().index)
#define blockIdx (::strait::cuda::fiber::launch()->block_index)
#define blockDim (::strait::cuda::fiber::launch()->block)
#define gridDim (::strait::cuda::fiber::launch()->grid)

inline void __syncthreads() { ::strait::cuda::fiber::sync_block(); }
inline void __syncwarp(unsigned = ~0u) { ::strait::cuda::fiber::sync_warp(); }
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return ::strait::cuda::fiber::exchange(value, lane);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return ::strait::cuda::fiber::exchange(value,
                                         (::strait::cuda::fiber::launch()->current % 32) ^ mask);
}
