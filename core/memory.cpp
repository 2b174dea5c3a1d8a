#include "core/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <limits>
#include <string>

#include "core/errors.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace strait {
namespace {
constexpr int64_t kAlignment = 64;
constexpr int64_t kGuardBytes = int64_t{1} << 20;
#if defined(__SANITIZE_THREAD__)
// Of little address space; a mapping outside of it ends the process.
constexpr int64_t kMostReserved = int64_t{1} << 36;
#else
constexpr int64_t kMostReserved = std::numeric_limits<int64_t>::max();
#endif
}  // namespace

const char* name_of(Purpose purpose) {
  static constexpr const char* kNames[kNumPurposes] = {"weights",   "packed weights", "gradients",
                                                       "optimizer", "activations",    "routed",
                                                       "workspace", "communication",  "data"};
  return kNames[static_cast<int>(purpose)];
}

int64_t MemoryUse::total() const {
  int64_t sum = 0;
  for (int64_t value : bytes) sum += value;
  return sum;
}

Memory::Memory(Device device, int64_t reserve_bytes)
    : device_(device), reserve_bytes_(std::min(reserve_bytes, kMostReserved)) {
  if (device_ == Device::cpu) {
    // Machines may limit address space (ulimit -v, sanitizers): halve the wish until it is granted.
    void* base = MAP_FAILED;
    for (; reserve_bytes_ >= (int64_t{1} << 30); reserve_bytes_ /= 2) {
      base = mmap(nullptr, static_cast<size_t>(reserve_bytes_), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (base != MAP_FAILED) break;
    }
    if (base == MAP_FAILED) throw RecipeError("[memory] cannot reserve 1 GiB of address space");
    base_ = static_cast<std::byte*>(base);
    madvise(base_, static_cast<size_t>(reserve_bytes_), MADV_HUGEPAGE);
  }
  free_[0] = reserve_bytes_;
  by_size_.insert({reserve_bytes_, 0});
}

Memory::~Memory() {
  if (base_ != nullptr) {
    ASAN_UNPOISON_MEMORY_REGION(base_, guarded_);
    munmap(base_, static_cast<size_t>(reserve_bytes_));
  }
}

// With AddressSanitizer, whatever is not handed out is poisoned, up to a margin beyond the highest
// block: a byte of its shadow stands for eight of ours, so poisoning all of the range would cost
// more memory than there is.
void Memory::guard_up_to(int64_t offset) {
  const int64_t end = std::min(reserve_bytes_, offset + kGuardBytes);
  if (end <= guarded_) return;
  ASAN_POISON_MEMORY_REGION(base_ + guarded_, end - guarded_);
  guarded_ = end;
}

void Memory::account(Purpose purpose, int64_t bytes) {
  const auto slot = static_cast<size_t>(purpose);
  live_.bytes[slot] += bytes;
  if (live_.bytes[slot] > peaks_.bytes[slot]) peaks_.bytes[slot] = live_.bytes[slot];
  if (bytes > 0 && live_.total() > at_peak_.total()) at_peak_ = live_;
}

Memory::Block Memory::allocate(int64_t bytes, Purpose purpose) {
  const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (rounded == 0) return {};
  std::lock_guard lock(mutex_);
  const auto fit = by_size_.lower_bound({rounded, 0});
  if (fit == by_size_.end())
    throw RecipeError("[memory] no room for " + std::to_string(bytes) + " bytes of " +
                      name_of(purpose));
  const auto [free_bytes, offset] = *fit;
  by_size_.erase(fit);
  free_.erase(offset);
  if (free_bytes > rounded) {
    free_[offset + rounded] = free_bytes - rounded;
    by_size_.insert({free_bytes - rounded, offset + rounded});
  }
  account(purpose, rounded);
  if (offset + rounded > high_water_) high_water_ = offset + rounded;
  const bool untouched = base_ != nullptr && offset >= untouched_from_;
  untouched_from_ = std::max(untouched_from_, offset + rounded);
  std::byte* data = base_ == nullptr ? nullptr : base_ + offset;
  if (data != nullptr) {
    guard_up_to(offset + rounded);
    ASAN_UNPOISON_MEMORY_REGION(data, bytes);
  }
  return {offset, rounded, data, untouched};
}

void Memory::release(const Block& block, Purpose purpose) {
  if (block.bytes == 0) return;
  std::lock_guard lock(mutex_);
  account(purpose, -block.bytes);
  if (block.data != nullptr) ASAN_POISON_MEMORY_REGION(block.data, block.bytes);
  int64_t offset = block.offset, bytes = block.bytes;
  auto next = free_.lower_bound(offset);
  if (next != free_.end() && next->first == offset + bytes) {
    bytes += next->second;
    by_size_.erase({next->second, next->first});
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == offset) {
      offset = previous->first;
      bytes += previous->second;
      by_size_.erase({previous->second, previous->first});
      free_.erase(previous);
    }
  }
  free_[offset] = bytes;
  by_size_.insert({bytes, offset});
}

MemoryUse Memory::live() const {
  std::lock_guard lock(mutex_);
  return live_;
}
MemoryUse Memory::at_peak() const {
  std::lock_guard lock(mutex_);
  return at_peak_;
}
MemoryUse Memory::peak_by_purpose() const {
  std::lock_guard lock(mutex_);
  return peaks_;
}
int64_t Memory::high_water_bytes() const {
  std::lock_guard lock(mutex_);
  return high_water_;
}
void Memory::reset_peaks() {
  std::lock_guard lock(mutex_);
  at_peak_ = peaks_ = live_;
  // The highest block in use ends where the last free range begins, if that range reaches the end.
  high_water_ = reserve_bytes_;
  if (!free_.empty()) {
    const auto& [offset, bytes] = *free_.rbegin();
    if (offset + bytes == reserve_bytes_) high_water_ = offset;
  }
}

}  // namespace strait
