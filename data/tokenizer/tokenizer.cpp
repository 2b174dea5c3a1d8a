#include "data/tokenizer/tokenizer.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/errors.h"
#include "data/hdf5/read_file.h"
#include "data/tokenizer/tokenizer_model.h"
#include "data/tokenizer/utf8.h"

namespace strait {
std::string xxh3_of(std::string_view bytes) {
  return fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()));
}

// --- Tokenizer
// -------------------------------------------------------------------------------------------

Tokenizer Tokenizer::load(const std::string& path) {
  const std::filesystem::path config =
      std::filesystem::path(path).parent_path() / "tokenizer_config.json";
  return parse(read_file(path), path,
               std::filesystem::exists(config) ? read_file(config.string()) : std::string());
}

Tokenizer Tokenizer::parse(const std::string& json, const std::string& name,
                           const std::string& config_json) {
  return Tokenizer(
      std::make_shared<const TokenizerModel>(read_tokenizer_model(json, name, config_json)));
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(model_->tokens.size()); }

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  const auto at = model_->ids.find(std::string(token));
  return at == model_->ids.end() ? std::nullopt : std::optional(at->second);
}

const std::string& Tokenizer::token_of(int32_t id) const {
  return model_->tokens.at(static_cast<size_t>(id));
}
bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && model_->special[static_cast<size_t>(id)];
}
std::optional<int32_t> Tokenizer::eos_id() const { return model_->eos_id; }
std::optional<int32_t> Tokenizer::bos_id() const { return model_->bos_id; }
const std::string& Tokenizer::json() const { return model_->json; }
const std::string& Tokenizer::xxh3() const { return model_->xxh3; }

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<int32_t> ids;
  Encoder(*this).encode(text, ids, add_special_tokens);
  return ids;
}

std::string_view Tokenizer::bytes_of(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return model_->bytes[static_cast<size_t>(id)];
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const int32_t id : ids)
    if (!skip_special_tokens || !is_special(id)) bytes += bytes_of(id);
  return with_replacements(bytes);
}

// --- Encoder
// ---------------------------------------------------------------------------------------------

namespace {

// A direct-mapped cache from short words to their ids: a slot is one cache line, the newest word
// wins.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 30, kMaxIds = 8;

  const int32_t* find(std::string_view word, uint64_t hash, size_t& num_ids) const {
    const Slot& slot = slots_[hash % kSlots];
    if (slot.num_bytes != word.size() ||
        std::memcmp(slot.bytes.data(), word.data(), word.size()) != 0)
      return nullptr;
    num_ids = slot.num_ids;
    return slot.ids.data();
  }

  void put(std::string_view word, uint64_t hash, std::span<const int32_t> ids) {
    if (ids.size() > kMaxIds) return;
    Slot& slot = slots_[hash % kSlots];
    slot.num_bytes = static_cast<uint8_t>(word.size());
    slot.num_ids = static_cast<uint8_t>(ids.size());
    std::memcpy(slot.bytes.data(), word.data(), word.size());
    std::memcpy(slot.ids.data(), ids.data(), ids.size_bytes());
  }

 private:
  static constexpr size_t kSlots = size_t{1} << 14;
  struct alignas(64) Slot {
    uint8_t num_bytes = 0;  // 0: empty, and no word is
    uint8_t num_ids = 0;
    std::array<char, kMaxBytes> bytes;
    std::array<int32_t, kMaxIds> ids;
  };
  std::vector<Slot> slots_ = std::vector<Slot>(kSlots);
};

}  // namespace

struct Encoder::State {
  std::shared_ptr<const TokenizerModel> model;
  Matcher matcher;
  BpeScratch scratch;
  WordCache cache;

  void encode_word(std::string_view word, std::vector<int32_t>& ids) {
    if (word.size() > WordCache::kMaxBytes) return model->bpe.encode(word, scratch, ids);
    const uint64_t hash = XXH3_64bits(word.data(), word.size());
    size_t num_ids = 0;
    if (const int32_t* known = cache.find(word, hash, num_ids)) {
      ids.insert(ids.end(), known, known + num_ids);
      return;
    }
    const size_t before = ids.size();
    model->bpe.encode(word, scratch, ids);
    cache.put(word, hash, std::span(ids).subspan(before));
  }

  void encode_plain(std::string_view text, std::vector<int32_t>& ids) {
    std::string storage;
    model->normalized_tokens.split(
        model->normalizer.apply(text, storage),
        [&](std::string_view part) {
          model->pre_tokenizer.split(part, matcher,
                                     [&](std::string_view word) { encode_word(word, ids); });
        },
        [&](int32_t id) { ids.push_back(id); });
  }
};

Encoder::Encoder(const Tokenizer& tokenizer) : state_(std::make_unique<State>()) {
  state_->model = tokenizer.model_;
}
Encoder::~Encoder() = default;
Encoder::Encoder(Encoder&&) noexcept = default;
Encoder& Encoder::operator=(Encoder&&) noexcept = default;

void Encoder::encode(std::string_view text, std::vector<int32_t>& ids, bool add_special_tokens) {
  require_utf8(text);
  const TokenizerModel& model = *state_->model;
  if (add_special_tokens) ids.insert(ids.end(), model.prefix.begin(), model.prefix.end());
  model.raw_tokens.split(
      text, [&](std::string_view part) { state_->encode_plain(part, ids); },
      [&](int32_t id) { ids.push_back(id); });
  if (add_special_tokens) ids.insert(ids.end(), model.suffix.begin(), model.suffix.end());
}

// --- StreamDecoder
// ---------------------------------------------------------------------------------------

std::string StreamDecoder::push(int32_t id) {
  if (skip_special_tokens_ && tokenizer_.is_special(id)) return {};
  waiting_ += tokenizer_.bytes_of(id);
  const size_t unfinished = incomplete_suffix(waiting_);
  const std::string text =
      with_replacements(std::string_view(waiting_).substr(0, waiting_.size() - unfinished));
  waiting_.erase(0, waiting_.size() - unfinished);
  return text;
}

std::string StreamDecoder::finish() { return with_replacements(std::exchange(waiting_, {})); }

}  // namespace strait
