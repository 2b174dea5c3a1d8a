// tests/data/test_files.h: what several tests of data/ share.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#include "core/errors.h"

namespace strait::test {

inline std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const DataError& error) {
    return error.what();
  }
  return "no DataError";
}

// The bytes of a file of tests/oracle/golden/tokenizers.
inline std::string tokenizer_golden(const std::string& name) {
  std::ifstream in(STRAIT_SOURCE_DIR "/tests/oracle/golden/tokenizers/" + name, std::ios::binary);
  EXPECT_TRUE(in.good()) << name;
  std::ostringstream content;
  content << in.rdbuf();
  return content.str();
}

}  // namespace strait::test
