#include "tests/launch/bad_input_lab.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <random>
#include <regex>
#include <thread>

namespace strait::tests {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

fs::path fresh_folder() {
  static int count = 0;
  const fs::path folder =
      fs::path(testing::TempDir()) /
      ("strait-bad-input-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

// Words from a short list, so that few tokens and steps do.
std::string english(int lines, unsigned seed) {
  static const std::vector<std::string> words = {
      "the", "of",   "and",  "a",    "to",  "in",   "is",   "you", "that", "it",
      "he",  "was",  "for",  "on",   "are", "as",   "with", "his", "they", "at",
      "be",  "this", "have", "from", "or",  "one",  "had",  "by",  "word", "but",
      "not", "what", "all",  "were", "we",  "when", "your", "can", "said", "there"};
  std::mt19937 generator(seed);
  std::string text;
  for (int line = 0; line < lines; ++line) {
    for (int word = 0; word < 12; ++word) text += words[generator() % words.size()] + " ";
    text += line % 5 == 4 ? "\n\n" : "\n";
  }
  return text;
}

void must_succeed(const std::vector<std::string>& arguments, const fs::path& folder) {
  Strait strait(arguments, {.folder = folder});
  if (strait.code() != 0) ADD_FAILURE() << arguments.front() << ": " << strait.errors();
}

// Made once, removed when the program ends.
struct Original {
  fs::path folder = fresh_folder();

  Original() {
    fs::create_directories(folder / "texts");
    for (unsigned file = 0; file < 8; ++file)
      std::ofstream(folder / "texts" / (std::to_string(file) + ".txt")) << english(40, file);
    std::ofstream(folder / "text.txt") << english(6, 100);
    std::ofstream(folder / "tiny.yaml") << kTinyRecipe;
    must_succeed({"data", "prepare", "--out", "corpus", "--vocab", "300", "texts"}, folder);
    must_succeed({"train", "tiny.yaml"}, folder);
    must_succeed({"export", "--from", "runs/tiny", "--to", "model"}, folder);
  }
  ~Original() { fs::remove_all(folder); }
};

const Original& original() {
  static const Original made;
  return made;
}

}  // namespace

const std::string kTinyRecipe =
    "model:\n"                         // 1
    "  vocab_size: 300\n"              // 2
    "  hidden_size: 32\n"              // 3
    "  num_hidden_layers: 2\n"         // 4
    "  first_k_dense_replace: 1\n"     // 5
    "  num_attention_heads: 2\n"       // 6
    "  kv_lora_rank: 16\n"             // 7
    "  qk_nope_head_dim: 12\n"         // 8
    "  qk_rope_head_dim: 4\n"          // 9
    "  v_head_dim: 12\n"               // 10
    "  max_position_embeddings: 64\n"  // 11
    "  intermediate_size: 48\n"        // 12
    "  moe_intermediate_size: 16\n"    // 13
    "  n_routed_experts: 8\n"          // 14
    "  num_experts_per_tok: 2\n"       // 15
    "schedule:\n"                      // 16
    "  peak_lr: 1e-3\n"                // 17
    "train:\n"                         // 18
    "  steps: 4\n"                     // 19
    "  global_batch: 4\n"              // 20
    "  sequence_length: 16\n"          // 21
    "  save_every: 2\n"                // 22
    "  threads: 1\n"                   // 23
    "data:\n"                          // 24
    "  corpus: corpus\n"               // 25
    "run:\n"                           // 26
    "  dir: runs\n";                   // 27
const std::vector<std::string> kFp8 = {"train.precision=fp8", "model.qk_nope_head_dim=16",
                                       "model.qk_rope_head_dim=16", "model.v_head_dim=16"};

std::vector<std::string> train_new(const std::vector<std::string>& overrides) {
  std::vector<std::string> command = {"train", "tiny.yaml", "--run", "runs/new"};
  for (const std::string& text : overrides) command.insert(command.end(), {"--set", text});
  return command;
}

Strait::Strait(const std::vector<std::string>& arguments, const ProcessOptions& options) {
  const fs::path streams = fresh_folder();
  out_ = options.standard_output.empty() ? streams / "out" : fs::path(options.standard_output);
  err_ = streams / "err";
  std::vector<char*> argv{const_cast<char*>("strait")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  process_ = fork();
  if (process_ != 0) return;
  const int in = open("/dev/null", O_RDONLY);
  const int out = open(out_.c_str(), O_WRONLY | O_CREAT, 0644);
  const int err = open(err_.c_str(), O_WRONLY | O_CREAT, 0644);
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  if (chdir(options.folder.c_str()) != 0) _exit(126);
  if (options.file_size_limit > 0) {
    const auto bytes = static_cast<rlim_t>(options.file_size_limit);
    const rlimit limit = {bytes, bytes};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  execv(STRAIT_BINARY, argv.data());
  _exit(127);
}

Strait::~Strait() {
  if (code_ < 0) kill(process_, SIGKILL);
  code();
  fs::remove_all(err_.parent_path());
}

void Strait::wait_for_output(const std::string& text) {
  while (output().find(text) == std::string::npos) {
    siginfo_t ended{};
    waitid(P_PID, static_cast<id_t>(process_), &ended, WEXITED | WNOHANG | WNOWAIT);
    if (ended.si_pid == process_) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void Strait::send_signal(int signal) const { kill(process_, signal); }

int Strait::code() {
  if (code_ >= 0) return code_;
  int status = 0;
  while (waitpid(process_, &status, 0) < 0 && errno == EINTR) continue;
  code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return code_;
}

std::string Strait::output() const { return fs::is_regular_file(out_) ? read(out_) : ""; }

std::string Strait::errors() {
  code();
  return read(err_);
}

Lab::Lab() : folder_(fresh_folder()) {
  fs::copy(original().folder, folder_, fs::copy_options::recursive);
}

Lab::~Lab() { fs::remove_all(folder_); }

std::map<std::string, std::string> Lab::snapshot() const {
  std::map<std::string, std::string> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder_))
    found[fs::relative(entry.path(), folder_).string()] =
        entry.is_regular_file() ? read(entry.path()) : "not a file";
  return found;
}

Change edit(const std::string& file, const std::string& from, const std::string& to) {
  return [=](const Lab& lab) {
    std::string text = read(lab.path(file));
    const size_t at = text.find(from);
    if (at == std::string::npos) {
      ADD_FAILURE() << file << " has no '" << from << "'";
      return;
    }
    std::ofstream(lab.path(file), std::ios::binary) << text.replace(at, from.size(), to);
  };
}

Change write(const std::string& file, const std::string& content) {
  return [=](const Lab& lab) { std::ofstream(lab.path(file), std::ios::binary) << content; };
}

Change cut(const std::string& file, int64_t bytes) {
  return [=](const Lab& lab) {
    const auto size = static_cast<int64_t>(fs::file_size(lab.path(file)));
    fs::resize_file(lab.path(file), static_cast<uintmax_t>(bytes < 0 ? size + bytes : bytes));
  };
}

Change flip(const std::string& file, int64_t offset) {
  return [=](const Lab& lab) {
    std::fstream stream(lab.path(file), std::ios::binary | std::ios::in | std::ios::out);
    stream.seekg(offset);
    const auto byte = static_cast<char>(stream.get() ^ 0x10);
    stream.seekp(offset);
    stream.put(byte);
  };
}

Change flip_middle(const std::string& file) {
  return [=](const Lab& lab) {
    flip(file, static_cast<int64_t>(fs::file_size(lab.path(file))) / 2)(lab);
  };
}

Change overwrite_end(const std::string& file, const std::string& bytes) {
  return [=](const Lab& lab) {
    std::fstream stream(lab.path(file), std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(-static_cast<int64_t>(bytes.size()), std::ios::end);
    stream << bytes;
  };
}

Change remove(const std::string& path) {
  return [=](const Lab& lab) { EXPECT_GT(fs::remove_all(lab.path(path)), 0U) << path; };
}

Change make_folder(const std::string& path) {
  return [=](const Lab& lab) { fs::create_directories(lab.path(path)); };
}

Change copy(const std::string& from, const std::string& to) {
  return [=](const Lab& lab) {
    fs::remove_all(lab.path(to));
    fs::copy(lab.path(from), lab.path(to), fs::copy_options::recursive);
  };
}

Change run(const std::vector<std::string>& arguments) {
  return [=](const Lab& lab) { must_succeed(arguments, lab.folder()); };
}

Change all(const std::vector<Change>& changes) {
  return [=](const Lab& lab) {
    for (const Change& change : changes) change(lab);
  };
}

namespace {

// The paths that are new, different or gone.
std::vector<std::string> differences(const std::map<std::string, std::string>& before,
                                     const std::map<std::string, std::string>& after) {
  std::vector<std::string> paths;
  for (const auto& [path, content] : after) {
    const auto old = before.find(path);
    if (old == before.end() || old->second != content) paths.push_back(path);
  }
  for (const auto& [path, content] : before)
    if (!after.contains(path)) paths.push_back(path);
  return paths;
}

void expect(const Case& c) {
  SCOPED_TRACE(c.name);
  const Lab lab;
  if (c.change) c.change(lab);
  const auto before = lab.snapshot();
  Strait strait(c.command, {.folder = lab.folder(), .file_size_limit = c.file_size_limit});
  EXPECT_EQ(strait.code(), c.code);
  const std::string errors = strait.errors();
  EXPECT_TRUE(std::regex_match(errors, std::regex("strait: " + c.message + "\n")))
      << errors << "  is not\nstrait: " << c.message;
  for (const std::string& path : differences(before, lab.snapshot()))
    EXPECT_TRUE(!c.may_change.empty() && std::regex_match(path, std::regex(c.may_change)))
        << path << " has changed";
}

}  // namespace

void expect_all(const std::vector<Case>& cases) {
  for (const Case& c : cases) expect(c);
}

}  // namespace strait::tests
