// Checkpoints: round trips over layouts, and every kind of damage.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <thread>

#include "core/errors.h"
#include "data/checkpoint/folder.h"
#include "data/checkpoint/reader.h"
#include "data/checkpoint/shard.h"

namespace strait::checkpoint {
namespace {

namespace fs = std::filesystem;

// A folder of its own for each test, removed after it.
class Checkpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = (fs::temp_directory_path() / "strait-checkpoint-XXXXXX").string();
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    root_ = path;
  }
  void TearDown() override { fs::remove_all(root_); }
  std::string root_;
};

const std::vector<TensorInfo>& tensors() {
  static const std::vector<TensorInfo> list = {
      {"model.embed_tokens.weight", {37, 16}, {kMaster, kFirstMoment, kSecondMoment}},
      {"model.layers.1.mlp.experts.0.up_proj.weight", {24, 8}, {kMaster, kFirstMoment, kEma}},
      {"model.layers.1.mlp.gate.e_score_correction_bias", {5}, {kBias}},
      {"model.norm.weight", {1}, {kMaster}},
  };
  return list;
}

float value_at(const std::string& name, const std::string& kind, int64_t index) {
  const size_t seed = std::hash<std::string>()(name + "/" + kind) % 1000;
  return static_cast<float>(seed) + static_cast<float>(index) * 0.25f;
}

std::vector<float> values_of(const TensorInfo& tensor, const std::string& kind) {
  std::vector<float> values(static_cast<size_t>(tensor.numel()));
  for (size_t index = 0; index < values.size(); ++index)
    values[index] = value_at(tensor.name, kind, static_cast<int64_t>(index));
  return values;
}

// What rank `rank` of `num_ranks` stores: of every tensor and kind the rank-th part, in two pieces.
Shard write_part(const std::string& folder, int rank, int num_ranks) {
  std::vector<std::vector<float>> keep;
  std::vector<Piece> pieces;
  for (const TensorInfo& tensor : tensors()) {
    for (const std::string& kind : tensor.kinds) {
      const std::vector<float>& values = keep.emplace_back(values_of(tensor, kind));
      const int64_t begin = tensor.numel() * rank / num_ranks;
      const int64_t end = tensor.numel() * (rank + 1) / num_ranks;
      const int64_t middle = begin + (end - begin) / 3;
      for (const auto& [from, to] : {std::pair(middle, end), std::pair(begin, middle)})
        pieces.push_back({.name = tensor.name,
                          .kind = kind,
                          .offset = from,
                          .count = to - from,
                          .dtype = DType::f32,
                          .values = values.data() + from});
    }
  }
  return write_shard(folder, rank, pieces);
}

Manifest manifest_for(int64_t step, std::vector<Shard> shards) {
  return {.step = step,
          .next_sample = step * 8,
          .seed = 0xfedcba9876543210u,
          .model = {.config_json = R"({"hidden_size": 16, "rope_scaling": {"factor": 40.0}})",
                    .tensors = tensors()},
          .recipe = "# caf\xe9\nmodel: {}\n",  // not UTF-8
          .extra = {{"git", "abc\"\n"}},
          .shards = std::move(shards)};
}

// A whole checkpoint, its ranks being threads; the shards travel as bytes, as between ranks.
std::string save(const std::string& root, int64_t step, int num_ranks) {
  const std::string temporary = temporary_folder(root, step);
  create_temporary(temporary);
  std::vector<std::string> encoded(static_cast<size_t>(num_ranks));
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < num_ranks; ++rank)
    ranks.emplace_back([&, rank] {
      encoded[static_cast<size_t>(rank)] = encode(write_part(temporary, rank, num_ranks));
    });
  for (std::thread& rank : ranks) rank.join();
  std::vector<Shard> shards;
  for (const std::string& bytes : encoded) shards.push_back(decode(bytes));
  publish(temporary, step_folder(root, step), manifest_for(step, std::move(shards)));
  return step_folder(root, step);
}

// The message of the DataError that `work` throws.
std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const DataError& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

void expect_says(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' not in: " << message;
}

void flip_bit(const std::string& path, int64_t byte, int bit = 3) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(byte);
  const char value = static_cast<char>(file.get() ^ (1 << bit));
  file.seekp(byte);
  file.put(value);
  ASSERT_TRUE(file.good());
}

TEST_F(Checkpoint, RoundTripKeepsTheManifest) {
  const std::string folder = save(root_, 1000, 2);
  EXPECT_TRUE(folder.ends_with("/step-00001000"));
  EXPECT_FALSE(fs::exists(temporary_folder(root_, 1000)));
  const Reader reader(folder);
  const Manifest& manifest = reader.manifest();
  EXPECT_EQ(manifest.step, 1000);
  EXPECT_EQ(manifest.next_sample, 8000);
  EXPECT_EQ(manifest.seed, 0xfedcba9876543210u);
  EXPECT_EQ(manifest.model.tensors, tensors());
  EXPECT_EQ(manifest.recipe, "# caf\xef\xbf\xbd\nmodel: {}\n");
  EXPECT_EQ(manifest.extra.at("git"), "abc\"\n");
  EXPECT_TRUE(reader.has("model.norm.weight", kMaster));
  EXPECT_FALSE(reader.has("model.norm.weight", kEma));
  EXPECT_EQ(verify_all(folder), std::vector<std::string>{});
}

TEST_F(Checkpoint, AnyLayoutReadsAnyLayout) {
  for (const int writers : {1, 3, 4, 8}) {
    const std::string folder = save(root_, writers, writers);
    for (const int readers : {1, 2, 3}) {
      Reader reader(folder);
      for (const TensorInfo& tensor : tensors()) {
        for (const std::string& kind : tensor.kinds) {
          std::vector<float> got;
          for (int rank = 0; rank < readers; ++rank) {
            const int64_t begin = tensor.numel() * rank / readers;
            std::vector<float> part(
                static_cast<size_t>(tensor.numel() * (rank + 1) / readers - begin));
            reader.read(tensor.name, kind, begin, part);
            got.insert(got.end(), part.begin(), part.end());
          }
          EXPECT_EQ(got, values_of(tensor, kind)) << tensor.name << " " << kind;
        }
      }
    }
  }
}

TEST_F(Checkpoint, EveryRangeOfATensor) {
  Reader reader(save(root_, 1, 4));
  const TensorInfo& tensor = tensors()[1];
  const std::vector<float> all = values_of(tensor, kEma);
  for (int64_t begin = 0; begin <= tensor.numel(); begin += 5) {
    for (int64_t end = begin; end <= tensor.numel(); end += 7) {
      std::vector<float> got(static_cast<size_t>(end - begin));
      reader.read(tensor.name, kEma, begin, got);
      EXPECT_EQ(got, std::vector<float>(all.begin() + begin, all.begin() + end));
    }
  }
  std::vector<float> out(2);
  expect_says(error_of([&] { reader.read(tensor.name, kEma, 191, out); }),
              {tensor.name, "[191, 193)", "192"});
  expect_says(error_of([&] { reader.read("model.other", kEma, 0, out); }), {"model.other", "ema"});
  std::vector<int64_t> integers(2);
  expect_says(error_of([&] { reader.read(tensor.name, kEma, 0, integers); }), {"f32", "i64"});
}

TEST_F(Checkpoint, LongPiecesAndOtherDtypes) {
  const int64_t count = kMaxEntryBytes / 2 + 12345;  // bf16: more than one entry
  std::vector<bfloat16> moments(static_cast<size_t>(count));
  for (size_t index = 0; index < moments.size(); ++index)
    moments[index] = {static_cast<uint16_t>(index * 7 % 0x7f00)};
  const std::vector<int64_t> counts = {1, -2, int64_t{1} << 62};
  const std::string temporary = temporary_folder(root_, 5);
  create_temporary(temporary);
  const std::vector<Piece> pieces = {
      {.name = "a",
       .kind = kFirstMoment,
       .count = count,
       .dtype = DType::bf16,
       .values = moments.data()},
      {.name = "b", .kind = "counts", .count = 3, .dtype = DType::i64, .values = counts.data()},
      {.name = "b", .kind = "counts", .offset = 3, .count = 0, .dtype = DType::i64}};
  const Shard shard = write_shard(temporary, 0, pieces);
  EXPECT_EQ(shard.entries.size(), 3u);
  Manifest manifest = {.step = 5, .shards = {shard}};
  manifest.model.tensors = {{"a", {count}, {kFirstMoment}}, {"b", {3}, {"counts"}}};
  publish(temporary, step_folder(root_, 5), manifest);

  Reader reader(step_folder(root_, 5));
  std::vector<float> floats(1001);
  const int64_t begin_at = kMaxEntryBytes / 2 - 500;  // across the two entries
  reader.read("a", kFirstMoment, begin_at, floats);
  std::vector<bfloat16> bits(1001);
  reader.read("a", kFirstMoment, begin_at, bits);
  for (size_t index = 0; index < bits.size(); ++index) {
    const bfloat16 wanted = moments[static_cast<size_t>(begin_at) + index];
    ASSERT_EQ(bits[index].bits, wanted.bits);
    ASSERT_EQ(floats[index], to_float(wanted));
  }
  std::vector<int64_t> integers(3);
  reader.read("b", "counts", 0, integers);
  EXPECT_EQ(integers, counts);
}

TEST_F(Checkpoint, ManySmallTensors) {
  constexpr int64_t kTensors = 3000, kEach = 60;  // of some 700 KB: several blocks
  std::vector<float> values(kTensors * kEach);
  for (size_t index = 0; index < values.size(); ++index) values[index] = static_cast<float>(index);
  const std::string temporary = temporary_folder(root_, 5);
  create_temporary(temporary);
  Manifest manifest = {.step = 5};
  for (int rank = 0; rank < 2; ++rank) {
    std::vector<Piece> pieces;
    for (int64_t index = rank; index < kTensors; index += 2) {
      const std::string name = "t" + std::to_string(index);
      pieces.push_back({.name = name, .count = kEach, .values = values.data() + index * kEach});
      manifest.model.tensors.push_back({name, {kEach}, {kMaster}});
    }
    manifest.shards.push_back(write_shard(temporary, rank, pieces));
  }
  publish(temporary, step_folder(root_, 5), manifest);
  Reader reader(step_folder(root_, 5));
  for (const int64_t stride : {1, 7, -1, 1}) {
    for (int64_t step = 0; step < kTensors; ++step) {
      const int64_t index = ((step * stride) % kTensors + kTensors) % kTensors;
      std::vector<float> got(kEach - 2);
      reader.read("t" + std::to_string(index), kMaster, 1, got);
      const auto wanted = values.begin() + index * kEach + 1;
      ASSERT_TRUE(std::equal(got.begin(), got.end(), wanted)) << index;
    }
  }
}

// Each bit flip must be noticed, whether it hits values, HDF5's structures or the manifest.
TEST_F(Checkpoint, BitFlipsAnywhereAreFound) {
  const std::string folder = save(root_, 7, 2);
  for (const char* name : {"shard-00000.h5", "shard-00001.h5", "manifest.json"}) {
    const std::string path = folder + "/" + name;
    const auto bytes = static_cast<int64_t>(fs::file_size(path));
    for (int64_t byte = 0; byte < bytes; byte += 61) {
      const int bit = static_cast<int>(byte % 8);
      flip_bit(path, byte, bit);
      const std::vector<std::string> problems = verify_all(folder);
      ASSERT_FALSE(problems.empty()) << name << " byte " << byte;
      EXPECT_NE(problems[0].find(name), std::string::npos) << problems[0];
      flip_bit(path, byte, bit);
    }
  }
  EXPECT_TRUE(verify_all(folder).empty());
}

TEST_F(Checkpoint, DamagedValuesNameTheTensor) {
  const std::string folder = save(root_, 7, 2);
  Reader before(folder);
  const Shard& shard = before.manifest().shards[1];
  flip_bit(folder + "/" + shard.file, shard.values.front().offset + 2);
  const std::vector<std::string> problems = verify_all(folder);
  ASSERT_EQ(problems.size(), 1u);
  // The file's first values are the first dataset's: the entry that starts at 0 in it.
  expect_says(problems[0], {"shard-00001.h5", "checksum differs", "elements ["});
  bool named = false;
  for (const Entry& entry : shard.entries)
    named |= entry.start == 0 &&
             problems[0].find(entry.name + " (" + entry.kind + ")") != std::string::npos;
  EXPECT_TRUE(named) << problems[0];
}

TEST_F(Checkpoint, TruncatedAndMissingFiles) {
  const std::string folder = save(root_, 7, 2);
  const std::string shard = folder + "/shard-00001.h5", manifest = folder + "/manifest.json";
  const auto bytes = fs::file_size(shard);
  fs::resize_file(shard, bytes - 1);
  expect_says(error_of([&] { Reader{folder}; }), {"shard-00001.h5", "cut short"});
  fs::resize_file(shard, bytes + 1);
  expect_says(error_of([&] { Reader{folder}; }), {"shard-00001.h5", "too long"});
  fs::remove(shard);
  expect_says(error_of([&] { Reader{folder}; }), {"shard-00001.h5", "missing"});
  for (const uintmax_t size : {fs::file_size(manifest) / 2, uintmax_t{10}, uintmax_t{0}}) {
    fs::resize_file(manifest, size);
    expect_says(error_of([&] { Reader{folder}; }), {"manifest.json", "cut short"});
  }
  fs::remove(manifest);
  expect_says(error_of([&] { Reader{folder}; }), {"manifest.json", "missing"});
}

TEST_F(Checkpoint, HolesOverlapsAndStrangersAreRefused) {
  const std::string temporary = temporary_folder(root_, 3);
  create_temporary(temporary);
  Manifest good = manifest_for(3, {write_part(temporary, 0, 2), write_part(temporary, 1, 2)});
  const auto refuse = [&](const Manifest& manifest, const std::vector<std::string>& parts) {
    expect_says(error_of([&] { publish(temporary, step_folder(root_, 3), manifest); }), parts);
    EXPECT_FALSE(fs::exists(step_folder(root_, 3)));
  };
  const auto entry_of = [](Manifest& manifest) -> Entry& {  // embedding, second part of rank 1
    return manifest.shards[1].entries[0];
  };
  Manifest bad = good;
  const Entry entry = entry_of(bad);
  ASSERT_EQ(entry.name, "model.embed_tokens.weight");
  const std::string first = std::to_string(entry.offset),
                    last = std::to_string(entry.offset + entry.count);
  entry_of(bad).offset += 2;
  entry_of(bad).count -= 2;
  refuse(bad, {entry.name, "(master)", "[" + first + ", " + std::to_string(entry.offset + 2) + ")",
               "no file"});
  bad = good;
  entry_of(bad).count -= 2;
  refuse(bad, {entry.name, ", " + last + ")", "no file"});
  bad = good;
  entry_of(bad).offset -= 2;
  entry_of(bad).count += 2;
  refuse(bad, {entry.name, ", " + first + ")", "twice", "shard-00001.h5"});
  bad = good;
  entry_of(bad).count += 1;
  refuse(bad, {entry.name, "do not lie"});
  bad = good;
  bad.shards.pop_back();
  refuse(bad, {"no file"});
  bad = good;
  bad.shards.push_back(bad.shards[0]);
  refuse(bad, {"twice"});
  bad = good;
  entry_of(bad).kind = kEma;
  refuse(bad, {"shard-00001.h5", "(ema)", "does not have"});
  bad = good;
  entry_of(bad).dtype = DType::bf16;
  refuse(bad, {entry.name, "f32", "bf16"});
  bad = good;
  bad.shards[0].bytes += 1;
  refuse(bad, {"shard-00000.h5"});
  bad = good;
  bad.shards[0].file = "shard-00009.h5";
  refuse(bad, {"shard-00009.h5", "missing"});
  publish(temporary, step_folder(root_, 3), good);
  EXPECT_TRUE(verify_all(step_folder(root_, 3)).empty());
}

// A manifest that was written whole but lies about a file is damage too.
TEST_F(Checkpoint, ManifestThatDoesNotFitTheFile) {
  const std::string folder = save(root_, 3, 1);
  const Manifest good = Reader(folder).manifest();
  const auto rewrite = [&](const Manifest& manifest) {
    std::ofstream(folder + "/manifest.json") << to_json(manifest);
    return verify_all(folder);
  };
  Manifest bad = good;
  bad.shards[0].entries[0].start = 1 << 20;
  ASSERT_FALSE(rewrite(bad).empty());
  expect_says(rewrite(bad)[0], {"shard-00000.h5", "does not hold", bad.shards[0].entries[0].name});
  bad = good;
  bad.shards[0].values.back().bytes += 1 << 20;
  expect_says(rewrite(bad)[0], {"shard-00000.h5", "do not fit"});
  bad = good;
  bad.shards[0].file = "../step-00000003/shard-00000.h5";
  expect_says(rewrite(bad)[0], {"not a file of this folder"});
  EXPECT_TRUE(rewrite(good).empty());
}

TEST_F(Checkpoint, AnotherFormatVersionIsSaid) {
  std::string text = to_json(manifest_for(3, {}));
  const std::string version = "\"format_version\":1";
  ASSERT_NE(text.find(version), std::string::npos);
  text.replace(text.find(version) + version.size() - 1, 1, "7");
  const size_t digits = text.find(":\"") + 2, body = digits + 16;
  const uint64_t checksum = XXH3_64bits(text.data() + body, text.size() - body);
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(checksum));
  text.replace(digits, 16, hex);
  expect_says(error_of([&] { from_json(text, "m.json"); }), {"m.json", "version 7", "reads 1"});
}

TEST_F(Checkpoint, ShardsTravelAsBytes) {
  create_temporary(temporary_folder(root_, 1));
  const Shard shard = write_part(temporary_folder(root_, 1), 3, 4);
  EXPECT_EQ(decode(encode(shard)), shard);
  EXPECT_THROW(decode("{}"), DataError);
  EXPECT_THROW(decode(encode(shard).substr(1)), DataError);
}

TEST_F(Checkpoint, FullDiskLeavesTheEarlierCheckpointGood) {
  save(root_, 1, 2);
  // Files may not grow past 64 KiB: HDF5's writes fail as on a full disk.
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const std::vector<float> values(1 << 20, 1.0f);
  const Piece piece = {
      .name = "big", .count = static_cast<int64_t>(values.size()), .values = values.data()};
  const std::string temporary = temporary_folder(root_, 2);
  create_temporary(temporary);
  const struct rlimit small = {.rlim_cur = 1 << 16, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = error_of([&] { write_shard(temporary, 0, {&piece, 1}); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, old_handler);
  expect_says(message, {"shard-00000.h5"});
  EXPECT_TRUE(fs::exists(temporary));
  const int open_file = ::open((temporary + "/shard-00000.h5").c_str(), O_RDONLY);
  ASSERT_GE(open_file, 0);
  discard(temporary);
  EXPECT_FALSE(fs::exists(temporary));
  struct stat status {};  // whoever still has the file open holds no room
  ASSERT_EQ(::fstat(open_file, &status), 0);
  ::close(open_file);
  EXPECT_EQ(status.st_size, 0);
  EXPECT_EQ(latest(root_).step, 1);
  EXPECT_TRUE(verify_all(step_folder(root_, 1)).empty());
  // The HDF5 library still works in this process.
  save(root_, 3, 2);
  EXPECT_TRUE(verify_all(step_folder(root_, 3)).empty());
}

TEST_F(Checkpoint, TooLittleSpaceIsSaidBeforeWriting) {
  const std::string temporary = temporary_folder(root_, 2);
  create_temporary(temporary);
  float value = 0;
  const Piece piece = {.name = "big", .count = int64_t{1} << 50, .values = &value};
  expect_says(error_of([&] { write_shard(temporary, 0, {&piece, 1}); }), {"needs", "free"});
  EXPECT_TRUE(fs::is_empty(temporary));
}

TEST_F(Checkpoint, LatestSkipsDamagedFolders) {
  EXPECT_EQ(latest(root_ + "/none").folder, "");
  EXPECT_EQ(latest(root_).folder, "");
  for (const int64_t step : {100, 200, 300, 400}) save(root_, step, 2);
  fs::create_directories(root_ + "/step-00000900.partial");
  fs::create_directories(root_ + "/step-x");
  fs::create_directory_symlink(step_folder(root_, 100), root_ + "/step-00000950");
  fs::remove(step_folder(root_, 400) + "/shard-00001.h5");
  flip_bit(step_folder(root_, 300) + "/manifest.json", 100);
  const Latest found = latest(root_);
  EXPECT_EQ(found.folder, step_folder(root_, 200));
  EXPECT_EQ(found.step, 200);
  ASSERT_EQ(found.damaged.size(), 2u);
  EXPECT_EQ(found.damaged[0].folder, step_folder(root_, 400));
  expect_says(found.damaged[0].reason, {"shard-00001.h5", "missing"});
  expect_says(found.damaged[1].reason, {"manifest.json", "checksum differs"});
  EXPECT_EQ(latest(root_, 200).step, 100);
  EXPECT_EQ(latest(root_, 100).folder, "");
  // A folder under another step's name is not that step.
  fs::rename(step_folder(root_, 200), step_folder(root_, 250));
  EXPECT_EQ(latest(root_).step, 100);
}

TEST_F(Checkpoint, PruneKeepsTheNewestGoodOnes) {
  for (const int64_t step : {100, 200, 300, 400}) save(root_, step, 1);
  fs::remove(step_folder(root_, 400) + "/manifest.json");
  EXPECT_EQ(prune(root_, 2), std::vector<std::string>{step_folder(root_, 100)});
  EXPECT_TRUE(prune(root_, 2).empty());
  EXPECT_EQ(latest(root_).step, 300);
  EXPECT_EQ(prune(root_, 1), std::vector<std::string>{step_folder(root_, 200)});
  EXPECT_TRUE(fs::exists(step_folder(root_, 400)));
  EXPECT_THROW(prune(root_, 0), InternalError);
}

TEST_F(Checkpoint, LeftoversOfACrash) {
  save(root_, 100, 1);
  save(root_, 200, 1);
  create_temporary(temporary_folder(root_, 300));
  write_part(temporary_folder(root_, 300), 0, 2);
  fs::rename(step_folder(root_, 200), step_folder(root_, 200) + ".replaced");
  fs::create_directories(step_folder(root_, 50) + ".removing/x");
  fs::create_directories(root_ + "/step-notes.partial");
  fs::create_directory_symlink(step_folder(root_, 100), root_ + "/step-00000400.partial");
  EXPECT_EQ(remove_leftovers(root_), (std::vector<std::string>{step_folder(root_, 50) + ".removing",
                                                               temporary_folder(root_, 300)}));
  EXPECT_TRUE(fs::exists(root_ + "/step-notes.partial"));
  EXPECT_TRUE(verify_all(step_folder(root_, 100)).empty());
  EXPECT_EQ(latest(root_).step, 200);
  EXPECT_TRUE(remove_leftovers(root_ + "/none").empty());
}

TEST_F(Checkpoint, PublishReplacesAnOlderFolder) {
  save(root_, 100, 4);
  flip_bit(step_folder(root_, 100) + "/shard-00002.h5", 3000);
  save(root_, 100, 1);
  EXPECT_TRUE(verify_all(step_folder(root_, 100)).empty());
  std::set<std::string> names;
  for (const auto& item : fs::directory_iterator(root_))
    names.insert(item.path().filename().string());
  EXPECT_EQ(names, std::set<std::string>{"step-00000100"});
  EXPECT_FALSE(fs::exists(step_folder(root_, 100) + "/shard-00002.h5"));
}

TEST(SameModel, NamesTheFirstDifference) {
  const ModelDescription stored = {.config_json = R"({"a": 1, "rope": {"factor": 40, "b": 2}})",
                                   .tensors = {{"x", {2, 3}, {"master"}}, {"y", {4}, {"master"}}}};
  require_same_model(stored, stored, "folder");
  ModelDescription wanted = stored;
  wanted.tensors[0].kinds = {"master", "ema"};  // another recipe, the same model
  wanted.config_json = R"({"rope": {"b": 2, "factor": 40}, "a": 1})";
  require_same_model(stored, wanted, "folder");
  const auto message = [&] {
    return error_of([&] { require_same_model(stored, wanted, "folder"); });
  };
  wanted.config_json = R"({"a": 1, "rope": {"factor": 1, "b": 2}})";
  expect_says(message(), {"folder", "another model", "rope.factor is 40", "1"});
  wanted.config_json = R"({"a": 1})";
  expect_says(message(), {"rope"});
  wanted = stored;
  wanted.tensors[0].shape = {3, 2};
  expect_says(message(), {"x is [2,3]", "[3,2]"});
  wanted = stored;
  wanted.tensors.pop_back();
  expect_says(message(), {"y"});
  wanted = stored;
  wanted.tensors.push_back({"z", {1}, {"master"}});
  expect_says(message(), {"no tensor z"});
}

}  // namespace
}  // namespace strait::checkpoint
