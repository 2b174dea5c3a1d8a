// tests/parallel/comm_checks.h: what every backend must do, with closed-form expected values. Used
// with `local` by comm_local_test.cpp and, under mpirun, with `mpi` by comm_mpi_test.cpp. Each
// check runs on every rank.
#pragma once

#include "parallel/comm/comm.h"

namespace strait::tests {

void check_all_to_all(Comm& comm, int64_t most_rows, int64_t row_bytes);
void check_all_to_all_counts(Comm& comm);
// Sizes are elements of the whole vector. Sums are compared bit by bit with a recursive tree over
// the ranks.
void check_all_reduce(Comm& comm, int64_t size);
void check_reduce_scatter(Comm& comm, int64_t size);
void check_all_gather(Comm& comm, int64_t most_bytes);
void check_broadcast(Comm& comm, int64_t bytes);
void check_barrier(Comm& comm);
void check_gather_strings(Comm& comm);
void check_exchange_both_ways(Comm& comm, int64_t bytes);
void check_lanes_are_independent(Comm& comm);
void check_groups_of_a_mesh(Comm& comm);
void check_all(Comm& comm, int64_t large);

}  // namespace strait::tests
