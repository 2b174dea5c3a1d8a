// The functions of mpi.h in a build without MPI.
#include "core/errors.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/mpi_environment.h"
#include "parallel/comm/self.h"

namespace strait {

std::unique_ptr<Comm> mpi_comm(int64_t /*max_message_bytes*/) {
  if (const int ranks = launched_ranks().value_or(1); ranks > 1)
    throw RecipeError("started as one of " + std::to_string(ranks) +
                      " ranks, but this strait was built without MPI; install libopenmpi-dev and "
                      "build again, or start it without mpirun");
  return self_comm();
}

}  // namespace strait
