// parallel/comm/all_to_all.h: exchange variable-sized row blocks between the ranks of one group. R
// = ranks in the group.
#pragma once

#include <cstdint>
#include <span>

#include "parallel/comm/comm.h"

namespace strait {

// Buffers must outlive the event; the counts are copied. Both sides know the counts; blocks of no
// rows cost no message. The block for oneself is copied. Cost per rank: at most R-1 messages,
// sum(send_rows_R) * row_bytes on the wire.  Source: DeepSeek-V3 report, section 3.2.2.
struct AllToAll {
  std::span<const std::byte>
      send;  // rows ordered by destination. REQUIRES: size == sum(send_rows_R) * row_bytes
  std::span<std::byte>
      recv;  // rows ordered by source. REQUIRES: size == sum(recv_rows_R) * row_bytes
  std::span<const int64_t> send_rows_R, recv_rows_R;
  int64_t row_bytes = 0;  // REQUIRES: > 0
};
OperationPtr all_to_all(const Channel& channel, const AllToAll& rows);

// Exchanges numbers: k = send_RK.size() / R for each rank. `recv_RK[p * k ...]` is what p sent to
// this rank. REQUIRES: both have the same size, a multiple of R. Cost: R-1 messages of 8k bytes.
OperationPtr all_to_all_counts(const Channel& channel, std::span<const int64_t> send_RK,
                               std::span<int64_t> recv_RK);

}  // namespace strait
