#include "parallel/comm/mpi_environment.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "parallel/comm/mpi.h"

namespace strait {
namespace {

std::optional<int> number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (!text) return std::nullopt;
  int number = 0;
  const char* end = text + std::strlen(text);
  const auto [at, error] = std::from_chars(text, end, number);
  if (error != std::errc{} || at != end || number < 1) return std::nullopt;
  return number;
}

}  // namespace

std::optional<int> launched_ranks() {
  if (const auto ranks = number_in("OMPI_COMM_WORLD_SIZE")) return ranks;  // Open MPI's mpirun
  if (const auto ranks = number_in("PMI_SIZE")) return ranks;  // MPICH's mpiexec, srun --mpi=pmi2
  // srun --mpi=pmix. Alone, the step's size says nothing: a batch script has one, too.
  if (std::getenv("PMIX_RANK")) return number_in("SLURM_STEP_NUM_TASKS");
  return std::nullopt;
}

bool under_mpirun() { return launched_ranks().has_value() || std::getenv("PMIX_RANK"); }

}  // namespace strait
