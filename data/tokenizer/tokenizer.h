// data/tokenizer/tokenizer.h: text to token ids and back: the byte-level BPE of a Hugging Face
// tokenizer.json, with the same ids as the library `tokenizers`.
//
// Understood: model BPE; normalizers NFC, NFD, NFKC, NFKD; pre-tokenizers ByteLevel (it must be
// there), Split, Digits, Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit;
// post-processors ByteLevel and TemplateProcessing; decoders ByteLevel and Fuse; Sequence of each
// kind; added tokens. That covers DeepSeek-V3, Qwen2/2.5 and Llama-3. Anything else is a DataError
// that names the file and the part. A Tokenizer is immutable, cheap to copy and thread-safe; an
// Encoder or a StreamDecoder belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace strait {

struct TokenizerModel;

class Tokenizer {
 public:
  // Reads tokenizer.json, and its neighbour tokenizer_config.json if there is one (for eos_token
  // and bos_token).
  static Tokenizer load(const std::string& path);
  // `name` begins error messages; `config_json` may be empty.
  static Tokenizer parse(const std::string& json, const std::string& name,
                         const std::string& config_json = {});

  // Ids are 0 .. vocab_size() - 1, added tokens included.
  int64_t vocab_size() const;
  std::optional<int32_t> id_of(std::string_view token) const;  // as written in the file
  // REQUIRES: 0 <= id < vocab_size().
  const std::string& token_of(int32_t id) const;
  bool is_special(int32_t id) const;

  // End and begin of a text: from tokenizer_config.json, else the first known name in the
  // vocabulary
  // (<|endoftext|>, <｜end▁of▁sentence｜>, <|end_of_text|>, </s>, ...).
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> bos_id() const;

  // The ids of `text`. add_special_tokens applies the post-processor's template (bos, eos). Throws
  // DataError with the byte offset when `text` is not UTF-8. For many texts use one Encoder per
  // thread.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = false) const;

  // The bytes of the ids as text; what is not UTF-8 becomes U+FFFD. Ids outside the vocabulary are
  // left out, as `tokenizers` does (models often have more rows than tokens).
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = false) const;
  // The raw bytes of one id; empty outside the vocabulary.
  std::string_view bytes_of(int32_t id) const;

  const std::string& json() const;  // the file, byte for byte
  const std::string& xxh3() const;  // hexadecimal 64-bit XXH3 of json()

 private:
  friend class Encoder;
  explicit Tokenizer(std::shared_ptr<const TokenizerModel> model) : model_(std::move(model)) {}
  std::shared_ptr<const TokenizerModel> model_;
};

// A tokenizer with the scratch memory of one thread: a cache of words (1 MiB), match state, merge
// buffers.
class Encoder {
 public:
  explicit Encoder(const Tokenizer& tokenizer);
  ~Encoder();
  Encoder(Encoder&&) noexcept;
  Encoder& operator=(Encoder&&) noexcept;

  // Appends the ids of `text` to `ids`. Errors as Tokenizer::encode.
  void encode(std::string_view text, std::vector<int32_t>& ids, bool add_special_tokens = false);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Turns ids into text one by one, never cutting a character: bytes of an unfinished one wait for
// the next id. All that push() and finish() return, joined, equals Tokenizer::decode of all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens = true)
      : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}

  std::string push(int32_t id);
  std::string finish();  // what still waits, as U+FFFD

 private:
  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  std::string waiting_;
};

// Hexadecimal 64-bit XXH3 of `bytes`.
std::string xxh3_of(std::string_view bytes);

}  // namespace strait
