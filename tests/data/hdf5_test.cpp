// HDF5 through its owner thread: round trips, errors in one line, threads, a write that fails
// half-way.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#include "core/errors.h"
#include "data/hdf5/durable.h"
#include "data/hdf5/file.h"
#include "data/hdf5/owner.h"
#include "tests/data/test_files.h"

namespace strait::hdf5 {
namespace {

using test::error_of;

class Hdf5Test : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              (std::string("strait_hdf5_") +
               ::testing::UnitTest::GetInstance()->current_test_info()->name() + "_" +
               std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  std::filesystem::path folder_;
};

TEST_F(Hdf5Test, DatasetsAndAttributesComeBack) {
  std::vector<float> matrix(7 * 5);
  std::iota(matrix.begin(), matrix.end(), 0.5F);
  std::vector<uint16_t> stream(1000);
  std::iota(stream.begin(), stream.end(), uint16_t{60000});
  {
    File file = File::create(path("a.h5"));
    file.create_group("/group");
    Dataset dense = file.create_dataset("/group/matrix", {.type = Type::f32, .shape = {7, 5}});
    dense.write(0, 3, matrix.data());
    dense.write(3, 4, matrix.data() + 15);
    Dataset growing = file.create_dataset(
        "/tokens",
        {.type = Type::u16, .shape = {0}, .growing = true, .chunk_rows = 64, .deflate = 1});
    growing.append(1, stream.data());
    growing.append(0, stream.data());
    growing.append(999, stream.data() + 1);
    file.set_attribute("/", "version", int64_t{1});
    file.set_attribute("/", "version", int64_t{2});
    file.set_attribute("/group", "source", std::string(100000, 'x') + "\u4e2d");
    file.set_attribute("/group", "empty", std::string());
    file.close();
  }
  File file = File::open(path("a.h5"));
  EXPECT_EQ(file.children("/"), (std::vector<std::string>{"group", "tokens"}));
  EXPECT_TRUE(file.has("/group/matrix"));
  EXPECT_FALSE(file.has("/nobody/matrix"));
  const Dataset dense = file.open_dataset("/group/matrix");
  EXPECT_EQ(dense.type(), Type::f32);
  EXPECT_EQ(dense.shape(), (std::vector<int64_t>{7, 5}));
  std::vector<float> rows(10);
  dense.read(4, 2, rows.data());
  EXPECT_EQ(rows, std::vector<float>(matrix.begin() + 20, matrix.begin() + 30));
  const Dataset growing = file.open_dataset("/tokens");
  std::vector<uint16_t> all(1000);
  growing.read(0, 1000, all.data());
  EXPECT_EQ(all, stream);
  EXPECT_THROW(growing.read(999, 2, all.data()), InternalError);
  EXPECT_EQ(file.int_attribute("/", "version"), 2);
  EXPECT_EQ(file.string_attribute("/group", "source").size(), 100003U);
  EXPECT_EQ(file.string_attribute("/group", "empty"), "");
  EXPECT_FALSE(file.has_attribute("/group", "nothing"));
}

TEST_F(Hdf5Test, ErrorsNameTheFileAndTheReason) {
  EXPECT_EQ(error_of([&] { File::open(path("missing.h5")); }),
            path("missing.h5") + ": opening failed: No such file or directory");
  std::ofstream(path("text.h5")) << "not HDF5";
  EXPECT_EQ(error_of([&] { File::open(path("text.h5")); }),
            path("text.h5") + ": is not an HDF5 file");
  File file = File::create(path("b.h5"));
  EXPECT_EQ(error_of([&] { file.open_dataset("/x/y"); }),
            path("b.h5") + ": dataset /x/y is missing");
  EXPECT_EQ(error_of([&] { file.int_attribute("/", "v"); }),
            path("b.h5") + ": attribute 'v' of / is missing");
  file.set_attribute("/", "v", std::string("1.5"));
  EXPECT_EQ(error_of([&] { file.int_attribute("/", "v"); }),
            path("b.h5") + ": attribute 'v' of / has another type than expected");
  file.close();
  EXPECT_THROW(file.has("/x"), InternalError);
}

TEST_F(Hdf5Test, TruncatedFileIsRefused) {
  {
    File file = File::create(path("c.h5"));
    std::vector<int64_t> rows(10000, 3);
    file.create_dataset("/rows", {.type = Type::i64, .shape = {10000}})
        .write(0, 10000, rows.data());
    file.close();
  }
  const auto bytes = std::filesystem::file_size(path("c.h5"));
  std::filesystem::resize_file(path("c.h5"), 40000);
  EXPECT_EQ(error_of([&] { File::open(path("c.h5")); }),
            path("c.h5") + ": is cut short: it has 40000 of " + std::to_string(bytes) + " bytes");
}

TEST_F(Hdf5Test, ManyThreadsShareTheOwner) {
  std::vector<std::thread> threads;
  std::vector<int64_t> sums(8);
  for (size_t index = 0; index < sums.size(); ++index)
    threads.emplace_back([&, index] {
      for (int round = 0; round < 20; ++round) {
        const std::string name = path(std::to_string(index).append(".h5"));
        std::vector<int64_t> rows(100, static_cast<int64_t>(index) + round), back(100);
        File file = File::create(name);
        file.create_dataset("/r", {.type = Type::i64, .shape = {100}}).write(0, 100, rows.data());
        file.close();
        File::open(name).open_dataset("/r").read(0, 100, back.data());
        sums[index] += std::accumulate(back.begin(), back.end(), int64_t{0});
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t index = 0; index < sums.size(); ++index)
    EXPECT_EQ(sums[index], 100 * (20 * static_cast<int64_t>(index) + 190));
}

TEST_F(Hdf5Test, OwnerRethrowsAndNests) {
  const auto owner = Owner::of_process();
  EXPECT_EQ(owner, Owner::of_process());
  EXPECT_THROW(owner->run([] { throw DataError("x"); }), DataError);
  int value = 0;
  owner->run([&] { owner->run([&] { value = 7; }); });
  EXPECT_EQ(value, 7);
}

// Writes past a file size limit, which stands for a full disk, then closes again; the number of
// errors.
int write_past_the_limit(const std::string& path) {
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit = {1 << 20, 1 << 20};
  setrlimit(RLIMIT_FSIZE, &limit);
  int errors = 0;
  File file = File::create(path);
  Dataset data = file.create_dataset(
      "/d", {.type = Type::u8, .shape = {0}, .growing = true, .chunk_rows = 1 << 16});
  const std::vector<uint8_t> block(1 << 16, 1);
  try {
    for (int index = 0; index < 64; ++index) data.append(1 << 16, block.data());
    file.close();
  } catch (const DataError&) {
    ++errors;
  }
  try {
    file.close();
  } catch (const DataError&) {
    ++errors;  // given up: it does not try again
  }
  return errors;
}

TEST_F(Hdf5Test, FailedWriteIsOneErrorAndTheProcessEndsWell) {
  EXPECT_EXIT(std::exit(write_past_the_limit(path("full.h5")) == 2 ? 0 : 9),
              ::testing::ExitedWithCode(0), "");
}

TEST_F(Hdf5Test, DurableFiles) {
  write_file_durably(path("note.txt"), "one");
  write_file_durably(path("note.txt"), "two");
  std::ifstream in(path("note.txt"));
  std::string text;
  in >> text;
  EXPECT_EQ(text, "two");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  EXPECT_GT(free_disk_bytes(path("not/yet/there")), 0);
  EXPECT_THROW(require_free_disk(path("x"), int64_t{1} << 62), DataError);
  EXPECT_THROW(write_file_durably(path("no/folder"), "x"), DataError);
}

}  // namespace
}  // namespace strait::hdf5
