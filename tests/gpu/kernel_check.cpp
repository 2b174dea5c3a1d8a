// Looks at what nvcc made of a kernel file, without a GPU.
//   kernel_check LOG CUBIN COUNT: LOG is ptxas -v's output; fails on spilled registers, local
//   memory, wgmma that was serialised (C7510) and setmaxnreg that was ignored (C7508), and unless
//   each kernel in CUBIN has COUNT FP8 tensor-core instructions.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

namespace {

std::string contents(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path);
    std::exit(2);
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

int wrong_lines(const std::string& log) {
  const std::regex wrong(
      "([1-9][0-9]* bytes (stack frame|spill))|, [1-9][0-9]* bytes (lmem|spill)|C7508|C7510");
  int count = 0, kernels = 0;
  size_t start = 0;
  while (start < log.size()) {
    const size_t end = std::min(log.find('\n', start), log.size());
    const std::string line = log.substr(start, end - start);
    kernels += line.find("Compiling entry function") != std::string::npos;
    if (std::regex_search(line, wrong)) {
      std::printf("%s\n", line.c_str());
      count++;
    }
    start = end + 1;
  }
  std::printf("%d kernels, %d wrong lines\n", kernels, count);
  return kernels == 0 ? 1 : count;
}

template <class T>
T read(const std::string& bytes, size_t at) {
  T value;
  if (at + sizeof value > bytes.size()) {
    std::fprintf(stderr, "the cubin is cut short\n");
    std::exit(2);
  }
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// An instruction of Hopper is 16 bytes, and its operation the lowest 12 bits.
constexpr uint64_t kQgmma = 0x9f3;  // wgmma of FP8 operands
constexpr size_t kInstruction = 16;

// ELF: every kernel has a section named .text.<kernel>.
int wrong_kernels(const std::string& elf, int count) {
  const auto sections = read<uint64_t>(elf, 0x28);
  const auto entry = read<uint16_t>(elf, 0x3a), num = read<uint16_t>(elf, 0x3c),
             names = read<uint16_t>(elf, 0x3e);
  const auto names_at = read<uint64_t>(elf, sections + names * entry + 24);
  int wrong = 0, kernels = 0;
  for (int i = 0; i < num; i++) {
    const size_t header = sections + i * entry;
    const char* name = elf.data() + names_at + read<uint32_t>(elf, header);
    if (std::strncmp(name, ".text.", 6) != 0) continue;
    const auto offset = read<uint64_t>(elf, header + 24), size = read<uint64_t>(elf, header + 32);
    int found = 0;
    for (size_t at = offset; at < offset + size; at += kInstruction)
      found += (read<uint64_t>(elf, at) & 0xfff) == kQgmma;
    std::printf("%s: %zu instructions, %d of FP8 tensor cores\n", name + 6,
                static_cast<size_t>(size) / kInstruction, found);
    wrong += found != count;
    kernels++;
  }
  std::printf("%d kernels, %d wrong in opcodes\n", kernels, wrong);
  return kernels == 0 ? 1 : wrong;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "kernel_check LOG CUBIN COUNT\n");
    return 2;
  }
  const int wrong =
      wrong_lines(contents(argv[1])) + wrong_kernels(contents(argv[2]), std::atoi(argv[3]));
  return wrong == 0 ? 0 : 1;
}
