// One exchange of an MoE layer, forward and backward, between the ranks of an MPI job, and what it
// sent to other nodes: "sent BYTES to other nodes, floor BYTES", all ranks together. With an
// argument, rows to the experts and their gradients are FP8.
#include <fmt/format.h>

#include <cstdio>
#include <exception>

#include "parallel/comm/all_reduce.h"
#include "parallel/comm/mpi.h"
#include "tests/parallel/exchange_checks.h"

int main(int argc, char**) {
  using namespace strait;
  try {
    const auto comm = mpi_comm();
    const tests::ExchangeCase c{.tokens = 512,
                                .hidden = 2048,
                                .num_groups = 4,
                                .topk_group = 2,
                                .compute = DType::bf16,
                                .wire = DType::bf16,
                                .fp8 = argc > 1};
    const tests::ExchangeResult result = tests::run_exchange(c, comm.get(), true, 4);
    std::vector<int64_t> sums{result.far_bytes, result.floor_bytes};
    const Channel host = comm->channel(LinkLane::host, comm->world());
    host.enqueue(all_reduce_sum(host, std::span<int64_t>(sums))).wait();
    if (comm->rank().value == 0) fmt::print("sent {} to other nodes, floor {}\n", sums[0], sums[1]);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
