#include "data/tokenizer/tokenizer_model.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "core/errors.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/utf8.h"

namespace strait {
namespace {

using Json = nlohmann::json;

// Reads one file; every complaint begins with the file's name.
class Reader {
 public:
  Reader(const std::string& json, const std::string& name) : name_(name) {
    try {
      root_ = Json::parse(json);
    } catch (const Json::exception& error) {
      const std::string_view text = error.what();  // "[json.exception.parse_error.101] parse ..."
      fail("is not JSON: {}", text.substr(text.find("] ") + 2));
    }
    if (!root_.is_object() || !root_.contains("model"))
      fail("has no 'model': it is not a tokenizer.json");
  }

  TokenizerModel read();

 private:
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) const {
    throw DataError(name_ + ": " + fmt::format(text, std::forward<Args>(args)...));
  }

  static bool is_null(const Json& object, const char* key) {
    return !object.contains(key) || object[key].is_null();
  }
  std::string type_of(const Json& part, const char* role) const {
    if (!part.is_object() || !part.contains("type") || !part["type"].is_string())
      fail("{} has no 'type'", role);
    return part["type"];
  }
  std::string text_at(const Json& part, const char* key, const char* role) const {
    if (is_null(part, key) || !part[key].is_string()) fail("{}: '{}' is not a string", role, key);
    return part[key];
  }
  bool flag_at(const Json& part, const char* key, bool otherwise, const char* role) const {
    if (is_null(part, key)) return otherwise;
    if (!part[key].is_boolean()) fail("{}: '{}' is not true or false", role, key);
    return part[key];
  }
  // The parts of a Sequence, or the one part itself; none for null.
  std::vector<Json> parts_of(const Json& part, const char* role, const char* list) const;

  std::vector<NormalForm> normal_forms() const;
  SplitBehavior behavior_of(const std::string& text, const char* role) const;
  Pattern compile(const std::string& source) const;
  SplitStage stage_of(const Json& part) const;
  std::vector<SplitStage> stages() const;
  void check_decoder() const;
  BpeSettings bpe_settings() const;
  Bpe::Vocabulary vocabulary() const;
  std::vector<std::pair<std::string, std::string>> merges() const;
  std::vector<AddedToken> added_tokens() const;
  void fill_tables(const Bpe::Vocabulary& vocabulary, const std::vector<AddedToken>& added,
                   TokenizerModel& model) const;
  void fill_template(TokenizerModel& model) const;

  std::string name_;
  Json root_;
};

std::vector<Json> Reader::parts_of(const Json& part, const char* role, const char* list) const {
  if (part.is_null()) return {};
  if (type_of(part, role) != "Sequence") return {part};
  if (!part.contains(list) || !part[list].is_array())
    fail("{} of type Sequence has no '{}'", role, list);
  std::vector<Json> parts;
  for (const Json& inner : part[list])
    for (Json& leaf : parts_of(inner, role, list)) parts.push_back(std::move(leaf));
  return parts;
}

std::vector<NormalForm> Reader::normal_forms() const {
  std::vector<NormalForm> forms;
  for (const Json& part :
       parts_of(root_.value("normalizer", Json()), "normalizer", "normalizers")) {
    const std::string type = type_of(part, "normalizer");
    if (type == "NFC")
      forms.push_back(NormalForm::nfc);
    else if (type == "NFD")
      forms.push_back(NormalForm::nfd);
    else if (type == "NFKC")
      forms.push_back(NormalForm::nfkc);
    else if (type == "NFKD")
      forms.push_back(NormalForm::nfkd);
    else
      fail("normalizer '{}' is not supported (NFC, NFD, NFKC, NFKD are)", type);
  }
  return forms;
}

SplitBehavior Reader::behavior_of(const std::string& text, const char* role) const {
  if (text == "Isolated") return SplitBehavior::isolated;
  if (text == "Removed") return SplitBehavior::removed;
  if (text == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (text == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (text == "Contiguous") return SplitBehavior::contiguous;
  fail("{}: unknown behavior '{}'", role, text);
}

Pattern Reader::compile(const std::string& source) const {
  try {
    return Pattern::regex(source);
  } catch (const DataError& error) {
    fail("{}", error.what());
  }
}

SplitStage Reader::stage_of(const Json& part) const {
  const std::string type = type_of(part, "pre_tokenizer");
  if (type == "ByteLevel")
    return {.pattern = compile(kByteLevelPattern),
            .space_before = flag_at(part, "add_prefix_space", true, "ByteLevel"),
            .splits = flag_at(part, "use_regex", true, "ByteLevel")};
  if (type == "Split") {
    if (!part.contains("pattern") || !part["pattern"].is_object()) fail("Split has no 'pattern'");
    const Json& pattern = part["pattern"];
    const bool literal = pattern.contains("String");
    const std::string source = text_at(pattern, literal ? "String" : "Regex", "pattern of Split");
    return {.pattern = literal ? Pattern::literal(source) : compile(source),
            .behavior = behavior_of(text_at(part, "behavior", "Split"), "Split"),
            .invert = flag_at(part, "invert", false, "Split")};
  }
  if (type == "Digits")
    return {.pattern = compile(R"(\p{N})"),
            .behavior = flag_at(part, "individual_digits", false, "Digits")
                            ? SplitBehavior::isolated
                            : SplitBehavior::contiguous};
  if (type == "Punctuation")
    return {.pattern = compile(R"([!-/:-@\[-`{-~\p{P}])"),
            .behavior = is_null(part, "behavior")
                            ? SplitBehavior::isolated
                            : behavior_of(text_at(part, "behavior", "Punctuation"), "Punctuation")};
  if (type == "Whitespace")  // its \w, unlike that of Split, takes the two joiners in
    return {.pattern = compile(R"([\w\x{200C}\x{200D}]+|[^\w\s\x{200C}\x{200D}]+)"),
            .behavior = SplitBehavior::removed,
            .invert = true};
  if (type == "WhitespaceSplit")
    return {.pattern = compile(R"(\s)"), .behavior = SplitBehavior::removed};
  if (type == "CharDelimiterSplit")
    return {.pattern = Pattern::literal(text_at(part, "delimiter", "CharDelimiterSplit")),
            .behavior = SplitBehavior::removed};
  fail(
      "pre_tokenizer '{}' is not supported (ByteLevel, Split, Digits, Punctuation, Whitespace, "
      "WhitespaceSplit, "
      "CharDelimiterSplit are)",
      type);
}

std::vector<SplitStage> Reader::stages() const {
  std::vector<SplitStage> stages;
  bool byte_level = false;
  for (const Json& part :
       parts_of(root_.value("pre_tokenizer", Json()), "pre_tokenizer", "pretokenizers")) {
    // After ByteLevel a text is in another alphabet; a split of that would mean something else
    // here.
    if (byte_level) fail("a pre_tokenizer after ByteLevel is not supported");
    stages.push_back(stage_of(part));
    byte_level = type_of(part, "pre_tokenizer") == "ByteLevel";
  }
  if (!byte_level) fail("its pre_tokenizer is not byte-level; only byte-level BPE is supported");
  return stages;
}

void Reader::check_decoder() const {
  bool byte_level = false;
  for (const Json& part : parts_of(root_.value("decoder", Json()), "decoder", "decoders")) {
    const std::string type = type_of(part, "decoder");
    if (type != "ByteLevel" && type != "Fuse")
      fail("decoder '{}' is not supported (ByteLevel and Fuse are)", type);
    byte_level = byte_level || type == "ByteLevel";
  }
  if (!byte_level) fail("its decoder is not byte-level; only byte-level BPE is supported");
}

BpeSettings Reader::bpe_settings() const {
  const Json& model = root_["model"];
  // Files of the oldest versions leave the type out.
  const std::string type =
      model.is_object() && !model.contains("type") ? "BPE" : type_of(model, "model");
  if (type != "BPE") fail("its model is '{}'; only BPE is supported", type);
  if (!is_null(model, "dropout") && model["dropout"] != 0.0) fail("BPE dropout is not supported");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!is_null(model, key) && model[key] != "") fail("BPE '{}' is not supported", key);
  for (const char* key : {"truncation", "padding"})
    if (!is_null(root_, key)) fail("'{}' is set; it must be null", key);
  return {.unk_token = is_null(model, "unk_token") ? "" : text_at(model, "unk_token", "model"),
          .fuse_unk = flag_at(model, "fuse_unk", false, "model"),
          .byte_fallback = flag_at(model, "byte_fallback", false, "model"),
          .ignore_merges = flag_at(model, "ignore_merges", false, "model")};
}

Bpe::Vocabulary Reader::vocabulary() const {
  const Json& model = root_["model"];
  if (is_null(model, "vocab") || !model["vocab"].is_object()) fail("model has no 'vocab'");
  Bpe::Vocabulary vocabulary;
  for (const auto& [token, id] : model["vocab"].items()) {
    if (!id.is_number_integer() || id < 0 || id > INT32_MAX)
      fail("token \"{}\" has id {}", token, id.dump());
    vocabulary.emplace(token, id.get<int32_t>());
  }
  return vocabulary;
}

std::vector<std::pair<std::string, std::string>> Reader::merges() const {
  const Json& model = root_["model"];
  if (is_null(model, "merges") || !model["merges"].is_array()) fail("model has no 'merges'");
  std::vector<std::pair<std::string, std::string>> merges;
  for (const Json& merge : model["merges"]) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      merges.emplace_back(merge[0], merge[1]);
      continue;
    }
    if (merge.is_string()) {
      const std::string text = merge;
      const size_t space = text.find(' ');
      if (text.starts_with("#version")) continue;
      if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
        merges.emplace_back(text.substr(0, space), text.substr(space + 1));
        continue;
      }
    }
    fail("merge {} is not a pair of tokens: {}", merges.size(), merge.dump());
  }
  return merges;
}

std::vector<AddedToken> Reader::added_tokens() const {
  std::vector<AddedToken> tokens;
  if (is_null(root_, "added_tokens")) return tokens;
  if (!root_["added_tokens"].is_array()) fail("'added_tokens' is not a list");
  for (const Json& part : root_["added_tokens"]) {
    const char* role = "added token";
    if (!part.is_object() || is_null(part, "id") || !part["id"].is_number_integer() ||
        part["id"] < 0 || part["id"] > INT32_MAX)
      fail("added token {} has no id", tokens.size());
    const bool special = flag_at(part, "special", false, role);
    tokens.push_back({.id = part["id"].get<int32_t>(),
                      .content = text_at(part, "content", role),
                      .special = special,
                      .single_word = flag_at(part, "single_word", false, role),
                      .lstrip = flag_at(part, "lstrip", false, role),
                      .rstrip = flag_at(part, "rstrip", false, role),
                      .normalized = flag_at(part, "normalized", !special, role)});
  }
  return tokens;
}

void Reader::fill_tables(const Bpe::Vocabulary& vocabulary, const std::vector<AddedToken>& added,
                         TokenizerModel& model) const {
  model.ids.insert(vocabulary.begin(), vocabulary.end());
  for (const AddedToken& token : added) {
    const auto [at, fresh] = model.ids.emplace(token.content, token.id);
    if (!fresh && at->second != token.id)
      fail("added token \"{}\" has id {}, and {} elsewhere", token.content, token.id, at->second);
  }
  const size_t size = model.ids.size();
  if (size == 0) fail("its vocabulary is empty");
  model.tokens.resize(size);
  model.bytes.resize(size);
  model.special.resize(size);
  std::vector<bool> taken(size);
  for (const auto& [token, id] : model.ids) {
    const auto index = static_cast<size_t>(id);
    if (index < size && taken[index])
      fail("id {} has two tokens, \"{}\" and \"{}\"", id, model.tokens[index], token);
    if (index >= size) continue;
    taken[index] = true;
    model.tokens[index] = token;
    // A token outside the byte-level alphabet stands for its own text.
    if (!bytes_of_byte_level(token, model.bytes[index])) model.bytes[index] = token;
  }
  for (size_t id = 0; id < size; ++id)
    if (!taken[id]) fail("{} tokens, but none has id {}: ids must be 0 to {}", size, id, size - 1);
  for (const AddedToken& token : added)
    if (token.special) model.special[static_cast<size_t>(token.id)] = true;
}

void Reader::fill_template(TokenizerModel& model) const {
  for (const Json& part :
       parts_of(root_.value("post_processor", Json()), "post_processor", "processors")) {
    const std::string type = type_of(part, "post_processor");
    if (type == "ByteLevel") continue;
    if (type != "TemplateProcessing")
      fail("post_processor '{}' is not supported (ByteLevel and TemplateProcessing are)", type);
    if (is_null(part, "single") || !part["single"].is_array())
      fail("TemplateProcessing has no 'single'");
    std::vector<int32_t> before, after;
    int num_sequences = 0;
    for (const Json& piece : part["single"]) {
      if (piece.contains("Sequence")) {
        ++num_sequences;
        continue;
      }
      if (!piece.contains("SpecialToken"))
        fail("TemplateProcessing: unknown piece {}", piece.dump());
      const std::string id = text_at(piece["SpecialToken"], "id", "TemplateProcessing");
      if (is_null(part, "special_tokens") || !part["special_tokens"].contains(id) ||
          !part["special_tokens"][id].contains("ids"))
        fail("TemplateProcessing: \"{}\" is not in its special_tokens", id);
      for (const Json& number : part["special_tokens"][id]["ids"]) {
        if (!number.is_number_integer() || number < 0 || number >= model.tokens.size())
          fail("TemplateProcessing: \"{}\" has id {}", id, number.dump());
        (num_sequences == 0 ? before : after).push_back(number.get<int32_t>());
      }
    }
    if (num_sequences != 1) fail("TemplateProcessing: 'single' must hold the sequence once");
    model.prefix.insert(model.prefix.begin(), before.begin(), before.end());
    model.suffix.insert(model.suffix.end(), after.begin(), after.end());
  }
}

TokenizerModel Reader::read() {
  const BpeSettings settings = bpe_settings();
  const Bpe::Vocabulary vocabulary = this->vocabulary();
  const Normalizer normalizer(normal_forms());
  const std::vector<AddedToken> added = added_tokens();
  check_decoder();
  std::vector<std::pair<AddedToken, std::string>> raw, normalized;
  for (const AddedToken& token : added) {
    std::string storage;
    if (first_invalid_utf8(token.content) >= 0) fail("added token {} is not UTF-8", token.id);
    if (token.normalized)
      normalized.emplace_back(token, std::string(normalizer.apply(token.content, storage)));
    else
      raw.emplace_back(token, token.content);
  }
  TokenizerModel model{.json = {},
                       .xxh3 = {},
                       .normalizer = normalizer,
                       .raw_tokens = AddedTokenFinder(std::move(raw)),
                       .normalized_tokens = AddedTokenFinder(std::move(normalized)),
                       .pre_tokenizer = PreTokenizer(stages()),
                       .bpe = Bpe(vocabulary, merges(), settings, name_),
                       .prefix = {},
                       .suffix = {},
                       .ids = {},
                       .tokens = {},
                       .bytes = {},
                       .special = {},
                       .eos_id = {},
                       .bos_id = {}};
  fill_tables(vocabulary, added, model);
  fill_template(model);
  return model;
}

// The id of the token a tokenizer_config.json names under `key`: a string or {"content": string}.
std::optional<int32_t> configured(const Json& config, const char* key,
                                  const TokenizerModel& model) {
  if (!config.is_object() || !config.contains(key)) return std::nullopt;
  const Json& value = config[key];
  const Json& text = value.is_object() && value.contains("content") ? value["content"] : value;
  if (!text.is_string()) return std::nullopt;
  const auto at = model.ids.find(text.get<std::string>());
  return at == model.ids.end() ? std::nullopt : std::optional(at->second);
}

std::optional<int32_t> first_known(std::initializer_list<const char*> names,
                                   const TokenizerModel& model) {
  for (const char* name : names)
    if (const auto at = model.ids.find(name); at != model.ids.end()) return at->second;
  return std::nullopt;
}

}  // namespace

TokenizerModel read_tokenizer_model(const std::string& json, const std::string& name,
                                    const std::string& config_json) {
  TokenizerModel model = Reader(json, name).read();
  model.json = json;
  model.xxh3 = xxh3_of(json);
  const Json config = config_json.empty() ? Json() : Json::parse(config_json, nullptr, false);
  if (config.is_discarded())
    throw DataError(name + ": the tokenizer_config.json beside it is not JSON");
  model.eos_id = configured(config, "eos_token", model);
  if (!model.eos_id)
    model.eos_id = first_known({"<|endoftext|>", "<｜end▁of▁sentence｜>", "<|end_of_text|>", "</s>",
                                "<|eot_id|>", "<|im_end|>", "<eos>"},
                               model);
  model.bos_id = configured(config, "bos_token", model);
  if (!model.bos_id)
    model.bos_id =
        first_known({"<｜begin▁of▁sentence｜>", "<|begin_of_text|>", "<s>", "<bos>"}, model);
  return model;
}

}  // namespace strait
