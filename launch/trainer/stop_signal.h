// launch/trainer/stop_signal.h: SIGUSR1 and SIGTERM as a question instead of an interruption.
#pragma once

namespace strait {

// Blocks both signals for this thread and all it starts later. Make it before any thread, so in
// main().
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  bool requested();  // one has arrived; never waits

 private:
  int file_ = -1;
  bool requested_ = false;
};

}  // namespace strait
