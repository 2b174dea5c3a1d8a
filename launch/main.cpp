// launch/main.cpp: the `strait` binary. The only place that catches everything and picks the exit
// code: 0 done, 1 bug, 2 usage or recipe, 3 data or disk, 4 lost or silent peer, 5 numbers, 143
// stopped after saving.
#include <csignal>
#include <cstdio>
#include <exception>
#include <system_error>

#include "launch/command_line.h"
#include "launch/commands/ranks.h"

namespace {

constexpr int kDataOrDisk = 3;

// What a command prints is its result: it must have arrived.
int code_with_output(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  strait::print_error("standard output: cannot be written");
  return code == 0 ? kDataOrDisk : code;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ,
              SIG_IGN);  // a limit on the size of files is an error of write(), as a full disk is
  try {
    return code_with_output(strait::run_command_line(argc, argv));
  } catch (const std::system_error& error) {
    if (std::ferror(stdout) != 0) return code_with_output(0);  // {fmt} has thrown it
    return strait::report_failure(error);
  } catch (const std::exception& error) {
    return strait::report_failure(error);
  }
}
