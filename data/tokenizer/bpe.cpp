#include "data/tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "core/errors.h"
#include "data/tokenizer/utf8.h"

namespace strait {
namespace {

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t slot_of(uint64_t pair, size_t num_slots) {
  return static_cast<size_t>((pair * 0x9E3779B97F4A7C15U) >> 20) & (num_slots - 1);
}

// Later in the heap: a higher rank, or the same rank further right.
bool later(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.place > b.place;
}

}  // namespace

Bpe::Bpe(const Vocabulary& vocabulary,
         const std::vector<std::pair<std::string, std::string>>& merges, BpeSettings settings,
         const std::string& name)
    : settings_(std::move(settings)) {
  const auto id_or_none = [&](const std::string& token) {
    const auto at = vocabulary.find(token);
    return at == vocabulary.end() ? -1 : at->second;
  };
  if (!settings_.unk_token.empty()) {
    unk_id_ = id_or_none(settings_.unk_token);
    if (unk_id_ < 0)
      throw DataError(
          fmt::format("{}: unk_token \"{}\" is not in the vocabulary", name, settings_.unk_token));
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    const std::string token = byte_level_of_bytes(std::string(1, static_cast<char>(byte)));
    id_of_byte_[byte] = id_or_none(token);
    fallback_of_byte_[byte] = {-1, -1};
    for (size_t index = 0; index < token.size(); ++index)
      fallback_of_byte_[byte][index] =
          id_or_none(fmt::format("<0x{:02X}>", static_cast<uint8_t>(token[index])));
    if (token.size() == 2 && (fallback_of_byte_[byte][0] < 0 || fallback_of_byte_[byte][1] < 0))
      fallback_of_byte_[byte] = {-1, -1};
  }
  slots_.resize(std::bit_ceil(2 * merges.size() + 2));
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const int32_t left_id = id_or_none(left), right_id = id_or_none(right),
                  merged = id_or_none(left + right);
    for (const auto& [token, id] : {std::pair{&left, left_id}, std::pair{&right, right_id}})
      if (id < 0)
        throw DataError(fmt::format("{}: merge {} names \"{}\", which is not in the vocabulary",
                                    name, rank, *token));
    if (merged < 0)
      throw DataError(fmt::format("{}: merge {} makes \"{}{}\", which is not in the vocabulary",
                                  name, rank, left, right));
    insert(pair_of(left_id, right_id), static_cast<int32_t>(rank), merged);
  }
  if (!settings_.ignore_merges) return;
  std::string bytes;
  for (const auto& [token, id] : vocabulary)
    if (bytes_of_byte_level(token, bytes)) whole_words_.emplace(bytes, id);
}

void Bpe::insert(uint64_t pair, int32_t rank, int32_t merged) {
  size_t at = slot_of(pair, slots_.size());
  while (slots_[at].pair != kEmpty && slots_[at].pair != pair) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {pair, rank, merged};
}

const Bpe::Slot* Bpe::find(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  for (size_t at = slot_of(pair, slots_.size());; at = (at + 1) & (slots_.size() - 1)) {
    if (slots_[at].pair == pair) return &slots_[at];
    if (slots_[at].pair == kEmpty) return nullptr;
  }
}

void Bpe::start(std::string_view word, BpeScratch& scratch) const {
  std::vector<BpeScratch::Symbol>& symbols = scratch.symbols;
  symbols.clear();
  const auto add = [&](int32_t id) {
    const auto place = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, place - 1, place + 1, true});
  };
  bool unknown =
      false;  // an unk_token not yet added: with fuse_unk it takes in the ones that follow
  for (const char character : word) {
    const auto byte = static_cast<uint8_t>(character);
    if (id_of_byte_[byte] >= 0) {
      if (unknown) add(unk_id_);
      unknown = false;
      add(id_of_byte_[byte]);
    } else if (settings_.byte_fallback && fallback_of_byte_[byte][0] >= 0) {
      add(fallback_of_byte_[byte][0]);
      if (fallback_of_byte_[byte][1] >= 0) add(fallback_of_byte_[byte][1]);
    } else if (unk_id_ >= 0) {
      if (unknown && !settings_.fuse_unk) add(unk_id_);
      unknown = true;
    }
  }
  if (unknown) add(unk_id_);
  if (!symbols.empty()) symbols.back().next = -1;
}

void Bpe::consider(int32_t place, BpeScratch& scratch) const {
  const BpeScratch::Symbol& left = scratch.symbols[static_cast<size_t>(place)];
  if (left.next < 0) return;
  const Slot* slot = find(left.id, scratch.symbols[static_cast<size_t>(left.next)].id);
  if (slot == nullptr) return;
  scratch.heap.push_back({slot->rank, place, slot->merged});
  std::ranges::push_heap(scratch.heap, later);
}

void Bpe::encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& ids) const {
  if (settings_.ignore_merges)
    if (const auto whole = whole_words_.find(word); whole != whole_words_.end()) {
      ids.push_back(whole->second);
      return;
    }
  start(word, scratch);
  std::vector<BpeScratch::Symbol>& symbols = scratch.symbols;
  scratch.heap.clear();
  for (int32_t place = 0; place < static_cast<int32_t>(symbols.size()); ++place)
    consider(place, scratch);
  while (!scratch.heap.empty()) {
    std::ranges::pop_heap(scratch.heap, later);
    const BpeScratch::Candidate best = scratch.heap.back();
    scratch.heap.pop_back();
    BpeScratch::Symbol& left = symbols[static_cast<size_t>(best.place)];
    if (!left.alive || left.next < 0) continue;
    BpeScratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
    const Slot* slot = find(left.id, right.id);
    if (slot == nullptr || slot->merged != best.merged) continue;  // the pair has changed since
    left.id = best.merged;
    right.alive = false;
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.place;
    if (left.previous >= 0) consider(left.previous, scratch);
    consider(best.place, scratch);
  }
  for (int32_t place = symbols.empty() ? -1 : 0; place >= 0;
       place = symbols[static_cast<size_t>(place)].next)
    ids.push_back(symbols[static_cast<size_t>(place)].id);
}

}  // namespace strait
