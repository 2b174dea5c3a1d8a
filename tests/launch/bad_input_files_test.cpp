// What the strait binary says to corpora, checkpoints and models that are damaged, of another kind
// or of another model, and to a disk that fills up. As bad_input_test.cpp.
#include <gtest/gtest.h>

#include <regex>

#include "tests/launch/bad_input_lab.h"

namespace strait::tests {
namespace {

std::vector<Case> of_corpora() {
  std::vector<Case> cases;
  // Training and inspecting find the same.
  const auto both = [&](const std::string& name, const Change& change, const std::string& message,
                        const std::string& inspected = {}) {
    cases.push_back({name, train_new(), 3, message, change});
    cases.push_back({name + " (inspect)",
                     {"data", "inspect", "corpus"},
                     3,
                     inspected.empty() ? message : inspected,
                     change});
  };
  const Change other = run({"data", "prepare", "--out", "other", "--vocab", "290", "texts"});
  both("missing", remove("corpus"), "corpus: is not there; `strait data prepare` makes a corpus");
  both("empty folder", all({remove("corpus"), make_folder("corpus")}),
       "corpus/corpus.h5: is not there; .*");
  both("empty", write("corpus/corpus.h5", ""), "corpus/corpus.h5: is not an HDF5 file");
  both("cut", cut("corpus/corpus.h5", -1),
       "corpus/corpus.h5: is cut short: it has \\d+ of \\d+ bytes");
  both("text", copy("text.txt", "corpus/corpus.h5"), "corpus/corpus.h5: is not an HDF5 file");
  both("another HDF5 file",
       copy("runs/tiny/checkpoints/step-00000004/shard-00000.h5", "corpus/corpus.h5"),
       "corpus/corpus.h5: is HDF5, but not a corpus of `strait data prepare`");
  both("damaged structure", flip("corpus/corpus.h5", 60), "corpus/corpus.h5: .* failed: .*");
  both("tokenizer of another corpus",
       all({other, copy("other/tokenizer.json", "corpus/tokenizer.json")}),
       "corpus/tokenizer.json: is not the tokenizer that corpus/corpus.h5 was made with .*",
       "corpus/corpus.h5: made with a vocabulary of 300, the tokenizer has 290");
  both("tokenizer of another kind", copy("model/config.json", "corpus/tokenizer.json"),
       "corpus/tokenizer.json: is not the tokenizer that corpus/corpus.h5 was made with .*",
       "corpus/tokenizer.json: has no 'model': it is not a tokenizer.json");
  both("tokenizer missing", remove("corpus/tokenizer.json"),
       "corpus/tokenizer.json: cannot be opened: No such file or directory");
  both("tokenizer is a folder",
       all({remove("corpus/tokenizer.json"), make_folder("corpus/tokenizer.json")}),
       "corpus/tokenizer.json: is a folder, not a file");
  cases.push_back({"larger vocabulary", train_new({"model.vocab_size=299"}), 3,
                   "corpus/corpus.h5: its tokenizer has 300 tokens, but model.vocab_size is 299 "
                   "\\(--set model.vocab_size=299\\)"});
  cases.push_back(
      {"too short",
       train_new({"train.sequence_length=100000", "model.max_position_embeddings=100000"}), 3,
       "corpus/corpus.h5: the train split has \\d+ tokens, a sequence needs 100000"});
  cases.push_back({"held-out text cut",
                   {"data", "inspect", "corpus"},
                   3,
                   "corpus/held_out.txt: expected \\d+ bytes and at most \\d+ newlines more, got 7",
                   cut("corpus/held_out.txt", 7)});
  cases.push_back({"damaged tokens",
                   {"data", "inspect", "corpus"},
                   3,
                   "corpus/corpus.h5: reading /(train|held_out)/tokens failed: .*",
                   flip("corpus/corpus.h5", 10'000)});
  cases.push_back({"verify",
                   {"verify", "tiny.yaml"},
                   3,
                   "corpus/corpus.h5: is not an HDF5 file",
                   write("corpus/corpus.h5", "hello")});
  return cases;
}

const std::string kSteps = "runs/tiny/checkpoints/step-0000000";
const std::vector<std::string> kGoOn = {"train", "tiny.yaml", "--set", "train.steps=6"};

std::vector<Case> of_checkpoints() {
  const auto go_on = [](const std::string& change) {
    std::vector<std::string> command = kGoOn;
    command.insert(command.end(), {"--set", change});
    return command;
  };
  const Change both_cut =
      all({cut(kSteps + "2/shard-00000.h5", -1), cut(kSteps + "4/manifest.json", -1)});
  const std::vector<std::string> last = {"export", "--from", kSteps + "4", "--to", "new"};
  const auto of_last = [&](const std::string& name, const Change& change,
                           const std::string& message) {
    return Case{name, last, 3, kSteps + "4" + message, change};
  };
  const std::string shard = kSteps + "4/shard-00000.h5";
  return {
      {"every checkpoint is damaged", kGoOn, 3,
       "runs/tiny/checkpoints: no checkpoint can be read; move them away to start anew: "
       ".*manifest.json: checksum differs: .*; .*shard-00000.h5: is cut short: it has \\d+ of \\d+ "
       "bytes",
       both_cut},
      {"every checkpoint is damaged (export)",
       {"export", "--from", "runs/tiny", "--to", "new"},
       3,
       "runs/tiny: has no whole checkpoint: .*",
       both_cut},
      of_last("cut", cut(shard, 1000), "/shard-00000.h5: is cut short: it has 1000 of \\d+ bytes"),
      of_last("missing shard", remove(shard), "/shard-00000.h5: is missing"),
      of_last("flipped value", flip_middle(shard),
              "/shard-00000.h5: checksum differs: .* elements \\[\\d+, \\d+\\) are damaged"),
      of_last("flipped structure", flip(shard, 50),
              "/shard-00000.h5: checksum differs: the file's structure is damaged"),
      of_last("flipped manifest", flip(kSteps + "4/manifest.json", 700),
              "/manifest.json: checksum differs: the manifest is damaged or cut short"),
      of_last("another manifest", write(kSteps + "4/manifest.json", "{}"),
              "/manifest.json: is not the manifest of a checkpoint, or cut short"),
      {"another model", go_on("model.hidden_size=40"), 3,
       kSteps + "4: is a checkpoint of another model: there hidden_size is 32, here it is 40"},
      {"another number of experts", go_on("model.n_routed_experts=4"), 3,
       kSteps + "4: is a checkpoint of another model: there n_routed_experts is 8, here it is 4"},
      {"another tokenizer", go_on("data.corpus=other"), 3,
       kSteps + "4: was trained with another tokenizer than that of other/corpus.h5",
       run({"data", "prepare", "--out", "other", "--vocab", "290", "texts"})},
      {"no checkpoint yet",
       {"eval", "--model", "runs/tiny", "--text", "text.txt"},
       3,
       "runs/tiny: has no checkpoint yet",
       all({remove("runs/tiny/checkpoints"), make_folder("runs/tiny/checkpoints")})},
      {"no room for an export",
       {"export", "--from", "runs/tiny", "--to", "new"},
       3,
       "new.partial-\\d+/model.safetensors: cannot be written: File too large",
       {},
       {},
       50'000},
      {"no room for a checkpoint",
       kGoOn,
       3,
       kSteps + "6.partial/shard-00000.h5: writing /.* failed: File too large",
       {},
       "runs/tiny/(metrics.jsonl|recipe.resolved.yaml)",
       100'000},
      {"export to a folder that is there",
       {"export", "--from", "runs/tiny", "--to", "texts"},
       3,
       "texts: already exists"},
      {"export below a file",
       {"export", "--from", "runs/tiny", "--to", "text.txt/new"},
       3,
       "text.txt/new: cannot be made: Not a directory"},
  };
}

std::vector<Case> of_models() {
  std::vector<Case> cases;
  const auto eval = [&](const std::string& name, const Change& change, const std::string& message,
                        int code = 3) {
    cases.push_back(
        {name, {"eval", "--model", "model", "--text", "text.txt"}, code, message, change});
  };
  const auto config = [&](const std::string& from, const std::string& to,
                          const std::string& message) {
    eval(to.empty() ? "without " + from : to, edit("model/config.json", from, to),
         "model/config.json: " + message);
  };
  config("\"hidden_size\": 32,", "", "hidden_size is missing");
  config("\"hidden_size\": 32", "\"hidden_size\": \"32\"",
         "hidden_size: \"32\" is not supported \\(it must be an integer\\)");
  config("\"hidden_size\": 32", "\"hidden_size\": -3", "hidden_size: -3 is out of range \\(.*\\)");
  config("\"n_group\": 1", "\"n_group\": 3",
         "n_routed_experts: 8 experts do not split into n_group = 3 groups");
  config("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 20",
         "num_experts_per_tok: 20 is more than the 8 experts a token can reach .*");
  config("deepseek_v3", "llama", "model_type: 'llama' is not supported .*");
  config("\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\"}",
         "rope_scaling.type: \"linear\" is not supported \\(only yarn is\\)");
  eval("config.json is text", copy("text.txt", "model/config.json"),
       "model/config.json: is not a JSON object");
  eval("config.json is a folder",
       all({remove("model/config.json"), make_folder("model/config.json")}),
       "model/config.json: is a folder, not a file");
  eval("another size", edit("model/config.json", "\"hidden_size\": 32", "\"hidden_size\": 64"),
       "model: tensor model.embed_tokens.weight has shape \\[300, 32\\], the model's settings say "
       "\\[300, 64\\]");
  const std::string weights = "model/model.safetensors";
  eval("no weights", remove(weights), weights + ": cannot be opened: No such file or directory");
  eval("weights cut", cut(weights, -10), weights + ": is cut short: tensor .* ends at byte .*");
  eval("weights of another kind", copy("corpus/corpus.h5", weights),
       weights + ": is not a safetensors file: header of \\d+ bytes");
  eval("tensor of another name", edit(weights, "lm_head.weight", "lm_hEad.weight"),
       "model: has no tensor lm_head.weight");
  eval("tensor of another type", edit(weights, "\"BF16\"", "\"BF1x\""),
       weights + ": tensor .*: unknown dtype 'BF1x'");
  eval("tensor of another shape", edit(weights, "[300,32]", "[32,300]"),
       "model: tensor .* has shape \\[32, 300\\], the model's settings say \\[300, 32\\]");
  eval("weights are not numbers", overwrite_end(weights, std::string(64, '\xFF')),
       "model: the loss on text.txt is not finite", 5);
  eval("no tokenizer", remove("model/tokenizer.json"), "model: has no tokenizer.json");
  eval("tokenizer is text", copy("text.txt", "model/tokenizer.json"),
       "model/tokenizer.json: is not JSON: parse error at line 1, column \\d: .*");
  eval("larger tokenizer",
       all({run({"data", "prepare", "--out", "other", "--vocab", "310", "texts"}),
            copy("other/tokenizer.json", "model/tokenizer.json")}),
       "model/tokenizer.json: has 310 tokens, but the model's vocabulary has 300");
  const auto command = [&](const std::vector<std::string>& words, const std::string& message,
                           const Change& change = {}) {
    cases.push_back({words[0] + " " + words.back().substr(0, 20), words, 3, message, change});
  };
  command({"eval", "--model", "none", "--text", "text.txt"}, "none: no such folder");
  command({"eval", "--model", "text.txt", "--text", "text.txt"},
          "text.txt: is a file; expected the folder of a checkpoint, .*");
  command({"eval", "--model", "texts", "--text", "text.txt"}, "texts: is neither a checkpoint .*");
  command({"eval", "--model", "model", "--text", "none"},
          "none: cannot be opened: No such file or directory");
  command({"eval", "--model", "model", "--text", "texts"}, "texts: is a folder, not a file");
  command({"eval", "--model", "model", "--text", "a.txt"}, "a.txt: is empty", write("a.txt", ""));
  command({"eval", "--model", "model", "--text", "a.txt"},
          "a.txt:2: not UTF-8: byte 0xff at offset 3", write("a.txt", "a\nb\xFF"));
  command({"eval", "--model", "model", "--text", "text.txt", "--logits", "texts"},
          "texts: is a folder, not a file");
  command({"eval", "--model", "model", "--text", "text.txt", "--logits", "none/a"},
          "none/a: cannot be made: its folder is not there");
  command({"generate", "--model", "model", "--prompt", "a\xFF"},
          "--prompt:1: not UTF-8: byte 0xff at offset 1");
  command({"generate", "--model", "none", "--prompt", "a"}, "none: no such folder");
  return cases;
}

TEST(BadInputFiles, Corpora) { expect_all(of_corpora()); }
TEST(BadInputFiles, Checkpoints) { expect_all(of_checkpoints()); }
TEST(BadInputFiles, Models) { expect_all(of_models()); }

// After a disk that was full while a checkpoint was written ("no room for a checkpoint" above) the
// same command goes on from the one before.
TEST(BadInputFiles, GoesOnAfterAFullDisk) {
  const Lab lab;
  Strait full(kGoOn, {.folder = lab.folder(), .file_size_limit = 100'000});
  EXPECT_EQ(full.code(), 3) << full.errors();
  Strait again(kGoOn, {.folder = lab.folder()});
  EXPECT_EQ(again.code(), 0) << again.errors();
  EXPECT_NE(again.output().find("resumed from " + kSteps +
                                "4 after step 4\n"
                                "changed since it was saved: train.steps: 4 -> 6\n"),
            std::string::npos)
      << again.output();
  EXPECT_TRUE(std::filesystem::exists(lab.path(kSteps + "6/manifest.json")));
}

// Damaged checkpoints are passed over with a warning while an older one is whole.
TEST(BadInputFiles, DamagedCheckpointsFallBack) {
  for (const Change& damage :
       {cut(kSteps + "4/shard-00000.h5", -1), flip(kSteps + "4/shard-00000.h5", 100'000),
        flip(kSteps + "4/shard-00000.h5", 50), write(kSteps + "4/manifest.json", "")}) {
    const Lab lab;
    damage(lab);
    Strait strait(kGoOn, {.folder = lab.folder()});
    EXPECT_EQ(strait.code(), 0) << strait.errors();
    EXPECT_EQ(strait.errors(), "");
    EXPECT_TRUE(std::regex_search(
        strait.output(), std::regex("warning: skipped damaged checkpoints: " + kSteps +
                                    "4/[^\n]*\nresumed from " + kSteps + "2 after step 2\n")))
        << strait.output();
  }
}

}  // namespace
}  // namespace strait::tests
