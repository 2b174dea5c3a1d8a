#include "launch/trainer/stop_signal.h"

#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/errors.h"

namespace strait {

StopSignal::StopSignal() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  file_ = ::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  STRAIT_CHECK(file_ >= 0, "signalfd");
}

StopSignal::~StopSignal() { ::close(file_); }

bool StopSignal::requested() {
  signalfd_siginfo info;
  while (::read(file_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) requested_ = true;
  return requested_;
}

}  // namespace strait
