// tests/launch/bad_input_lab.h: the strait binary as a process, in a folder with a small corpus, a
// recipe, a trained run and an exported model that a test may damage; and tables of what it must
// say.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace strait::tests {

struct ProcessOptions {
  std::filesystem::path folder;      // where it runs
  int64_t file_size_limit = 0;       // bytes, stands for a full disk; 0: none
  std::string standard_output = {};  // a device or file; empty: kept
};

// strait with these arguments.
class Strait {
 public:
  Strait(const std::vector<std::string>& arguments, const ProcessOptions& options);
  ~Strait();
  Strait(const Strait&) = delete;
  Strait& operator=(const Strait&) = delete;

  void wait_for_output(const std::string& text);  // on stdout, or the end
  void send_signal(int signal) const;
  int code();                  // waits for the end; 128 + signal if one ended it
  std::string output() const;  // stdout so far
  std::string errors();        // stderr, after the end

 private:
  std::filesystem::path out_, err_;
  pid_t process_ = -1;
  int code_ = -1;
};

// A copy of what is made once for the program:
//   texts/*.txt text.txt   English words           corpus/   of texts, vocabulary 300
//   tiny.yaml              kTinyRecipe             runs/tiny steps 2 and 4 of it
//   model/                 its export
class Lab {
 public:
  Lab();
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // Every file and folder with what is in it.
  std::map<std::string, std::string> snapshot() const;

 private:
  std::filesystem::path folder_;
};

extern const std::string kTinyRecipe;
// Overrides with which it trains in FP8.
extern const std::vector<std::string> kFp8;

// train tiny.yaml --run runs/new --set ...
std::vector<std::string> train_new(const std::vector<std::string>& overrides = {});

// What a case does to its lab before strait runs.
using Change = std::function<void(const Lab&)>;
Change edit(const std::string& file, const std::string& from, const std::string& to);
Change write(const std::string& file, const std::string& content);
Change cut(const std::string& file, int64_t bytes);  // to so many; negative: so many less
Change flip(const std::string& file, int64_t offset);
Change flip_middle(const std::string& file);
Change overwrite_end(const std::string& file, const std::string& bytes);
Change remove(const std::string& path);
Change make_folder(const std::string& path);
Change copy(const std::string& from, const std::string& to);  // replaces what is there
Change run(const std::vector<std::string>& arguments);        // strait, and it must succeed
Change all(const std::vector<Change>& changes);

// One command and what must come of it.
struct Case {
  std::string name;
  std::vector<std::string> command;
  int code;
  std::string message;  // regular expression for all of stderr after "strait: "
  Change change = {};
  std::string may_change = {};  // regular expression of paths that may be new or different after it
  int64_t file_size_limit = 0;
};

// Runs each in a lab of its own: the exit code, the message and nothing else on stderr, and no file
// or folder new, different or gone but those that may.
void expect_all(const std::vector<Case>& cases);

}  // namespace strait::tests
