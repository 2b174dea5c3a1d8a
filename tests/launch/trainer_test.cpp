// tests/launch/trainer_test.cpp: runs that are stopped, resumed, damaged, moved to other layouts
// and fed bad input.
#include "launch/trainer/trainer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "data/checkpoint/folder.h"
#include "data/checkpoint/reader.h"
#include "data/corpus/corpus_writer.h"
#include "data/tokenizer/tokenizer.h"
#include "launch/trainer/agree.h"
#include "launch/view/perfetto.h"
#include "parallel/comm/local.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecipe = R"(
model: {vocab_size: 64, hidden_size: 32, num_hidden_layers: 2, first_k_dense_replace: 1, initializer_range: 0.1,
        num_attention_heads: 2, q_lora_rank: 16, kv_lora_rank: 16, qk_nope_head_dim: 16, qk_rope_head_dim: 16,
        v_head_dim: 16, intermediate_size: 48, moe_intermediate_size: 16, n_routed_experts: 8, n_shared_experts: 1,
        num_experts_per_tok: 2, num_nextn_predict_layers: 1}
balance: {bias_update_speed: 0.01}
schedule: {kind: cosine, peak_lr: 3e-3, warmup_steps: 2}
train: {steps: 8, global_batch: 4, sequence_length: 16, precision: fp32, eval_every: 4, eval_sequences: 4, threads: 1}
)";

class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("strait_trainer_" + std::to_string(::getpid()) +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "corpus");
    write_corpus(64);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write_corpus(int64_t vocab_size) {
    const fs::path corpus = folder_ / "corpus";
    fs::remove(corpus / "corpus.h5");
    CorpusWriter writer((corpus / "corpus.h5").string(),
                        {.vocab_size = vocab_size, .eos_id = 0, .tokenizer_xxh3 = xxh3_of("{}")},
                        0);
    for (int64_t document = 0; document < 40; ++document) {
      std::vector<int32_t> tokens;
      for (int64_t i = 0; i < 40; ++i)
        tokens.push_back(static_cast<int32_t>((document * 7 + i * i * 3) % 64));
      writer.add(document % 5 == 0 ? Split::held_out : Split::train, tokens, 40);
    }
    writer.finish();
    std::ofstream(corpus / "tokenizer.json") << "{}";
  }

  Recipe recipe(std::vector<std::string> overrides = {}) const {
    overrides.insert(overrides.begin(), "data.corpus=" + (folder_ / "corpus").string());
    return read_recipe(kRecipe, "test.yaml", overrides);
  }
  std::string run_folder(const std::string& name) const { return (folder_ / name).string(); }
  std::string step(const std::string& run, int64_t number) const {
    return checkpoint::step_folder(RunFolder::checkpoints(run_folder(run)), number);
  }

  // Trains on `ranks` threads; a stop is asked for at the stop_after-th step of this start.
  Outcome train(const Recipe& recipe, const std::string& run, int ranks, int stop_after = 0,
                int64_t traced_step = 0) {
    Outcome outcome = Outcome::finished;
    lines_.clear();
    run_ranks(ranks, [&](Rank rank, Comm& comm) {
      int asked = 0;
      TrainerOptions options{.run_folder = run_folder(run),
                             .traced_step = traced_step,
                             .stop_requested = {},
                             .watch_tasks = {},
                             .watch_waits = {},
                             .print = {},
                             .say = {}};
      options.stop_requested = [&] { return rank.value == ranks - 1 && ++asked == stop_after; };
      options.print = options.say = [&](const std::string& line) { lines_ += line + "\n"; };
      try {
        Trainer trainer(recipe, comm, std::move(options));
        const Outcome mine = trainer.run();
        if (rank.value == 0) outcome = mine;
      } catch (const ReportedElsewhere&) {  // rank 0 throws the error itself
      }
    });
    return outcome;
  }

  // Every stored value, by tensor and kind.
  using State = std::map<std::string, std::vector<float>>;
  State state(const std::string& run, int64_t number) const {
    checkpoint::Reader reader(step(run, number));
    State values;
    for (const checkpoint::TensorInfo& tensor : reader.manifest().model.tensors) {
      for (const std::string& kind : tensor.kinds) {
        auto& to = values[tensor.name + " " + kind];
        to.resize(static_cast<size_t>(tensor.numel()));
        reader.read(tensor.name, kind, 0, std::span<float>(to));
      }
    }
    return values;
  }

  std::vector<std::string> metrics(const std::string& run) const {
    std::ifstream file(run_folder(run) + "/metrics.jsonl");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

  fs::path folder_;
  std::string lines_;
};

double distance(const std::map<std::string, std::vector<float>>& a,
                const std::map<std::string, std::vector<float>>& b) {
  double worst = 0;
  for (const auto& [name, values] : a) {
    if (name.find(" master") == std::string::npos) continue;
    double difference = 0, norm = 1e-30;
    for (size_t i = 0; i < values.size(); ++i) {
      const double wanted = b.at(name)[i];
      difference += std::pow(values[i] - wanted, 2);
      norm += wanted * wanted;
    }
    worst = std::max(worst, std::sqrt(difference / norm));
  }
  return worst;
}

TEST_F(TrainerTest, AStoppedRunContinuesBitForBit) {
  for (const std::string precision : {"fp32", "bf16", "fp8"}) {
    const Recipe r =
        recipe({"train.precision=" + precision, "parallel.expert=2",
                "optimizer.moments_dtype=" + (precision == "fp8" ? "bf16" : precision)});
    const std::string whole = "whole_" + precision, cut = "cut_" + precision;
    EXPECT_EQ(train(r, whole, 2), Outcome::finished);
    EXPECT_EQ(train(r, cut, 2, 3), Outcome::stopped);
    const int64_t stopped_at = checkpoint::latest(RunFolder::checkpoints(run_folder(cut))).step;
    EXPECT_GE(stopped_at, 3);
    EXPECT_LT(stopped_at, 8);
    EXPECT_EQ(train(r, cut, 2), Outcome::finished);
    EXPECT_NE(lines_.find("resumed from"), std::string::npos);
    EXPECT_TRUE(state(whole, 8) == state(cut, 8));
    EXPECT_EQ(metrics(whole).size(), metrics(cut).size());
    EXPECT_EQ(train(r, cut, 2), Outcome::finished) << "nothing left to do";
  }
}

TEST_F(TrainerTest, ACheckpointContinuesOnOtherLayouts) {
  const auto layout = [&](int64_t expert, int64_t steps) {
    return recipe({"parallel.expert=" + std::to_string(expert), "train.eval_every=0",
                   "schedule.kind=constant", "train.steps=" + std::to_string(steps)});
  };
  train(layout(4, 4), "four", 4);
  for (const char* other : {"two", "one"})
    fs::copy(run_folder("four"), run_folder(other), fs::copy_options::recursive);
  train(layout(4, 6), "four", 4);
  train(layout(2, 6), "two", 2);
  train(layout(1, 6), "one", 1);
  EXPECT_LE(distance(state("two", 6), state("four", 6)), 1e-5);
  EXPECT_LE(distance(state("one", 6), state("four", 6)), 1e-5);
  EXPECT_GT(distance(state("four", 4), state("four", 6)), 1e-4);
}

// On another layout than wrote them, and through a resume, which knows nothing of start_from.
TEST_F(TrainerTest, ARunStartsFromTheWeightsOfAnother) {
  train(recipe({"parallel.expert=2", "train.steps=4"}), "first", 2);
  const Recipe next = recipe({"parallel.expert=4", "train.start_from=" + run_folder("first")});
  EXPECT_EQ(train(next, "next", 4, 2), Outcome::stopped);
  EXPECT_NE(lines_.find("starts from weights of " + step("first", 4)), std::string::npos) << lines_;
  const auto nll = [](const std::string& line) { return nlohmann::json::parse(line).at("nll"); };
  EXPECT_NEAR(nll(metrics("next").front()), nll(metrics("first").back()), 1e-6);
  const auto stopped_at = checkpoint::latest(RunFolder::checkpoints(run_folder("next"))).step;
  fs::remove_all(run_folder("first"));
  EXPECT_EQ(train(next, "next", 4), Outcome::finished);
  EXPECT_NE(lines_.find("after step " + std::to_string(stopped_at)), std::string::npos) << lines_;
}

// Two copies of every layer, one replica group; evaluations and checkpoints between the steps.
TEST_F(TrainerTest, APipelineContinuesBitForBitAndOnOneRank) {
  const auto layout = [&](bool piped, int64_t steps) {
    std::vector<std::string> overrides = {"schedule.kind=constant",
                                          "train.steps=" + std::to_string(steps)};
    if (piped)
      overrides.insert(overrides.end(), {"parallel.pipeline=2", "parallel.schedule=dualpipe"});
    return recipe(overrides);
  };
  EXPECT_EQ(train(layout(true, 8), "whole", 2), Outcome::finished);
  EXPECT_EQ(train(layout(true, 4), "cut", 2), Outcome::finished);
  fs::copy(run_folder("cut"), run_folder("one"), fs::copy_options::recursive);
  EXPECT_EQ(train(layout(true, 8), "cut", 2), Outcome::finished);
  EXPECT_TRUE(state("whole", 8) == state("cut", 8));
  EXPECT_EQ(metrics("whole").size(), metrics("cut").size());
  train(layout(false, 8), "one", 1);
  EXPECT_LE(distance(state("one", 8), state("whole", 8)), 1e-5);
  EXPECT_NE(lines_.find("parallel.pipeline: 2 -> 1"), std::string::npos) << lines_;
}

// Steps of 4, 8 and 12 sequences under a schedule whose copies take half of them each.
TEST_F(TrainerTest, ABatchRampIsOneRunOnAnyLayout) {
  const auto layout = [&](bool piped, int64_t steps) {
    std::vector<std::string> overrides = {"schedule.kind=constant", "train.global_batch=12",
                                          "train.eval_every=0",
                                          "train.batch_ramp={from: 4, increment: 4, tokens: 384}",
                                          "train.steps=" + std::to_string(steps)};
    if (piped)
      overrides.insert(overrides.end(), {"parallel.pipeline=2", "parallel.schedule=dualpipe"});
    return recipe(overrides);
  };
  train(layout(true, 7), "whole", 2);
  train(layout(true, 3), "cut", 2);
  train(layout(true, 7), "cut", 2);
  train(layout(false, 7), "one", 1);
  EXPECT_TRUE(state("whole", 7) == state("cut", 7));
  EXPECT_LE(distance(state("one", 7), state("whole", 7)), 1e-5);
  std::string tokens;
  for (const std::string& line : metrics("whole")) {
    const size_t at = line.find("\"tokens\":") + 9;
    tokens += line.substr(at, line.find(',', at) - at) + " ";
  }
  EXPECT_EQ(tokens, "64 64 64 128 128 192 192 ");  // 192 tokens of each size on the way
}

// FP32 moments become BF16, and BF16 ones FP32, when a run goes on with the other.
TEST_F(TrainerTest, MomentsAreConvertedWhenTheirDtypeChanges) {
  const auto run = [&](const std::string& name, const std::string& dtype, int64_t steps) {
    train(recipe({"optimizer.moments_dtype=" + dtype, "train.eval_every=0", "parallel.expert=2",
                  "schedule.kind=constant", "train.steps=" + std::to_string(steps)}),
          name, 2);
  };
  run("fp32", "fp32", 6);
  const std::map<std::string, DType> dtypes = {{"fp32", DType::f32}, {"bf16", DType::bf16}};
  for (const auto& [before, _] : dtypes) {
    for (const auto& [after, stored_after] : dtypes) {
      if (before == after) continue;
      run(before + " to " + after, before, 4);
      run(before + " to " + after, after, 6);
      EXPECT_NE(lines_.find("optimizer.moments_dtype: " + before + " -> " + after),
                std::string::npos)
          << lines_;
      EXPECT_LE(distance(state(before + " to " + after, 6), state("fp32", 6)), 1e-3);
      const checkpoint::Reader reader(step(before + " to " + after, 6));
      const std::string tensor = reader.manifest().model.tensors.front().name;
      EXPECT_EQ(reader.dtype(tensor, checkpoint::kSecondMoment), stored_after);
    }
  }
}

// With the load that the experts met, what is predicted of each purpose is what was measured.
TEST_F(TrainerTest, MemoryIsAsPredicted) {
  for (const char* precision : {"fp32", "bf16", "fp8"}) {
    for (const int64_t expert : {1, 2, 4}) {
      const std::string text = precision + std::string(", expert ") + std::to_string(expert);
      nlohmann::json line;
      int64_t fullest_bytes = 0;
      std::mutex mutex;
      const Recipe r = recipe({"train.eval_every=0", "parallel.expert=" + std::to_string(expert),
                               "train.global_batch=8", "train.sequence_length=48",
                               std::string("train.precision=") + precision});
      run_ranks(4, [&](Rank, Comm& comm) {
        TrainerOptions options{.run_folder = run_folder(text),
                               .json = true,
                               .stop_requested = {},
                               .watch_tasks = {},
                               .watch_waits = {},
                               .print = {},
                               .say = {}};
        options.print = [&](const std::string& printed) { line = nlohmann::json::parse(printed); };
        Trainer trainer(r, comm, std::move(options));
        trainer.run();
        const std::lock_guard lock(mutex);
        fullest_bytes = std::max(fullest_bytes, trainer.engine().ctx().memory().at_peak().total());
      });
      ASSERT_EQ(line["kind"], "memory");
      EXPECT_EQ(line["measured_bytes"]["total"], fullest_bytes) << text;
      for (const auto& [purpose, measured] : line["measured_bytes"].items())
        EXPECT_NEAR(line["predicted_bytes"][purpose].get<double>(), measured.get<double>(),
                    0.01 * measured.get<double>())
            << text << ": " << purpose;
      if (expert > 1) {
        EXPECT_NE(line["predicted_even_bytes"]["routed"], line["measured_bytes"]["routed"]);
      }
    }
  }
}

TEST_F(TrainerTest, KeepsAndSavesAsAsked) {
  train(recipe({"train.save_every=2", "train.keep_checkpoints=2"}), "run", 1);
  EXPECT_FALSE(fs::exists(step("run", 4)));
  EXPECT_TRUE(fs::exists(step("run", 6)));
  EXPECT_TRUE(fs::exists(step("run", 8)));
  EXPECT_TRUE(fs::exists(run_folder("run") + "/recipe.resolved.yaml"));
  EXPECT_EQ(metrics("run").size(), 11u) << "8 steps and 3 evaluations";
}

TEST_F(TrainerTest, ADamagedCheckpointIsSkippedAloud) {
  const Recipe r = recipe({"train.save_every=4"});
  train(r, "whole", 2);
  train(r, "run", 2);
  const std::string shard = "/" + checkpoint::Reader(step("run", 8)).manifest().shards[0].file;
  fs::resize_file(step("run", 8) + shard, fs::file_size(step("run", 8) + shard) / 2);
  train(r, "run", 2);
  EXPECT_NE(lines_.find("skipped damaged"), std::string::npos) << lines_;
  EXPECT_TRUE(state("run", 8) == state("whole", 8));
  // A flipped bit inside the values shows only when they are read.
  for (const int64_t number : {4, 8}) {
    std::fstream file(step("run", number) + shard, std::ios::in | std::ios::out | std::ios::binary);
    const auto at = static_cast<std::streamoff>(fs::file_size(step("run", number) + shard) / 2);
    file.seekg(at);
    const char byte = static_cast<char>(file.get() ^ 4);
    file.seekp(at);
    file.put(byte);
  }
  try {
    train(r, "run", 1);
    FAIL() << "started anew over damaged checkpoints";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("step-00000004"), std::string::npos) << error.what();
  }
}

TEST_F(TrainerTest, NumbersThatAreNotFiniteStopTheRun) {
  const Recipe r = recipe({"train.eval_every=0"});
  EXPECT_THROW(run_ranks(2,
                         [&](Rank rank, Comm& comm) {
                           Trainer trainer(r, comm,
                                           {.run_folder = run_folder("run"),
                                            .stop_requested = {},
                                            .watch_tasks = {},
                                            .watch_waits = {},
                                            .print = {},
                                            .say = {}});
                           Engine& engine = trainer.engine();
                           if (rank.value == 1) engine.buckets()[1].master.data<float>()[0] = NAN;
                           engine.load_weights();
                           trainer.run();
                         }),
               NumericsError);
  EXPECT_EQ(checkpoint::latest(RunFolder::checkpoints(run_folder("run"))).folder, "");
}

TEST_F(TrainerTest, WhatIsNotFiniteBeforeItBecomesFp8IsNamed) {
  const Recipe r = recipe({"train.eval_every=0", "train.precision=fp8", "parallel.expert=2"});
  const auto message = [&](const std::string& parameter, float value) {
    std::string text;
    try {
      run_ranks(2, [&](Rank rank, Comm& comm) {
        Trainer trainer(r, comm,
                        {.run_folder = run_folder(parameter),
                         .stop_requested = {},
                         .watch_tasks = {},
                         .watch_waits = {},
                         .print = {},
                         .say = {}});
        for (const auto& p : trainer.engine().model().parameters)
          if (rank.value == 1 && p->name == parameter) p->weight.data<float>()[3] = value;
        trainer.run();
      });
    } catch (const NumericsError& error) {
      text = error.what();
    }
    return text;
  };
  EXPECT_EQ(
      message("model.layers.1.input_layernorm", NAN),
      "step 1: the input of model.layers.1.self_attn.q_a_proj has numbers that are not finite "
      "(attention.F m0 l1)");
  EXPECT_EQ(message("model.layers.1.self_attn.kv_a_layernorm", INFINITY),
            "step 1: the input of model.layers.1.self_attn.kv_b_proj has numbers that are not "
            "finite (attention.F m0 l1)");
}

TEST_F(TrainerTest, BadInputIsNamed) {
  const auto message = [&](const Recipe& r, int ranks = 1) {
    try {
      train(r, "run", ranks);
    } catch (const std::exception& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  Recipe missing = recipe();
  missing.data.corpus = "nowhere";
  EXPECT_NE(message(missing).find("nowhere"), std::string::npos);
  EXPECT_NE(message(recipe(), 3).find("3"), std::string::npos);
  train(recipe(), "run", 1);
  const std::string other = message(recipe({"model.hidden_size=48"}));
  EXPECT_NE(other.find("hidden_size"), std::string::npos) << other;
  {
    const RunFolder taken(run_folder("run"));
    EXPECT_NE(message(recipe()).find("another process"), std::string::npos);
  }
  write_corpus(128);
  const std::string vocabulary = message(recipe());
  EXPECT_NE(vocabulary.find("128 tokens, but model.vocab_size is 64"), std::string::npos)
      << vocabulary;
}

// One rank fails alone; no rank hangs and rank 0 has the story.
TEST_F(TrainerTest, AnErrorOfOneRankIsEveryRanks) {
  std::mutex mutex;
  std::map<int, std::string> errors;
  run_ranks(3, [&](Rank rank, Comm& comm) {
    try {
      together(comm, [&] {
        if (rank.value == 2) throw DataError("disk full");
      });
    } catch (const std::exception& error) {
      std::lock_guard lock(mutex);
      errors[rank.value] = std::to_string(exit_code_of(error)) + " " + error.what();
    }
  });
  EXPECT_EQ(errors[0], "3 rank 2: disk full");
  EXPECT_EQ(errors[1].substr(0, 1), "3");
  EXPECT_EQ(errors[2].substr(0, 1), "3");
}

// What a traced step wrote is what its program says, in an order that its lanes and its metrics
// bear out.
TEST_F(TrainerTest, ATracedStepHoldsEveryTask) {
  const Recipe r = recipe({"parallel.expert=2", "train.steps=3", "train.eval_every=0"});
  train(r, "run", 2, 0, 2);
  const Trace trace = read_perfetto(RunFolder::trace(run_folder("run"), 2));
  EXPECT_FALSE(trace.predicted);
  EXPECT_FALSE(trace.relative);
  std::map<std::pair<int, Lane>, double> lane_end;
  std::map<int, std::map<std::string, const Span*>> of_rank;
  int64_t bytes = 0;
  for (const Span& span : trace.spans) {
    EXPECT_GT(span.start_us, 0) << span.name;
    EXPECT_GE(span.end_us, span.start_us) << span.name;
    double& end = lane_end[{span.rank, span.lane}];
    EXPECT_GE(span.start_us, end - 1e-3) << span.name;  // a lane runs one task at a time, in order
    end = span.end_us;
    EXPECT_TRUE(of_rank[span.rank].emplace(span.name, &span).second) << span.name << " twice";
    bytes += span.bytes;
  }
  ASSERT_EQ(of_rank.size(), 2u);
  for (auto& [rank, spans] : of_rank) {
    for (const char* name : {"commit", "update b0", "attention.F m0 l0", "dispatch.F m1 l1",
                             "experts.W m1 l1", "head.F m0 l2", "combine.B m0 l2"})
      EXPECT_TRUE(spans.count(name)) << name;
    EXPECT_GE(spans["experts.F m0 l1"]->start_us, spans["dispatch.F m0 l1"]->end_us);
  }
  EXPECT_GT(bytes, 0);
  EXPECT_THROW(train(r, "other", 1, 0, 4), RecipeError);
}

}  // namespace
}  // namespace strait
