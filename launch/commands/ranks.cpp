#include "launch/commands/ranks.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "launch/trainer/agree.h"
#include "parallel/comm/local.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/self.h"
#include "parallel/program/execute.h"

namespace strait {
namespace {

// What launch/run reads, since mpirun may return a code of its own.
void leave_exit_code(int code) {
  const char* path = std::getenv("STRAIT_EXIT_CODE_FILE");
  if (path == nullptr) return;
  if (std::FILE* file = std::fopen(path, "a")) {
    std::fprintf(file, "%d\n", code);
    std::fclose(file);
  }
}

[[noreturn]] void end_process(int code) {
  leave_exit_code(code);
  std::fflush(stdout);
  std::fflush(stderr);
  // mpirun, when it is ending a job, drops what a rank has printed just before its own end.
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  std::_Exit(code);
}

void group_nodes(Comm& comm, int ranks_per_node) {
  if (ranks_per_node > 0) comm.group_nodes(ranks_per_node);
}

int run_under_mpirun(int ranks_per_node, const std::function<int(Comm&, Watch*)>& work) {
  std::unique_ptr<Comm> comm;
  std::unique_ptr<Watch> watch;
  try {
    comm = mpi_comm();
    group_nodes(*comm, ranks_per_node);
    watch = std::make_unique<Watch>(*comm, WatchSettings{.on_loss = print_error});
    const int code = work(*comm, watch.get());
    watch->close();
    watch.reset();
    comm.reset();
    leave_exit_code(code);
    return code;
  } catch (const ReportedElsewhere& error) {
    if (watch) watch->abandon(error.what());  // rank 0 prints what it is
    end_process(error.exit_code);
  } catch (const std::exception& error) {
    // Of several ranks that fail with the same text, as at a commit, one prints it.
    const std::string text = message_of(error);
    const bool of_task = dynamic_cast<const ThrownByTask*>(&error) != nullptr;
    const std::string place = watch && of_task ? watch->place() : "";
    if (!watch || watch->abandon(text)) print_error(place + text);
    end_process(exit_code_of(error));
  }
}

}  // namespace

void print_error(const std::string& text) {
  fmt::print(stderr, "strait: {}\n", text);
  std::fflush(stderr);
}

int report_failure(const std::exception& error) {
  if (under_mpirun()) run_under_mpirun(0, [](Comm&, Watch*) -> int { throw; });
  print_error(message_of(error));
  return exit_code_of(error);
}

int run_on_ranks(const RankOptions& options, const std::function<int(Comm&, Watch*)>& work) {
  if (under_mpirun()) {
    if (options.local_ranks > 1)
      throw RecipeError(
          "--local-ranks makes threads of one process, but mpirun has started several processes");
    return run_under_mpirun(options.ranks_per_node, work);
  }
  if (options.local_ranks <= 1) {
    const std::unique_ptr<Comm> comm = self_comm();
    group_nodes(*comm, options.ranks_per_node);
    return work(*comm, nullptr);
  }
  int code = 0;
  run_ranks(options.local_ranks, [&](Rank rank, Comm& comm) {
    group_nodes(comm, options.ranks_per_node);
    try {
      const int mine = work(comm, nullptr);
      if (rank.value == 0) code = mine;
    } catch (const ReportedElsewhere&) {  // rank 0 throws the error itself
    } catch (const NotFiniteError& error) {
      throw NotFiniteError(fmt::format("rank {}: {}", rank.value, error.what()));
    }
  });
  return code;
}

}  // namespace strait
