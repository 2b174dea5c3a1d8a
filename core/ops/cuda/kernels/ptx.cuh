// core/ops/cuda/kernels/ptx.cuh: Hopper's own instructions, each under its name: mbarrier, TMA,
// wgmma, setmaxnreg.
//
// The rules that the users of this file keep:
// - An mbarrier's phase starts at 0; mbarrier_wait(b, p) returns when the phase of parity p is
// over, so that a wait for
//   parity 1 on a fresh barrier returns at once. That is how a ring of stages starts empty.
// - TMA is asynchronous to ordinary stores: shared memory that threads wrote is given to it by
// fence_async_proxy() in
//   each writing thread, then a barrier among them, then the TMA instruction in one thread.
// - cp.async.bulk groups belong to the thread that committed them: the same thread waits.
// - wgmma reads its accumulator registers while it runs: pin() keeps the compiler from moving them.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace strait::cuda::ptx {

#define STRAIT_DEVICE __device__ __forceinline__

STRAIT_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// The block's dynamic shared memory.
STRAIT_DEVICE uint8_t* dynamic_shared() {
  extern __shared__ __align__(1024) uint8_t bytes[];
  return bytes;
}

// True in one lane of a converged warp.
STRAIT_DEVICE bool elect_one() {
  uint32_t elected;
  asm volatile(
      "{\n.reg .pred p;\n"
      "elect.sync _|p, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(elected));
  return elected != 0;
}

// ---- mbarrier

STRAIT_DEVICE void mbarrier_init(uint64_t* barrier, uint32_t num_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(num_arrivals));
}

// Makes initialised barriers visible to the async proxy.
STRAIT_DEVICE void mbarrier_fence_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// One arrival that also says how many bytes TMA will bring before the phase is over.
STRAIT_DEVICE void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}

STRAIT_DEVICE void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

STRAIT_DEVICE void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  }
}

// ---- TMA: boxes of 2D tensors; `inner` and `outer` are element coordinates of the box's first
// element. Outside of the tensor loads give zeros (and count as bytes), stores and additions do
// nothing.

STRAIT_DEVICE void tma_prefetch(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

STRAIT_DEVICE void tma_load(const CUtensorMap* map, uint64_t* barrier, void* to, int inner,
                            int outer) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4}], [%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(inner), "r"(outer)
      : "memory");
}

STRAIT_DEVICE void tma_store(const CUtensorMap* map, const void* from, int inner, int outer) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
      "r"(shared_address(from)), "r"(inner), "r"(outer)
      : "memory");
}

// Adds to what is there, in L2.
STRAIT_DEVICE void tma_add(const CUtensorMap* map, const void* from, int inner, int outer) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%2, %3}], [%1];" ::
          "l"(map),
      "r"(shared_address(from)), "r"(inner), "r"(outer)
      : "memory");
}

STRAIT_DEVICE void tma_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Until the source of every committed store has been read, and may be overwritten.
STRAIT_DEVICE void tma_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

// Until every committed store is done.
STRAIT_DEVICE void tma_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

STRAIT_DEVICE void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---- threads

template <int kRegisters>
STRAIT_DEVICE void registers_up() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
STRAIT_DEVICE void registers_down() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Barrier `id` (1..15; 0 is __syncthreads) among num_threads threads.
STRAIT_DEVICE void named_barrier(int id, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

// ---- wgmma

STRAIT_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
STRAIT_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
STRAIT_DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }
STRAIT_DEVICE void pin(float& value) { asm volatile("" : "+f"(value)::"memory"); }

// Bytes of K that one wgmma of 8-bit types takes, and what that adds to a descriptor (units of 16
// bytes).
constexpr int kWgmmaK = 32;
constexpr uint64_t kWgmmaKStep = kWgmmaK / 16;

// Descriptor of a K-major operand in shared memory: rows of 128 bytes under TMA's 128-byte swizzle,
// whose pattern of eight rows is 1,024 bytes. REQUIRES: `tile` at a multiple of 1,024.
STRAIT_DEVICE uint64_t wgmma_operand(const void* tile) {
  constexpr uint64_t kLeading = 1;            // unused with a swizzle
  constexpr uint64_t kEightRows = 1024 >> 4;  // from one group of eight rows to the next
  constexpr uint64_t kSwizzle128 = 1;
  return static_cast<uint64_t>((shared_address(tile) & 0x3ffff) >> 4) | kLeading << 16 |
         kEightRows << 32 | kSwizzle128 << 62;
}

#define STRAIT_F8(d, i)                                                                       \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])

// d[64 x n] = a[64 x 32] b[n x 32]^T (+ d if `accumulate`), E4M3, by the 128 threads of a
// warpgroup, which hold n / 2 elements each: n is 128 or 192. Thread t has rows r = 16 (t /
// 32) + t % 32 / 4 and r + 8, columns c = 8 i + 2 (t % 4) and c + 1: d[4i] = (r, c), d[4i+1] = (r,
// c+1), d[4i+2] = (r+8, c), d[4i+3] = (r+8, c+1).
STRAIT_DEVICE void wgmma_e4m3(float (&d)[64], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\n"
      "setp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, p, 1, 1;\n}"
      : STRAIT_F8(d, 0), STRAIT_F8(d, 8), STRAIT_F8(d, 16), STRAIT_F8(d, 24), STRAIT_F8(d, 32),
        STRAIT_F8(d, 40), STRAIT_F8(d, 48), STRAIT_F8(d, 56)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}
STRAIT_DEVICE void wgmma_e4m3(float (&d)[96], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\n"
      "setp.ne.b32 p, %98, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n192k32.f32.e4m3.e4m3 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
      "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
      "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95}, %96, %97, p, 1, 1;\n}"
      : STRAIT_F8(d, 0), STRAIT_F8(d, 8), STRAIT_F8(d, 16), STRAIT_F8(d, 24), STRAIT_F8(d, 32),
        STRAIT_F8(d, 40), STRAIT_F8(d, 48), STRAIT_F8(d, 56), STRAIT_F8(d, 64), STRAIT_F8(d, 72),
        STRAIT_F8(d, 80), STRAIT_F8(d, 88)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}
#undef STRAIT_F8

// Two 8x8 tiles of 16-bit elements, rows from lanes 0-7 and 8-15 of `to`; the inverse of an
// accumulator's spread.
STRAIT_DEVICE void store_matrix_x2(void* to, uint32_t upper, uint32_t lower) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(shared_address(to)),
               "r"(upper), "r"(lower)
               : "memory");
}

}  // namespace strait::cuda::ptx
