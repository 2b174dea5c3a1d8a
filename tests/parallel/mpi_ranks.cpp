#include "mpi_ranks.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>

namespace strait::tests {
namespace {

std::string this_program() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  return {path, static_cast<size_t>(length)};
}

int times_in(const std::string& whole, const std::string& part) {
  int times = 0;
  for (size_t at = whole.find(part); at != std::string::npos; at = whole.find(part, at + 1))
    ++times;
  return times;
}

}  // namespace

MpiRanks::MpiRanks(const std::vector<std::string>& arguments,
                   const std::vector<std::pair<std::string, std::string>>& settings) {
  const std::string self = this_program();
  std::vector<char*> argv{const_cast<char*>(STRAIT_LAUNCH_RUN)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
  process_ = fork();
  if (process_ == 0) {
    setenv("STRAIT", self.c_str(), 1);
    for (const auto& [name, value] : settings) setenv(name.c_str(), value.c_str(), 1);
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(ends[1]);
  pipe_ = ends[0];
}

MpiRanks::~MpiRanks() { code(); }

bool MpiRanks::read_more() {
  char buffer[4096];
  ssize_t got = 0;
  do got = read(pipe_, buffer, sizeof buffer);
  while (got < 0 && errno == EINTR);
  if (got <= 0) return false;
  output_.append(buffer, static_cast<size_t>(got));
  return true;
}

void MpiRanks::wait_for_output(const std::string& text, int times) {
  while (times_in(output_, text) < times && read_more()) continue;
}

void MpiRanks::send_signal(int signal) const { kill(process_, signal); }

int MpiRanks::code() {
  if (code_ >= 0) return code_;
  while (read_more()) continue;
  close(pipe_);
  int status = 0;
  waitpid(process_, &status, 0);
  code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return code_;
}

void end_rank(int code) {
  if (const char* path = std::getenv("STRAIT_EXIT_CODE_FILE"))
    std::ofstream(path, std::ios::app) << code << std::endl;
  std::fflush(stdout);
  // mpirun, when it ends a job, drops what a rank printed just before its end.
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  std::_Exit(code);
}

}  // namespace strait::tests
