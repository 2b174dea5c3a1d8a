// launch/commands/ranks.h: runs a command's work on the ranks this process is part of.
#pragma once

#include <functional>

#include "parallel/comm/comm.h"
#include "parallel/comm/watch.h"

namespace strait {

struct RankOptions {
  int local_ranks = 1;     // threads of this process as ranks
  int ranks_per_node = 0;  // every so many ranks count as one node; 0: as the hosts are named
};

// `work` gets this rank's Comm and, with several processes, the watch over its peers (else null),
// and returns the exit code. Under mpirun the ranks are its processes; else there is one, or
// `local_ranks` threads of this process. Alone or with threads, exceptions of `work` pass through.
// Under mpirun a failing rank tells its peers and its line is printed once; the process then ends
// with the error's exit code without returning. Errors: RecipeError for local_ranks > 1 under
// mpirun, and for nodes that the ranks do not fill.
int run_on_ranks(const RankOptions& options, const std::function<int(Comm&, Watch*)>& work);

// For an error that has ended the program before or outside of run_on_ranks: prints its line, once
// where mpirun has started several processes that all fail, and returns its exit code or, under
// mpirun, ends the process with it. REQUIRES: called where `error` is being handled.
int report_failure(const std::exception& error);

// One line on stderr: "strait: ...".
void print_error(const std::string& text);

}  // namespace strait
