// parallel/comm/mpi.h: ranks as processes, started by mpirun or srun.
//
// MPI is initialised by mpi_comm(), used by the communication thread of the Comm alone, and
// finalised by the destructor of the Comm, on the thread that called mpi_comm(): at most one such
// Comm in the life of a process. Each lane has a communicator of its own. Nothing spins: blocked
// ranks sleep between polls, so they may outnumber the cores.
//
// The end. Destroyed after a good run (nothing pending, no failure, no exception on its way up) the
// Comm finalises MPI, which waits, asleep, for all other ranks. Otherwise it leaves MPI as it is
// and does not wait for anyone; the caller then has to end the process with std::_Exit(code) after
// it has told the others (Watch::abandon) and flushed its output, because exit handlers of MPI
// might wait for the lost peer. mpirun ends what is left of the job.
#pragma once

#include <memory>

#include "parallel/comm/comm.h"

namespace strait {

// True if this process was started as one of several by mpirun or srun (the environment says so),
// or as a world of one by mpirun. Cheap, does not initialise MPI.
bool under_mpirun();

// Joins the world of this job; collective over all of its ranks. Errors: RecipeError if this
// program was built without MPI and has peers, or was started by the launcher of another MPI;
// CommError if MPI reports one. Built without MPI, a world of one rank is self_comm().
// `max_message_bytes` is for tests of splitting. REQUIRES: it is at most 1 GiB.
//
// Longer messages travel in pieces that Open MPI sends at once. It would ask the receiver first for
// a larger one, and the answer stands in the socket behind what the receiver sends itself: two
// ranks that send to each other at the same time would take turns, at half the rate of the link.
inline constexpr int64_t kMpiPieceBytes = int64_t{1} << 20;
std::unique_ptr<Comm> mpi_comm(int64_t max_message_bytes = kMpiPieceBytes);

}  // namespace strait
