// What the strait binary says to a bad recipe, command line, text or place to write to: one message
// on stderr, the right exit code, and everything else as it was. Rules by the hundred are tested
// where they live (tests/recipes, tests/data); here one of each kind goes through the whole
// program. Damaged files: bad_input_files_test.cpp; several ranks: bad_input_mpi_test.cpp.
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>

#include "tests/launch/bad_input_lab.h"

namespace strait::tests {
namespace {

// Of a run that has begun: what is written before the first checkpoint.
const std::string kBegun =
    "runs/new(/checkpoints|/\\.lock|/metrics\\.jsonl|/recipe\\.resolved\\.yaml)?";

std::vector<Case> of_recipes() {
  const auto changed = [](const std::string& name, const std::string& from, const std::string& to,
                          const std::string& message) {
    return Case{name, train_new(), 2, message, edit("tiny.yaml", from, to)};
  };
  const auto whole = [](const std::string& name, const std::string& text,
                        const std::string& message) {
    return Case{name, train_new(), 2, message, write("tiny.yaml", text)};
  };
  return {
      changed("unknown key", "n_routed_experts", "n_routed_expert",
              "tiny.yaml:14: unknown key 'n_routed_expert' in 'model'; did you mean "
              "'n_routed_experts'\\?"),
      changed("mistyped value", "hidden_size: 32", "hidden_size: wide",
              "tiny.yaml:3: model.hidden_size: expected a whole number, got 'wide'"),
      changed("doubled key", "num_hidden_layers: 2", "hidden_size: 64",
              "tiny.yaml:4: key 'hidden_size' is here a second time; the first is at tiny.yaml:3\n"
              "tiny.yaml:1: missing key 'model.num_hidden_layers': .*"),
      changed("doubled section", "schedule:", "train: {micro_batch: 2}\nschedule:",
              "tiny.yaml:19: key 'train' is here a second time; the first is at tiny.yaml:16"),
      changed("out of range", "hidden_size: 32", "hidden_size: 0",
              "tiny.yaml:3: model.hidden_size: 0 channels is out of range \\(at least 1, .*\\)"),
      changed("octal", "steps: 4", "steps: 010",
              "tiny.yaml:19: train.steps: expected a whole number, got '010': a number does not "
              "start with 0 .*"),
      changed("huge", "steps: 4", "steps: " + std::string(5000, '9'),
              "tiny.yaml:19: train.steps: '9{57}\\.\\.\\.' does not fit a 64-bit number"),
      changed("not a number", "1e-3", ".nan",
              "tiny.yaml:17: schedule.peak_lr: expected a finite number, got '.nan'"),
      changed("not YAML", "schedule:", "schedule: [}", "tiny.yaml:16:12: not YAML: .*"),
      changed("a tab", "  steps: 4", "\t steps: 4",
              "tiny.yaml:19:\\d+: not YAML: .*; the line is indented by a tab, YAML wants spaces"),
      changed("not UTF-8", "dir: runs", "dir: caf\xE9",
              "tiny.yaml:27: not UTF-8: byte 0xe9 at offset \\d+"),
      changed("two documents", "schedule:", "---\nschedule:",
              "tiny.yaml: a recipe is one YAML document, this file has more \\(a line '---'\\)"),
      changed("several at once", "hidden_size: 32\n  num_hidden_layers: 2",
              "hidden_size: 3x\n  num_hidden_layers: -2",
              "tiny.yaml:3: model.hidden_size: expected a whole number, got '3x'\n"
              "tiny.yaml:4: model.num_hidden_layers: -2 layers is out of range .*"),
      whole("empty", "", "tiny.yaml: expected a mapping with sections like 'model:', got nothing"),
      whole("a list", "- 1\n", "tiny.yaml:1: expected a mapping .*, got a list"),
      whole("UTF-16", "\xFF\xFEm\0o\0",
            "tiny.yaml:1: not UTF-8: byte 0xff at offset 0; it looks like UTF-16"),
      whole("deep", std::string(100'000, '['), "tiny.yaml:1:\\d+: not YAML: .*"),
      whole("circle", "extends: tiny.yaml\n",
            "tiny.yaml:1: extends: the recipes extend each other in a circle: .*"),
      {"another kind of file", train_new(), 2, "tiny.yaml:1: not UTF-8: byte 0x89 at offset 0",
       copy("corpus/corpus.h5", "tiny.yaml")},
      {"missing",
       {"train", "none.yaml"},
       2,
       "none.yaml: cannot be read: No such file or directory"},
      {"a folder", {"train", "texts"}, 2, "texts: cannot be read: it is a folder"},
      {"extends nothing",
       {"train", "a.yaml"},
       2,
       "a.yaml:2: cannot read recipe none.yaml: No such file or directory",
       write("a.yaml", "# mine\nextends: none.yaml\n")},
  };
}

std::vector<Case> of_layouts() {
  const auto set = [](const std::string& name, const std::vector<std::string>& overrides,
                      const std::string& message) {
    return Case{name, train_new(overrides), 2, message};
  };
  std::vector<Case> cases = {
      set("RoPE", {"model.qk_rope_head_dim=5"},
          "--set .*=5: model.qk_rope_head_dim: 5 is odd, but RoPE turns channels in pairs"),
      set("groups", {"model.n_group=3"},
          "tiny.yaml:14: model.n_routed_experts: 8 experts do not split into n_group = 3 groups"),
      set("top-k", {"model.num_experts_per_tok=9"},
          "--set .*: model.num_experts_per_tok: 9 is more than the 8 experts a token can reach .*"),
      set("heads of V2",
          {"model.scoring_func=softmax", "model.topk_method=greedy", "model.norm_topk_prob=false",
           "balance.bias_update_speed=0", "model.num_attention_heads=3"},
          "--set .*: no model class of transformers computes .* hidden_size: 32 that is not a "
          "multiple of num_attention_heads: 3"),
      set("experts over ranks", {"parallel.expert=3"},
          "--set .*: parallel.expert: 3 must be a power of two that divides n_routed_experts = 8; "
          "these do: 1, 2, 4, 8"),
      set("micro-batches", {"train.micro_batch=3"},
          "--set .*: train.micro_batch: 3 sequences do not divide global_batch = 4"),
      set("one rank, two wanted", {"parallel.expert=2"},
          "--set .*: parallel.expert: 1 ranks do not split into pipeline \\(1\\) x expert \\(2\\) "
          "= "
          "2; the nearest numbers of ranks that do: 2"),
      set("a schedule to choose, for nothing", {"parallel.schedule=auto"},
          "--set .*: parallel.cluster: schedule auto is chosen for a cluster; name one of these, "
          "or "
          "a file: .*, netlab, .*"),
      set("a schedule to choose, for what is not there",
          {"parallel.schedule=auto", "parallel.cluster=none.yaml"},
          "--set parallel.cluster=none.yaml: parallel.cluster: none.yaml: .*"),
      set("override without a value", {"train.steps"},
          "--set train.steps: expected section.key=value"),
      set("override that is not YAML", {"model={vocab_size: 5"},
          "--set model=\\{vocab_size: 5: not YAML: .*"),
      set("memory", {"model.vocab_size=16777216", "model.hidden_size=1048576"},
          "\\[memory\\] no room for \\d+ bytes of .*"),
  };
  cases.back().may_change = kBegun;
  std::vector<std::string> three = train_new();
  three.insert(three.end(), {"--local-ranks", "3"});
  cases.push_back({"ranks", three, 2,
                   "tiny.yaml:20: train.global_batch: 4 sequences do not split over 3 ranks with "
                   "micro_batch = 1; the nearest that do: 3 or 6"});
  return cases;
}

std::vector<Case> of_command_lines() {
  const auto line = [](const std::vector<std::string>& command, const std::string& message) {
    std::string name;
    for (const std::string& word : command) name += " " + word.substr(0, 30);
    return Case{name, command, 2, message};
  };
  const std::vector<std::string> generate = {"generate", "--model", "model", "--prompt", "the"};
  const auto with = [](std::vector<std::string> command, const std::vector<std::string>& more) {
    command.insert(command.end(), more.begin(), more.end());
    return command;
  };
  return {
      line({}, "expected a command: train, eval, .* \\(see strait --help\\)"),
      line({"trian"}, "unknown command 'trian'; did you mean 'train'\\? \\(see strait --help\\)"),
      line({"data", "prepar"}, "unknown command 'prepar'; did you mean 'prepare'\\? .*"),
      line({"train"}, "recipe is required \\(see strait train --help\\)"),
      line({"train", "tiny.yaml", "--dryrun"},
           "unknown option '--dryrun'; did you mean '--dry-run'\\? \\(see strait train --help\\)"),
      line({"train", "tiny.yaml", "more.yaml"}, "unexpected argument 'more.yaml' .*"),
      line({"train", "tiny.yaml", "--run", "a", "--run", "b"}, "--run is given more than once .*"),
      line({"train", "tiny.yaml", "--run", ""}, "--run: is empty .*"),
      line({"train", "tiny.yaml", "--ranks", "2"}, "--ranks requires --dry-run .*"),
      line({"train", "tiny.yaml", "--local-ranks", "0"},
           "--local-ranks: 0 is out of range \\(at least 1, at most 256\\)"),
      line({"train", "tiny.yaml", "--local-ranks", "2", "--ranks-per-node", "3"},
           "--ranks-per-node: 2 ranks do not fill nodes of 3"),
      line({"eval", "--text", "text.txt"}, "--model is required .*"),
      line({"eval", "--model", "model", "--text", "text.txt", "--precision", "fp16"},
           "--precision: fp16 not in .*"),
      line({"eval", "--model", "model", "--text", "text.txt", "--sequence-length", "100"},
           "--sequence-length: expected 1 to 64 .*"),
      line(with(generate, {"--seed", "010"}), "--seed: expected a whole number, got '010'.*"),
      line(with(generate, {"--temperature", "nan"}),
           "--temperature: expected a finite number, got 'nan'"),
      line(with(generate, {"--top-p", "0"}), "--top-p: 0 is out of range .*"),
      line({"generate", "--model", "model", "--prompt", std::string(900, 'x')},
           "the prompt has \\d+ tokens; model has max_position_embeddings: 64"),
      line({"export", "--from", "runs/tiny", "--to", "new", "--dtype", "fp16"}, "--dtype: .*"),
      line({"data", "prepare", "--out", "new", "--vocab", "0500", "texts"},
           "--vocab: expected a whole number, got '0500'.*"),
      line({"data", "prepare", "--out", "new", "--held-out", "1", "texts"},
           "--held-out: 1 is out of range \\(above 0, at most 0.9\\)"),
      line({"data", "prepare", "--out", "new", "--vocab", "300", "--tokenizer", "corpus", "texts"},
           "--vocab excludes --tokenizer .*"),
      line({"recipe", "explain", "model.hidden_sise"},
           "unknown key 'model.hidden_sise'; did you mean 'model.hidden_size'\\?"),
      line({"recipe", "check", "tiny.yaml", "--ranks", "3"},
           "tiny.yaml:20: train.global_batch: 4 sequences do not split over 3 ranks .*"),
      line({"verify", "tiny.yaml", "--steps", "0"}, "--steps: 0 is out of range .*"),
  };
}

std::vector<Case> of_texts() {
  const std::vector<std::string> prepare = {"data", "prepare", "--out", "new", "--vocab", "300"};
  const auto input = [&](const std::string& name, const std::string& path,
                         const std::string& message, const Change& change = {}) {
    std::vector<std::string> command = prepare;
    command.push_back(path);
    return Case{name, command, 3, message, change};
  };
  const auto lines = [&](const std::string& name, const std::string& content,
                         const std::string& message) {
    return input(name, "a.jsonl", message, write("a.jsonl", content));
  };
  const auto out = [](const std::string& folder, const std::string& message,
                      const Change& change = {}, const char* replace = "--json") {
    return Case{"--out " + folder,
                {"data", "prepare", "--out", folder, "--vocab", "300", replace, "texts"},
                3,
                message,
                change};
  };
  return {
      input("missing", "none", "none: No such file or directory"),
      input("empty file", "a.txt", "a.txt: is empty", write("a.txt", "")),
      input("empty folder", "new", "new: holds no file of kind .txt .md .pod .jsonl",
            make_folder("new")),
      input("another kind", "tiny.yaml", "tiny.yaml: expected a file of kind .*"),
      input("not UTF-8", "texts", "texts/9.txt:2: not UTF-8: byte 0xe9 at offset 9",
            write("texts/9.txt", "good\ncaf\x65\xE9\n")),
      input("cut in a character", "a.txt", "a.txt:1: not UTF-8: byte 0xe4 at offset 3",
            write("a.txt", "abc\xE4\xBD")),
      input("UTF-16", "a.txt", "a.txt:1: not UTF-8: .* at offset 0; it looks like UTF-16",
            write("a.txt", std::string("\xFF\xFE"
                                       "a\0b\0",
                                       6))),
      input("one document", "texts/1.txt", "texts/1.txt: expected two different documents .*"),
      input("only white space", "a.txt", "a.txt: expected two different documents .*",
            write("a.txt", " \n\n \t\n")),
      lines("not JSON", "{\"text\": \"a\"}\n{\"text\": \"b\"\n",
            "a.jsonl:2: not JSON at byte \\d+ of the line: .*"),
      lines("no text", "{\"text\": \"a\"}\n{\"content\": \"b\"}\n",
            "a.jsonl:2: has no field \"text\""),
      {"vocabulary too large",
       {"data", "prepare", "--out", "new", "--vocab", "100000", "texts"},
       3,
       "the text gives a vocabulary of \\d+ at most, 100000 was asked for: .*"},
      {"tokenizer missing",
       {"data", "prepare", "--out", "new", "--tokenizer", "texts", "texts"},
       3,
       "texts/tokenizer.json: cannot be opened: No such file or directory"},
      {"tokenizer of another kind",
       {"data", "prepare", "--out", "new", "--tokenizer", "corpus/tokenizer_config.json", "texts"},
       3,
       "corpus/tokenizer_config.json: has no 'model': it is not a tokenizer.json"},
      out("corpus", "corpus: holds a corpus already; name another folder, or say --replace"),
      out("corpus", "corpus/mine.txt: is not a corpus's, and --replace would delete it; .*",
          write("corpus/mine.txt", "precious"), "--replace"),
      out("texts", "texts: is a folder with other things in it; name a new one", {}, "--replace"),
      out("text.txt", "text.txt: is there and is not a folder"),
      out("text.txt/new", "text.txt/new: cannot be made: Not a directory"),
      {"no room for the corpus",
       {"data", "prepare", "--out", "new", "--vocab", "300", "texts"},
       3,
       "new.partial-.*: writing out failed: File too large",
       {},
       {},
       50'000},
      {"encode: not UTF-8",
       {"data", "encode", "--tokenizer", "corpus", "a.txt"},
       3,
       "a.txt:1: not UTF-8: byte 0xff at offset 2",
       write("a.txt", "ab\xFF")},
      {"encode: a folder",
       {"data", "encode", "--tokenizer", "corpus", "texts"},
       3,
       "texts: is a folder, not a file"},
      {"encode: no tokenizer",
       {"data", "encode", "--tokenizer", "none", "text.txt"},
       3,
       "none: cannot be opened: No such file or directory"},
  };
}

std::vector<Case> of_runs() {
  const std::vector<std::string> exploding = {"schedule.peak_lr=1000", "optimizer.grad_clip_norm=0",
                                              "model.initializer_range=1", "train.steps=40",
                                              "train.save_every=0"};
  std::vector<std::string> in_fp8 = exploding;
  in_fp8.insert(in_fp8.end(), kFp8.begin(), kFp8.end());
  return {
      {"NaN in FP8",
       train_new(in_fp8),
       5,
       "step \\d+: .* of model\\.layers\\.\\d\\..* has numbers that are not finite \\(.* l\\d\\)",
       {},
       kBegun},
      {"NaN",
       train_new(exploding),
       5,
       "step \\d+: the loss or a gradient is not finite; nothing was updated",
       {},
       kBegun},
      {"run folder is a file",
       {"train", "tiny.yaml", "--run", "text.txt"},
       3,
       "text.txt: cannot make the run's folder: Not a directory"},
      {"run folder below a file",
       {"train", "tiny.yaml", "--run", "text.txt/new"},
       3,
       "text.txt/new: cannot make the run's folder: Not a directory"},
      {"metrics are a folder", train_new(), 3, "runs/new/metrics.jsonl: is there and is not a file",
       make_folder("runs/new/metrics.jsonl"), kBegun},
      {"recipe is a folder", train_new(), 3,
       "runs/new/recipe.resolved.yaml: cannot be written: Is a directory",
       make_folder("runs/new/recipe.resolved.yaml"), kBegun},
      {"no room for the metrics",
       {"train", "tiny.yaml", "--set", "train.steps=100", "--set", "train.save_every=0"},
       3,
       "runs/tiny/metrics.jsonl: cannot write: File too large",
       {},
       "runs/tiny/(metrics.jsonl|recipe.resolved.yaml)",
       3000},
      {"too many threads", train_new({"train.threads=4097"}), 2,
       "--set .*: train.threads: 4097 threads is out of range .*"},
  };
}

TEST(BadInput, Recipes) { expect_all(of_recipes()); }
TEST(BadInput, Layouts) { expect_all(of_layouts()); }
TEST(BadInput, CommandLines) { expect_all(of_command_lines()); }
TEST(BadInput, Texts) { expect_all(of_texts()); }
TEST(BadInput, Runs) { expect_all(of_runs()); }

TEST(BadInput, UnreadableFiles) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read and write every file";
  const auto forbid = [](const std::string& path) -> Change {
    return [path](const Lab& lab) {
      std::filesystem::permissions(lab.path(path), std::filesystem::perms::none);
    };
  };
  expect_all({
      {"recipe",
       {"recipe", "check", "tiny.yaml"},
       2,
       "tiny.yaml: cannot be read: Permission denied",
       forbid("tiny.yaml"),
       "tiny.yaml"},
      {"text",
       {"eval", "--model", "model", "--text", "text.txt"},
       3,
       "text.txt: cannot be opened: Permission denied",
       forbid("text.txt"),
       "text.txt"},
  });
}

TEST(BadInput, FullStandardOutput) {
  const Lab lab;
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"--version"},
           {"eval", "--model", "model", "--text", "text.txt"},
           {"data", "encode", "--tokenizer", "corpus", "texts/1.txt"},
           {"recipe", "show", "tiny.yaml"},
           train_new()}) {
    Strait strait(command, {.folder = lab.folder(), .standard_output = "/dev/full"});
    EXPECT_EQ(strait.code(), 3) << command[0];
    EXPECT_EQ(strait.errors(), "strait: standard output: cannot be written\n") << command[0];
  }
  EXPECT_TRUE(
      std::filesystem::exists(lab.path("runs/new/checkpoints/step-00000004/manifest.json")));
}

// A second run in the same folder is refused and the first does not notice; a signal saves it.
TEST(BadInput, TwoRunsInOneFolder) {
  const Lab lab;
  std::vector<std::string> endless = train_new();
  endless.insert(endless.end(), {"--set", "train.steps=1000000", "--set", "train.save_every=0"});
  Strait first(endless, {.folder = lab.folder()});
  first.wait_for_output("step ");
  Strait second(train_new(), {.folder = lab.folder()});
  EXPECT_EQ(second.code(), 3);
  EXPECT_EQ(second.errors(), "strait: runs/new: another process is training in this folder\n");
  first.send_signal(SIGTERM);
  EXPECT_EQ(first.code(), 143) << first.errors();
  EXPECT_EQ(first.errors(), "");
  Strait text({"eval", "--model", "runs/new", "--text", "text.txt"}, {.folder = lab.folder()});
  EXPECT_EQ(text.code(), 0) << text.errors();
}

}  // namespace
}  // namespace strait::tests
