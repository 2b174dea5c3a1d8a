// safetensors files: what is written is read, byte for byte as the format says, and every damage is
// named.
#include "data/huggingface/safetensors.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>

#include "core/errors.h"

namespace strait::huggingface {
namespace {

namespace fs = std::filesystem;

class Safetensors : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = (fs::temp_directory_path() / "strait-safetensors-XXXXXX").string();
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    root_ = path;
    path_ = root_ + "/x.safetensors";
  }
  void TearDown() override { fs::remove_all(root_); }

  // A file with this header and so many bytes of values (0, 1, 2, ...).
  void make(const std::string& header, size_t num_bytes) {
    const uint64_t length = header.size();
    std::string values(num_bytes, '\0');
    for (size_t index = 0; index < num_bytes; ++index) values[index] = static_cast<char>(index);
    std::ofstream file(path_, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), 8);
    file << header << values;
  }
  std::string error() {
    return error_of([&] { SafetensorsFile{path_}; });
  }
  static std::string error_of(const std::function<void()>& work) {
    try {
      work();
    } catch (const DataError& error) {
      return error.what();
    }
    return "nothing was thrown";
  }
  std::string root_, path_;
};

#define EXPECT_SAYS(message, part) \
  EXPECT_NE((message).find(part), std::string::npos) << "'" << (part) << "' not in: " << (message)

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

TEST_F(Safetensors, RoundTripOfEveryDtype) {
  const std::vector<float> floats = {1.5f,  -0.0f, std::numeric_limits<float>::denorm_min(),
                                     3e38f, 0.1f,  -7};
  const std::vector<uint16_t> halves = {0x3f80, 0xc000, 0x7f80};  // BF16 1, -2, infinity
  const std::vector<int64_t> longs = {int64_t{1} << 62, -1};
  const std::vector<int32_t> ints = {-5};
  SafetensorsWriter writer(path_, {{"w", {2, 3}, DType::f32},
                                   {"h", {3}, DType::bf16},
                                   {"empty", {0, 7}, DType::f32},
                                   {"l", {2, 1, 1}, DType::i64},
                                   {"scalar", {}, DType::i32}});
  writer.append("l", bytes_of(longs).first(8));  // tensors take turns
  writer.append("w", bytes_of(floats).first(7));
  writer.append("h", bytes_of(halves));
  writer.append("scalar", bytes_of(ints));
  writer.append("w", bytes_of(floats).subspan(7));
  writer.append("l", bytes_of(longs).subspan(8));
  writer.finish();

  const SafetensorsFile file(path_);
  EXPECT_EQ(file.tensors().size(), 5u);
  EXPECT_EQ(file.tensor("l").dtype, "I64");
  EXPECT_EQ(file.tensor("l").shape, (std::vector<int64_t>{2, 1, 1}));
  EXPECT_EQ(file.tensor("scalar").numel(), 1);
  EXPECT_EQ(file.tensor("empty").bytes, 0);
  std::vector<float> w(6), h(2);
  file.read("w", 0, w);
  EXPECT_EQ(std::memcmp(w.data(), floats.data(), 24), 0);
  file.read("h", 1, h);
  EXPECT_EQ(h, (std::vector<float>{-2, INFINITY}));
  std::vector<int64_t> l(1);
  file.read_raw("l", 8, std::as_writable_bytes(std::span(l)));
  EXPECT_EQ(l[0], -1);
  EXPECT_SAYS(error_of([&] { file.read("l", 0, h); }), "I64");
  EXPECT_SAYS(error_of([&] { file.read("h", 2, h); }), "[2, 4)");
  EXPECT_SAYS(error_of([&] { file.read("none", 0, h); }), "none");
}

// The bytes by hand, from the format's description.
TEST_F(Safetensors, BytesAreAsTheFormatSays) {
  SafetensorsWriter writer(path_, {{"a", {2}, DType::bf16}}, {});
  writer.append("a", bytes_of(std::vector<uint16_t>{0x1234, 0x5678}));
  writer.finish();
  std::ifstream in(path_, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  const std::string header = R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})";
  const size_t padded = (header.size() + 7) / 8 * 8;
  ASSERT_EQ(text.size(), 8 + padded + 4);
  EXPECT_EQ(static_cast<size_t>(text[0]), padded);
  EXPECT_EQ(text.substr(1, 7), std::string(7, '\0'));
  EXPECT_EQ(text.substr(8, padded), header + std::string(padded - header.size(), ' '));
  EXPECT_EQ(text.substr(8 + padded), "\x34\x12\x78\x56");
}

TEST_F(Safetensors, HalfPrecisionIsExact) {
  make(R"({"f":{"dtype":"F16","shape":[7],"data_offsets":[0,14]}})", 0);
  const std::vector<uint16_t> bits = {0x3c00, 0xc000, 0x0001, 0x8000, 0x7bff, 0xfc00, 0x03ff};
  std::ofstream(path_, std::ios::binary | std::ios::app)
      .write(reinterpret_cast<const char*>(bits.data()), 14);
  std::vector<float> values(7);
  SafetensorsFile(path_).read("f", 0, values);
  EXPECT_EQ(values, (std::vector<float>{1, -2, 0x1p-24f, -0.0f, 65504, -INFINITY, 0x3ffp-24f}));
  EXPECT_TRUE(std::signbit(values[3]));
}

TEST_F(Safetensors, FloatsOfEightBitsAreReadRaw) {
  make(R"({"q":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[0,4]}})", 4);
  const SafetensorsFile file(path_);
  std::vector<std::byte> raw(3);
  file.read_raw("q", 1, raw);
  EXPECT_EQ(raw, (std::vector<std::byte>{std::byte{1}, std::byte{2}, std::byte{3}}));
  std::vector<float> values(1);
  EXPECT_SAYS(error_of([&] { file.read("q", 0, values); }), "F8_E4M3");
}

TEST_F(Safetensors, DamagedHeadersAreNamed) {
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  make("{" + a + "}", 8);
  EXPECT_EQ(SafetensorsFile(path_).tensors().size(), 1u);
  make("{" + a + R"(,"__metadata__":{"format":"pt"}}    )", 8);
  EXPECT_EQ(SafetensorsFile(path_).tensors().size(), 1u);

  make("{" + a + "}", 7);
  EXPECT_SAYS(error(), "x.safetensors");
  EXPECT_SAYS(error(), "cut short: tensor a");
  make("{" + a + "}", 9);
  EXPECT_SAYS(error(), "1 bytes after the last tensor");
  make("{" + a, 8);
  EXPECT_SAYS(error(), "not JSON");
  make("[1]", 0);
  EXPECT_SAYS(error(), "not JSON");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"b":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "do not fit its shape [3]"},
      {R"({"b":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "do not fit"},
      {R"({"b":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})",
       "do not fit"},
      {R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "do not fit"},
      {R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", "do not fit"},
      {R"({"b":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]}})", "unknown dtype 'Q4'"},
      {R"({"b":{"dtype":"F32","data_offsets":[0,8]}})", "bad header"},
      {R"({"b":{"dtype":"F32","shape":["x"],"data_offsets":[0,8]}})", "bad header"},
      {R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", "bad header"},
      {R"({"b":3})", "bad header"},
      {"{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "overlap"},
      {R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "hole"}};
  for (const auto& [header, part] : cases) {
    make(header, 8);
    EXPECT_SAYS(error(), part);
    EXPECT_SAYS(error(), "tensor b");
  }
}

TEST_F(Safetensors, FilesThatAreNoneOfThis) {
  EXPECT_SAYS(error(), "cannot be opened");
  std::ofstream(path_) << "abc";
  EXPECT_SAYS(error(), "cut short");
  std::ofstream(path_) << "{\"this\": \"is some JSON\"}";
  EXPECT_SAYS(error(), "not a safetensors file");
  make("{}", 0);
  EXPECT_TRUE(SafetensorsFile(path_).tensors().empty());
  fs::resize_file(path_, 9);
  EXPECT_SAYS(error(), "cut short");
  path_ = root_;
  EXPECT_SAYS(error(), "not a file");
}

TEST_F(Safetensors, IncompleteTensorsAreNotFinished) {
  SafetensorsWriter writer(path_, {{"a", {2}}, {"b", {2}}});
  writer.append("a", bytes_of(std::vector<float>{1, 2}));
  writer.append("b", bytes_of(std::vector<float>{1}));
  EXPECT_SAYS(error_of([&] { writer.finish(); }), "tensor b got 4 of its 8 bytes");
  EXPECT_THROW(writer.append("a", bytes_of(std::vector<float>{1})), InternalError);
  EXPECT_THROW(writer.append("c", bytes_of(std::vector<float>{1})), InternalError);
  EXPECT_THROW(SafetensorsWriter(root_ + "/y", {{"a", {2}}, {"a", {2}}}), InternalError);
}

TEST_F(Safetensors, FailedWritesAreSaid) {
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  SafetensorsWriter writer(path_, {{"a", {1 << 16}}});
  const struct rlimit small = {.rlim_cur = 1 << 12, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message =
      error_of([&] { writer.append("a", bytes_of(std::vector<float>(1 << 16))); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_SAYS(message, "x.safetensors: cannot be written");
}

}  // namespace
}  // namespace strait::huggingface
