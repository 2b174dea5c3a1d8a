// launch/command_line.h: the words and flags of `strait`, and the command they call.
#pragma once

namespace strait {

// Runs the command that the arguments name and returns its exit code. --help prints and returns 0;
// a wrong command line throws RecipeError, as does a command of one process that mpirun has started
// several times. Exceptions of the command pass through.
int run_command_line(int argc, char** argv);

}  // namespace strait
