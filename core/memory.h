// core/memory.h: one heap per rank, with every byte accounted by purpose.
//
// A Memory hands out offsets in one range by best fit and merges neighbours when they are freed. On
// the `cpu` device the range is reserved virtual memory, so a page costs RAM only once it is
// touched; on `meta` there is no memory behind the offsets and the same sequence of calls gives the
// same peaks. That is how a dry run predicts the memory table of a real run. Thread-safe. Blocks
// are aligned to 64 bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>

namespace strait {

enum class Device : uint8_t { cpu, meta };

enum class Purpose : uint8_t {
  weights,         // parameters in the compute dtype
  packed_weights,  // the same, in the order the GEMM reads them
  gradients,       // FP32 gradient sums
  optimizer,       // FP32 master weights and moments of this rank's shard
  activations,     // values kept from forward to backward, and gradients on their way
  routed,          // rows of tokens sent to this rank's experts
  workspace,       // scratch of one op
  communication,   // send and receive buffers
  data,            // token batches
};
inline constexpr int kNumPurposes = 9;
const char* name_of(Purpose purpose);

struct MemoryUse {
  std::array<int64_t, kNumPurposes> bytes{};
  int64_t total() const;
};

class Memory {
 public:
  explicit Memory(Device device, int64_t reserve_bytes = int64_t{1} << 40);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  struct Block {
    int64_t offset = 0;
    int64_t bytes = 0;          // rounded up to the alignment
    std::byte* data = nullptr;  // null on `meta`
    bool untouched = false;  // on `cpu`: no block has been here before, so its bytes are zero and
                             // cost no RAM yet
  };
  // Contents are not initialised. Throws RecipeError when the range is exhausted.
  Block allocate(int64_t bytes, Purpose purpose);
  void release(const Block& block, Purpose purpose);

  Device device() const { return device_; }
  MemoryUse live() const;
  MemoryUse at_peak() const;          // by purpose, at the moment the total was largest
  MemoryUse peak_by_purpose() const;  // each purpose at its own largest
  int64_t high_water_bytes() const;  // end of the highest block ever handed out: what RSS can reach
  void reset_peaks();                // peaks and high water start again from what is live now

 private:
  void account(Purpose purpose, int64_t bytes);
  void guard_up_to(int64_t offset);

  const Device device_;
  std::byte* base_ = nullptr;
  int64_t reserve_bytes_ = 0;
  mutable std::mutex mutex_;
  std::map<int64_t, int64_t> free_;                // offset -> bytes
  std::set<std::pair<int64_t, int64_t>> by_size_;  // {bytes, offset}
  MemoryUse live_, at_peak_, peaks_;
  int64_t high_water_ = 0;
  int64_t untouched_from_ = 0;  // like high_water_, but never lowered
  int64_t guarded_ =
      0;  // with AddressSanitizer: bytes from the start whose access is checked so far
};

}  // namespace strait
