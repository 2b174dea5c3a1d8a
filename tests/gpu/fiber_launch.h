// tests/gpu/fiber_launch.h: runs a CUDA kernel's own source on the CPU. Every thread of a block is
// a fiber, and blocks run one after another. It has thread and block indices, static shared memory,
// __syncthreads, __syncwarp, warp shuffles, ballots and atomicAdd of int: what plain kernels use.
// It has no clusters, and tensor cores and TMA only with ptx_cpu.h.
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
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#undef __global__
#undef __device__
#undef __shared__
#undef __launch_bounds__
#undef __grid_constant__
#define __launch_bounds__(...)
#define __grid_constant__
#define __global__ inline
#define __device__
#define __shared__ static  // blocks run one at a time, so one copy is the block's

namespace strait::cuda::fiber {

constexpr int kWarp = 32, kNamedBarriers = 16;

struct Barrier {
  int arrived = 0, round = 0;
};

struct Block {
  dim3 index;
  Barrier all, named[kNamedBarriers];
  std::vector<Barrier> warps;
  std::vector<uint8_t> memory;  // dynamic shared memory, with room to align it
  uint8_t* dynamic_shared = nullptr;
};

struct Fiber {
  ucontext_t context{};
  std::vector<char> stack = std::vector<char>(64 << 10);
  dim3 index;
  int thread = 0;  // in its block
  Block* block = nullptr;
  bool done = false;
  bool polls = false;                // waits for something that others change
  const Barrier* barrier = nullptr;  // waits for its `round` to end
  int round = 0;
  uint64_t exchanged = 0;
};

struct Shape {
  dim3 grid, block;
  size_t dynamic_bytes = 0;
};

struct Launch {
  Shape shape;
  std::function<void()> kernel;
  Block running;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<std::function<void()>>
      pending;  // what the chip does on its own: some time, in any order
  ucontext_t scheduler{};
  std::exception_ptr error;  // of a thread
  int current = 0;
  bool moved = false;  // since the flag was cleared, something other than a look whether to go on
};

inline Launch*& launch() {
  static Launch* current = nullptr;
  return current;
}
inline Fiber& self() { return *launch()->fibers[launch()->current]; }
inline int lane() { return self().thread % kWarp; }

inline void run_fiber() {
  try {
    launch()->kernel();
  } catch (...) {  // no stack of a fiber's stands below this one
    launch()->error = std::current_exception();
  }
  self().done = true;
  swapcontext(&self().context, &launch()->scheduler);
}

inline void wait(Barrier& barrier, int num_threads) {
  if (++barrier.arrived == num_threads) {
    barrier.arrived = 0;
    barrier.round++;
    return;
  }
  Fiber& me = self();
  me.barrier = &barrier;
  me.round = barrier.round;
  swapcontext(&me.context, &launch()->scheduler);
}

// Until ready() is true.
template <class Ready>
void wait_until(const Ready& ready) {
  Fiber& me = self();
  if (ready()) return;
  me.polls = true;
  do {
    swapcontext(&me.context, &launch()->scheduler);
  } while (!ready());
  me.polls = false;
  launch()->moved = true;
}

inline int block_threads() {
  const dim3& block = launch()->shape.block;
  return static_cast<int>(block.x * block.y * block.z);
}
inline int warp_threads() {
  return std::min(kWarp, block_threads() - self().thread / kWarp * kWarp);
}
inline void sync_warp() { wait(self().block->warps[self().thread / kWarp], warp_threads()); }
inline void sync_block() { wait(self().block->all, block_threads()); }

template <class T>
T exchange(T value, int from_lane) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  std::memcpy(&self().exchanged, &value, sizeof value);
  sync_warp();
  if (from_lane >= 0 && from_lane < warp_threads()) {
    const int fiber = launch()->current - lane() + from_lane;
    std::memcpy(&value, &launch()->fibers[fiber]->exchanged, sizeof value);
  }
  sync_warp();
  return value;
}

// One of the pending, at random; false if there is none.
inline bool run_pending(Launch& l, std::mt19937& engine) {
  if (l.pending.empty()) return false;
  std::swap(l.pending[engine() % l.pending.size()], l.pending.back());
  const std::function<void()> work = std::move(l.pending.back());
  l.pending.pop_back();
  work();
  l.moved = true;
  return true;
}

inline void run_block(Launch& l, unsigned at, std::mt19937& engine) {
  const dim3& grid = l.shape.grid;
  const dim3& threads = l.shape.block;
  const auto num_threads = static_cast<int>(l.fibers.size());
  Block& block = l.running = {};
  block.index = {at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y};
  block.warps.assign((num_threads + kWarp - 1) / kWarp, {});
  block.memory.assign(l.shape.dynamic_bytes + 1024, 0xee);
  const auto address = reinterpret_cast<uintptr_t>(block.memory.data());
  block.dynamic_shared = block.memory.data() + (1024 - address % 1024) % 1024;
  for (int i = 0; i < num_threads; i++) {
    Fiber& f = *l.fibers[i];
    f.done = f.polls = false;
    f.barrier = nullptr;
    f.thread = i;
    f.block = &block;
    f.index = {i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y};
    getcontext(&f.context);
    f.context.uc_stack = {f.stack.data(), 0, f.stack.size()};
    makecontext(&f.context, run_fiber, 0);
  }
  std::vector<int> order(l.fibers.size());
  std::iota(order.begin(), order.end(), 0);
  const unsigned pace =
      64u << engine() % 3 * 3;  // of what the chip does on its own: from quick to slow
  for (size_t left = order.size(); left > 0 || !l.pending.empty();) {
    std::shuffle(order.begin(), order.end(), engine);
    l.moved = false;
    for (int i : order) {
      if (engine() % pace == 0) run_pending(l, engine);
      Fiber& f = *l.fibers[i];
      if (f.done || (f.barrier != nullptr && f.barrier->round == f.round)) continue;
      f.barrier = nullptr;
      l.current = i;
      l.moved = l.moved || !f.polls;
      swapcontext(&l.scheduler, &f.context);
      if (l.error) std::rethrow_exception(l.error);
      left -= f.done;
    }
    if (!l.moved && !run_pending(l, engine)) {
      throw std::logic_error("[fiber] threads wait for what the others do not do");
    }
  }
}

// Runs kernel() for every thread of every block; blocks too come in an order of the seed.
inline void run(const Shape& shape, unsigned seed, std::function<void()> kernel) {
  Launch l;
  l.shape = shape;
  l.kernel = std::move(kernel);
  const unsigned num_fibers = shape.block.x * shape.block.y * shape.block.z;
  for (unsigned i = 0; i < num_fibers; i++) l.fibers.push_back(std::make_unique<Fiber>());
  launch() = &l;
  std::mt19937 engine(seed);
  std::vector<unsigned> blocks(shape.grid.x * shape.grid.y * shape.grid.z);
  std::iota(blocks.begin(), blocks.end(), 0u);
  std::shuffle(blocks.begin(), blocks.end(), engine);
  for (unsigned block : blocks) run_block(l, block, engine);
  launch() = nullptr;
}

inline unsigned next_seed() {
  static unsigned seed = 0;
  return ++seed;
}

}  // namespace strait::cuda::fiber

// What core/ops/cuda/kernels/launch.cuh launches; every launch in an order of its own.
#define STRAIT_LAUNCH(kernel, blocks, threads, stream, ...)                                       \
  do {                                                                                            \
    static_cast<void>(stream);                                                                    \
    ::strait::cuda::fiber::run({dim3(blocks), dim3(threads)}, ::strait::cuda::fiber::next_seed(), \
                               [&] { kernel(__VA_ARGS__); });                                     \
  } while (0)

#define threadIdx (::strait::cuda::fiber::self().index)
#define blockIdx (::strait::cuda::fiber::self().block->index)
#define blockDim (::strait::cuda::fiber::launch()->shape.block)
#define gridDim (::strait::cuda::fiber::launch()->shape.grid)

inline void __syncthreads() { ::strait::cuda::fiber::sync_block(); }
inline void __syncwarp(unsigned = ~0u) { ::strait::cuda::fiber::sync_warp(); }
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return ::strait::cuda::fiber::exchange(value, lane);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return ::strait::cuda::fiber::exchange(value, ::strait::cuda::fiber::lane() ^ mask);
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  unsigned lanes = 0;
  for (int lane = 0; lane < ::strait::cuda::fiber::warp_threads(); lane++) {
    lanes |= ::strait::cuda::fiber::exchange(unsigned{predicate}, lane) << lane;
  }
  return lanes;
}
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int atomicAdd(int* to, int value) {  // fibers change only where they wait
  const int before = *to;
  *to += value;
  return before;
}
template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}
