// parallel/comm/mpi_environment.h: what the launcher of the ranks has left in the environment. No
// MPI is needed to read it.
#pragma once

#include <optional>

namespace strait {

// Number of ranks according to mpirun, mpiexec or srun; nothing if none of them started this
// process or it does not say.
std::optional<int> launched_ranks();

}  // namespace strait
