// data/checkpoint/manifest_json.cpp: the text forms of Manifest and Shard, and the comparison of
// configs.
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/errors.h"
#include "data/checkpoint/manifest.h"

namespace strait::checkpoint {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kHead = "{\"checksum\":\"";
constexpr size_t kChecksumDigits = 16;
constexpr const char* kFormatName = "strait checkpoint";

// Text that is not UTF-8 (a recipe's comment, a path) must not make a checkpoint fail: such bytes
// become U+FFFD.
std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

uint64_t from_hex(const std::string& text) {
  size_t used = 0;
  const uint64_t value = std::stoull(text, &used, 16);
  if (used != text.size() || text.size() != kChecksumDigits)
    throw std::invalid_argument("'" + text + "' is not a checksum");
  return value;
}

DType dtype_named(const std::string& name) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::i32, DType::i64, DType::u16, DType::u8})
    if (name == name_of(dtype)) return dtype;
  throw std::invalid_argument("unknown dtype '" + name + "'");
}

Json to_value(const Shard& shard) {
  Json values = Json::array(), entries = Json::array();
  for (const Region& region : shard.values) values.push_back({region.offset, region.bytes});
  for (const Entry& entry : shard.entries)
    entries.push_back(Json::array({entry.name, entry.kind, entry.offset, entry.count,
                                   name_of(entry.dtype), entry.start, hex(entry.checksum)}));
  return {{"file", shard.file},
          {"bytes", shard.bytes},
          {"values", std::move(values)},
          {"structure_checksum", hex(shard.structure_checksum)},
          {"entries", std::move(entries)}};
}

Shard shard_from(const Json& json) {
  Shard shard;
  shard.file = json.at("file").get<std::string>();
  shard.bytes = json.at("bytes").get<int64_t>();
  shard.structure_checksum = from_hex(json.at("structure_checksum").get<std::string>());
  for (const Json& region : json.at("values"))
    shard.values.push_back({region.at(0).get<int64_t>(), region.at(1).get<int64_t>()});
  for (const Json& row : json.at("entries"))
    shard.entries.push_back({.name = row.at(0).get<std::string>(),
                             .kind = row.at(1).get<std::string>(),
                             .offset = row.at(2).get<int64_t>(),
                             .count = row.at(3).get<int64_t>(),
                             .dtype = dtype_named(row.at(4).get<std::string>()),
                             .start = row.at(5).get<int64_t>(),
                             .checksum = from_hex(row.at(6).get<std::string>())});
  return shard;
}

Json config_value(const std::string& text) {
  return text.empty() ? Json::object() : Json::parse(text);
}

// The first key, with its path, at which two objects differ; empty if they are equal.
std::string first_difference(const Json& stored, const Json& wanted, const std::string& path) {
  if (stored == wanted) return "";
  if (!stored.is_object() || !wanted.is_object())
    return fmt::format("{} is {}, here it is {}", path, dump(stored), dump(wanted));
  Json keys = stored;
  keys.update(wanted);
  for (const auto& [key, unused] : keys.items()) {
    const std::string at = path.empty() ? key : path + "." + key;
    const Json none;
    const std::string difference = first_difference(stored.contains(key) ? stored[key] : none,
                                                    wanted.contains(key) ? wanted[key] : none, at);
    if (!difference.empty()) return difference;
  }
  return "";
}

Manifest manifest_from(const Json& json) {
  Manifest manifest;
  manifest.step = json.at("step").get<int64_t>();
  manifest.next_sample = json.at("next_sample").get<int64_t>();
  manifest.seed = json.at("seed").get<uint64_t>();
  manifest.model.config_json = json.at("config").get<std::string>();
  for (const Json& row : json.at("tensors"))
    manifest.model.tensors.push_back({row.at(0).get<std::string>(),
                                      row.at(1).get<std::vector<int64_t>>(),
                                      row.at(2).get<std::vector<std::string>>()});
  manifest.recipe = json.at("recipe").get<std::string>();
  manifest.extra = json.at("extra").get<std::map<std::string, std::string>>();
  for (const Json& shard : json.at("shards")) manifest.shards.push_back(shard_from(shard));
  return manifest;
}

}  // namespace

std::string encode(const Shard& shard) { return dump(to_value(shard)); }

Shard decode(const std::string& bytes) {
  try {
    return shard_from(Json::parse(bytes));
  } catch (const std::exception& error) {
    throw DataError(fmt::format("[checkpoint] cannot read a shard's entries: {}", error.what()));
  }
}

std::string to_json(const Manifest& manifest) {
  Json tensors = Json::array(), shards = Json::array();
  for (const TensorInfo& tensor : manifest.model.tensors)
    tensors.push_back(Json::array({tensor.name, tensor.shape, tensor.kinds}));
  for (const Shard& shard : manifest.shards) shards.push_back(to_value(shard));
  const Json json = {{"format", kFormatName},         {"format_version", kFormatVersion},
                     {"step", manifest.step},         {"next_sample", manifest.next_sample},
                     {"seed", manifest.seed},         {"config", manifest.model.config_json},
                     {"tensors", std::move(tensors)}, {"recipe", manifest.recipe},
                     {"extra", manifest.extra},       {"shards", std::move(shards)}};
  const std::string body = "\",\n" + dump(json).substr(1) + "\n";
  return std::string(kHead) + hex(XXH3_64bits(body.data(), body.size())) + body;
}

Manifest from_json(const std::string& text, const std::string& path) {
  const size_t body = kHead.size() + kChecksumDigits;
  if (text.size() <= body || std::string_view(text).substr(0, kHead.size()) != kHead)
    throw DataError(fmt::format("{}: is not the manifest of a checkpoint, or cut short", path));
  const std::string stored = text.substr(kHead.size(), kChecksumDigits);
  if (stored != hex(XXH3_64bits(text.data() + body, text.size() - body)))
    throw DataError(
        fmt::format("{}: checksum differs: the manifest is damaged or cut short", path));
  try {
    const Json json = Json::parse(text);
    if (json.at("format") != kFormatName)
      throw std::invalid_argument("format is " + dump(json.at("format")));
    const int version = json.at("format_version").get<int>();
    if (version != kFormatVersion)
      throw std::invalid_argument(
          fmt::format("it has format version {}, this program reads {}", version, kFormatVersion));
    return manifest_from(json);
  } catch (const std::exception& error) {
    throw DataError(fmt::format("{}: cannot be read: {}", path, error.what()));
  }
}

void require_same_model(const ModelDescription& stored, const ModelDescription& wanted,
                        const std::string& where) {
  const std::string config =
      first_difference(config_value(stored.config_json), config_value(wanted.config_json), "");
  if (!config.empty())
    throw DataError(fmt::format("{}: is a checkpoint of another model: there {}", where, config));
  std::map<std::string, const TensorInfo*> tensors;
  for (const TensorInfo& tensor : stored.tensors) tensors[tensor.name] = &tensor;
  for (const TensorInfo& tensor : wanted.tensors) {
    const auto at = tensors.find(tensor.name);
    if (at == tensors.end())
      throw DataError(fmt::format("{}: is a checkpoint of another model: it has no tensor {}",
                                  where, tensor.name));
    if (at->second->shape != tensor.shape)
      throw DataError(
          fmt::format("{}: is a checkpoint of another model: {} is {} there, here it is {}", where,
                      tensor.name, dump(at->second->shape), dump(tensor.shape)));
    tensors.erase(at);
  }
  if (!tensors.empty())
    throw DataError(fmt::format("{}: is a checkpoint of another model: this one has no tensor {}",
                                where, tensors.begin()->first));
}

}  // namespace strait::checkpoint
