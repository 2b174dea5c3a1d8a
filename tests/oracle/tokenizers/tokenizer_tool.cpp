// Strait's tokenizer as a program for compare.py.
//   tokenizer_tool train OUT.json VOCAB IN     trains on the texts of IN; prints the CPU seconds
//   tokenizer_tool encode FILE.json IN OUT [special]   encodes them; prints those of encoding
// IN holds texts, each as a 32-bit length and its bytes. OUT gets for each text a 32-bit count, the
// ids, and the decoded text in the form of IN.
#include <fmt/core.h>

#include <cstring>
#include <ctime>
#include <exception>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/trainer.h"

namespace {

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  return content.str();
}

std::vector<std::string_view> unpack(const std::string& data) {
  std::vector<std::string_view> texts;
  for (size_t at = 0; at < data.size();) {
    uint32_t size;
    std::memcpy(&size, data.data() + at, 4);
    texts.emplace_back(data.data() + at + 4, size);
    at += 4 + size;
  }
  return texts;
}

void put(std::ofstream& out, size_t count, const void* from, size_t num_bytes) {
  const auto narrow = static_cast<uint32_t>(count);
  out.write(reinterpret_cast<const char*>(&narrow), 4);
  out.write(static_cast<const char*>(from), static_cast<std::streamsize>(num_bytes));
}

// CPU time, so that other work on the machine does not count.
double seconds_since(std::clock_t start) {
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

int train(const std::string& out, int64_t vocab_size, const std::string& in) {
  const std::string data = read(in);
  const std::clock_t start = std::clock();
  strait::TokenizerTrainer trainer({.vocab_size = vocab_size});
  for (const std::string_view text : unpack(data)) trainer.add(text);
  std::ofstream(out, std::ios::binary) << trainer.train();
  fmt::print("{:.4f}\n", seconds_since(start));
  return 0;
}

int encode(const std::string& file, const std::string& in, const std::string& to, bool special) {
  const strait::Tokenizer tokenizer = strait::Tokenizer::load(file);
  strait::Encoder encoder(tokenizer);
  const std::string data = read(in);
  const std::vector<std::string_view> texts = unpack(data);
  std::vector<std::vector<int32_t>> ids(texts.size());
  const std::clock_t start = std::clock();
  for (size_t index = 0; index < texts.size(); ++index)
    encoder.encode(texts[index], ids[index], special);
  fmt::print("{:.4f}\n", seconds_since(start));
  std::ofstream out(to, std::ios::binary);
  for (const std::vector<int32_t>& list : ids) {
    put(out, list.size(), list.data(), 4 * list.size());
    const std::string text = tokenizer.decode(list);
    put(out, text.size(), text.data(), text.size());
  }
  return out.good() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  try {
    if (args.size() == 4 && args[0] == "train") return train(args[1], std::stoll(args[2]), args[3]);
    if (args.size() >= 4 && args[0] == "encode")
      return encode(args[1], args[2], args[3], args.size() > 4);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  fmt::print(stderr, "usage: see tests/oracle/tokenizers/tokenizer_tool.cpp\n");
  return 2;
}
