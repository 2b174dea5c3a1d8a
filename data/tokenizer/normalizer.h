// data/tokenizer/normalizer.h: Unicode normalisation of text before it is split. Immutable,
// thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace strait {

enum class NormalForm : uint8_t { nfc, nfd, nfkc, nfkd };

class Normalizer {
 public:
  Normalizer() = default;  // leaves text as it is
  explicit Normalizer(std::vector<NormalForm> forms) : forms_(std::move(forms)) {}

  bool empty() const { return forms_.empty(); }

  // `text` itself when nothing changes, or the result of the forms in order, in `storage`.
  // REQUIRES: `text` is well-formed UTF-8. Works line by line, so scratch memory is bounded by the
  // longest line.
  std::string_view apply(std::string_view text, std::string& storage) const;

 private:
  std::vector<NormalForm> forms_;
};

}  // namespace strait
