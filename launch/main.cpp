// launch/main.cpp: the `strait` binary. The only place that catches everything and picks the exit code:
// 0 done, 1 bug, 2 usage or recipe, 3 data or disk, 4 lost or silent peer, 5 numbers, 143 stopped after saving.
#include <exception>

#include "launch/command_line.h"
#include "launch/commands/ranks.h"
#include "launch/trainer/agree.h"

int main(int argc, char** argv) {
  try {
    return strait::run_command_line(argc, argv);
  } catch (const std::exception& error) {
    strait::print_error(error.what());
    return strait::exit_code_of(error);
  }
}
