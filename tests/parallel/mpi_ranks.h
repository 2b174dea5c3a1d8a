// tests/parallel/mpi_ranks.h: a test program that starts itself as several ranks with launch/run.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace strait::tests {

class MpiRanks {
 public:
  // Runs launch/run with these arguments; STRAIT is this program unless `settings`, further
  // variables of the environment, says otherwise.
  explicit MpiRanks(const std::vector<std::string>& arguments,
                    const std::vector<std::pair<std::string, std::string>>& settings = {});
  ~MpiRanks();
  MpiRanks(const MpiRanks&) = delete;
  MpiRanks& operator=(const MpiRanks&) = delete;

  void wait_for_output(const std::string& text, int times);  // or until the end
  void send_signal(int signal) const;                        // to launch/run
  int code();  // waits for the end; 128 + signal if launch/run was ended by one
  const std::string& output() const { return output_; }  // both streams of all ranks
  bool says(const std::string& text) const { return output_.find(text) != std::string::npos; }

 private:
  bool read_more();
  pid_t process_ = -1;
  int pipe_ = -1;
  int code_ = -1;
  std::string output_;
};

// What launch/ does at the end of a rank: the code goes to the file that launch/run reads, too.
[[noreturn]] void end_rank(int code);

}  // namespace strait::tests
