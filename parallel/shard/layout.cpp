#include "parallel/shard/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "core/errors.h"
#include "parallel/comm/exchange.h"

namespace strait {
namespace {

using Stretch = Layout::Stretch;

auto tensor_key(const Stretch& s) { return std::tie(s.name, s.kind); }
auto order_key(const Stretch& s) { return std::tie(s.name, s.kind, s.offset, s.holder, s.index); }

std::string describe(const std::string& name, StateKind kind, int64_t first, int64_t last) {
  return fmt::format("{} of {}, elements {} to {}", name_of(kind), name, first, last - 1);
}

[[noreturn]] void throw_layout(const std::string& problem) {
  throw InternalError("[layout] " + problem);
}

[[noreturn]] void throw_hole(const std::string& name, StateKind kind, int64_t first, int64_t last) {
  throw_layout(describe(name, kind, first, last) + ": held by no rank");
}

[[noreturn]] void throw_overlap(const Stretch& a, const Stretch& b) {
  const int64_t last = std::min(a.offset + a.count, b.offset + b.count);
  throw_layout(describe(a.name, a.kind, std::max(a.offset, b.offset), last) +
               fmt::format(": held by ranks {} and {}", a.holder, b.holder));
}

template <class T>
void put(std::string& text, T value) {
  text.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T take(const char*& at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  at += sizeof value;
  return value;
}

std::string encode(std::span<const StatePiece> pieces) {
  std::string text;
  put(text, static_cast<uint64_t>(pieces.size()));
  for (const StatePiece& piece : pieces) {
    put(text, static_cast<uint32_t>(piece.name.size()));
    text += piece.name;
    put(text, piece.kind);
    put(text, piece.dtype);
    put(text, piece.offset);
    put(text, piece.count);
  }
  return text;
}

// Adds the pieces of the rank at position `holder`, and moves past them.
void decode(const char*& at, int holder, std::vector<Stretch>& out) {
  const auto count = take<uint64_t>(at);
  for (size_t index = 0; index < count; ++index) {
    Stretch s;
    const auto length = take<uint32_t>(at);
    s.name.assign(at, length);
    at += length;
    s.kind = take<StateKind>(at);
    s.dtype = take<DType>(at);
    s.offset = take<int64_t>(at);
    s.count = take<int64_t>(at);
    s.holder = holder;
    s.index = index;
    if (s.count > 0) out.push_back(std::move(s));
  }
}

// The texts of all ranks, on all ranks.
std::vector<std::string> gather_all(const Channel& channel, const std::string& mine) {
  if (channel.size() == 1) return {mine};
  std::vector<std::string> all;
  channel.enqueue(gather_strings(channel, 0, mine, &all)).wait();
  std::vector<int64_t> sizes(static_cast<size_t>(channel.size()));
  std::string joined;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    sizes[rank] = static_cast<int64_t>(all[rank].size());
    joined += all[rank];
  }
  channel.enqueue(broadcast(channel, 0, std::as_writable_bytes(std::span(sizes)))).wait();
  int64_t total = 0;
  for (const int64_t size : sizes) total += size;
  joined.resize(static_cast<size_t>(total));
  channel.enqueue(broadcast(channel, 0, std::as_writable_bytes(std::span(joined)))).wait();
  all.clear();
  size_t at = 0;
  for (const int64_t size : sizes) {
    all.push_back(joined.substr(at, static_cast<size_t>(size)));
    at += static_cast<size_t>(size);
  }
  return all;
}

// The bytes that go to, or come from, one peer: stretches of memory in the order both sides know.
class ByteStream {
 public:
  void add(std::byte* at, int64_t bytes) {
    runs_.push_back({at, bytes});
    left_ += bytes;
  }
  int64_t left() const { return left_; }
  // The next staging.size() bytes, out of memory or into it. REQUIRES: as many are left.
  void read(std::span<std::byte> staging) { advance(staging, true); }
  void write(std::span<std::byte> staging) { advance(staging, false); }

 private:
  struct Run {
    std::byte* at;
    int64_t bytes;
  };
  void advance(std::span<std::byte> staging, bool reads) {
    while (!staging.empty()) {
      Run& run = runs_[next_];
      const auto count = std::min(staging.size(), static_cast<size_t>(run.bytes));
      reads ? std::memcpy(staging.data(), run.at, count)
            : std::memcpy(run.at, staging.data(), count);
      run.at += count;
      run.bytes -= static_cast<int64_t>(count);
      left_ -= static_cast<int64_t>(count);
      staging = staging.subspan(count);
      if (run.bytes == 0) ++next_;
    }
  }
  std::vector<Run> runs_;
  size_t next_ = 0;
  int64_t left_ = 0;
};

struct Streams {
  std::vector<ByteStream> sends, receives;  // by position; [self] stays empty
  std::vector<std::tuple<std::byte*, const std::byte*, int64_t>>
      copies;  // to, from, bytes: what stays on this rank
};

// What this rank sends and receives. All ranks walk the same map, so both ends of a stream agree on
// its order, and a map that proves nothing throws on all of them.
Streams plan(const Channel& channel, const Layout& held, const Layout& wanted,
             std::span<const StatePiece> from, std::span<const StatePiece> to) {
  Streams streams;
  streams.sends.resize(static_cast<size_t>(channel.size()));
  streams.receives.resize(static_cast<size_t>(channel.size()));
  const auto address = [](const StatePiece& piece, int64_t element) {
    return piece.values + (element - piece.offset) * static_cast<int64_t>(size_of(piece.dtype));
  };
  for (const Stretch& target : wanted.stretches()) {
    int64_t next = target.offset;
    const int64_t end = target.offset + target.count;
    const Stretch* before = nullptr;
    for (const Stretch* source :
         held.overlapping(target.name, target.kind, target.offset, target.count)) {
      if (before != nullptr && source->offset < next) throw_overlap(*before, *source);
      if (source->offset > next) throw_hole(target.name, target.kind, next, source->offset);
      if (source->dtype != target.dtype)
        throw_layout(describe(target.name, target.kind, target.offset, end) +
                     fmt::format(": {} on rank {}, {} on rank {}", name_of(source->dtype),
                                 source->holder, name_of(target.dtype), target.holder));
      const int64_t last = std::min(end, source->offset + source->count);
      const int64_t bytes = (last - next) * static_cast<int64_t>(size_of(target.dtype));
      const bool gives = source->holder == channel.self(), gets = target.holder == channel.self();
      std::byte* const source_at = gives ? address(from[source->index], next) : nullptr;
      std::byte* const target_at = gets ? address(to[target.index], next) : nullptr;
      if (gives && gets) {
        streams.copies.emplace_back(target_at, source_at, bytes);
      } else if (gives) {
        streams.sends[static_cast<size_t>(target.holder)].add(source_at, bytes);
      } else if (gets) {
        streams.receives[static_cast<size_t>(source->holder)].add(target_at, bytes);
      }
      next = last;
      before = source;
    }
    if (next < end) throw_hole(target.name, target.kind, next, end);
  }
  return streams;
}

}  // namespace

const char* name_of(StateKind kind) {
  switch (kind) {
    case StateKind::master:
      return "master";
    case StateKind::first_moment:
      return "m";
    case StateKind::second_moment:
      return "v";
    case StateKind::bias:
      return "bias";
    case StateKind::gradient:
      return "gradient";
  }
  return "?";
}

std::vector<StatePiece> pieces_of(std::span<const Bucket> buckets,
                                  std::span<const StateKind> kinds) {
  std::vector<StatePiece> pieces;
  for (const Bucket& bucket : buckets) {
    for (const ShardPiece& piece : pieces_of_shard(bucket)) {
      for (const StateKind kind : kinds) {
        STRAIT_CHECK(kind != StateKind::bias, "selection biases are in no bucket");
        const Tensor& values = kind == StateKind::master          ? bucket.master
                               : kind == StateKind::first_moment  ? bucket.first_moment
                               : kind == StateKind::second_moment ? bucket.second_moment
                                                                  : bucket.gradients;
        const int64_t start =
            piece.shard_offset + (kind == StateKind::gradient ? bucket.shard_begin() : 0);
        pieces.push_back(
            {.name = piece.part->name,
             .kind = kind,
             .offset = piece.offset,
             .count = piece.count,
             .dtype = values.dtype(),
             .values = values.raw() + start * static_cast<int64_t>(size_of(values.dtype()))});
      }
    }
  }
  return pieces;
}

std::vector<StatePiece> bias_pieces(const Model& model, std::span<float> bias) {
  std::vector<StatePiece> pieces;
  const int64_t experts = model.settings.n_routed_experts;
  for (int64_t layer = 0; layer < model.num_layers(); ++layer) {
    const int row = model.layers[static_cast<size_t>(layer)].moe_index;
    if (row < 0) continue;
    const auto values =
        bias.subspan(static_cast<size_t>(row * experts), static_cast<size_t>(experts));
    pieces.push_back({.name = selection_bias_name(model, layer),
                      .kind = StateKind::bias,
                      .offset = 0,
                      .count = experts,
                      .dtype = DType::f32,
                      .values = std::as_writable_bytes(values).data()});
  }
  return pieces;
}

std::vector<StateTensor> state_tensors(const ModelSettings& settings,
                                       std::span<const StateKind> kinds) {
  const Model model = build_model(settings, {0, settings.n_routed_experts}, DType::f32);
  std::vector<StateTensor> tensors;
  for (const StateKind kind : kinds) {
    if (kind == StateKind::bias) {
      for (int64_t layer = 0; layer < model.num_layers(); ++layer)
        if (model.layers[static_cast<size_t>(layer)].moe_index >= 0)
          tensors.push_back({selection_bias_name(model, layer), kind, settings.n_routed_experts});
      continue;
    }
    for (const auto& parameter : model.parameters)
      for (const Part& part : parameter->parts)
        tensors.push_back({part.name, kind, part.num_rows * parameter->num_cols()});
  }
  return tensors;
}

Layout::Layout(std::vector<Stretch> stretches) : stretches_(std::move(stretches)) {
  std::sort(stretches_.begin(), stretches_.end(),
            [](const Stretch& a, const Stretch& b) { return order_key(a) < order_key(b); });
}

Layout Layout::gather(const Channel& channel, std::span<const StatePiece> mine) {
  const std::vector<std::string> all = gather_all(channel, encode(mine));
  std::vector<Stretch> stretches;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const char* at = all[rank].data();
    decode(at, static_cast<int>(rank), stretches);
  }
  return Layout(std::move(stretches));
}

std::vector<const Stretch*> Layout::overlapping(const std::string& name, StateKind kind,
                                                int64_t offset, int64_t count) const {
  const auto begin = std::lower_bound(
      stretches_.begin(), stretches_.end(), std::tie(name, kind),
      [](const Stretch& s, const std::tuple<const std::string&, const StateKind&>& key) {
        return tensor_key(s) < key;
      });
  std::vector<const Stretch*> found;
  for (auto s = begin; s != stretches_.end() && s->name == name && s->kind == kind; ++s) {
    if (s->offset >= offset + count) break;
    if (s->offset + s->count > offset) found.push_back(&*s);
  }
  return found;
}

int Layout::holder_of(const std::string& name, StateKind kind, int64_t element) const {
  const auto found = overlapping(name, kind, element, 1);
  return found.empty() ? -1 : found.front()->holder;
}

void Layout::require_complete(std::span<const StateTensor> tensors) const {
  size_t used = 0;
  for (const StateTensor& tensor : tensors) {
    int64_t next = 0;
    const Stretch* before = nullptr;
    for (const Stretch* s : overlapping(tensor.name, tensor.kind, 0, tensor.numel)) {
      if (before != nullptr && s->offset < next) throw_overlap(*before, *s);
      if (s->offset > next) throw_hole(tensor.name, tensor.kind, next, s->offset);
      next = s->offset + s->count;
      before = s;
      ++used;
    }
    if (next < tensor.numel) throw_hole(tensor.name, tensor.kind, next, tensor.numel);
    if (next > tensor.numel)
      throw_layout(describe(tensor.name, tensor.kind, tensor.numel, next) +
                   ": past the tensor's end");
  }
  if (used < stretches_.size())
    throw_layout(fmt::format("{} pieces belong to no tensor of the model, or start past its end",
                             stretches_.size() - used));
}

void reshard(const Channel& channel, std::span<const StatePiece> from,
             std::span<const StatePiece> to, int64_t message_bytes) {
  STRAIT_CHECK(message_bytes > 0);
  const std::vector<std::string> all = gather_all(channel, encode(from) + encode(to));
  std::vector<Stretch> held, wanted;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const char* at = all[rank].data();
    decode(at, static_cast<int>(rank), held);
    decode(at, static_cast<int>(rank), wanted);
  }
  Streams streams = plan(channel, Layout(std::move(held)), Layout(std::move(wanted)), from, to);
  for (const auto& [target, source, bytes] : streams.copies)
    std::memcpy(target, source, static_cast<size_t>(bytes));

  // A round needs only the same round of its peers, so ranks may run different numbers of rounds.
  const auto peers = static_cast<size_t>(channel.size());
  std::vector<std::vector<std::byte>> outgoing(peers), incoming(peers);
  for (;;) {
    Exchange messages;
    for (size_t peer = 0; peer < peers; ++peer) {
      outgoing[peer].resize(
          static_cast<size_t>(std::min(message_bytes, streams.sends[peer].left())));
      incoming[peer].resize(
          static_cast<size_t>(std::min(message_bytes, streams.receives[peer].left())));
      streams.sends[peer].read(outgoing[peer]);
      if (!outgoing[peer].empty())
        messages.sends.push_back({.to = static_cast<int>(peer), .data = outgoing[peer]});
      if (!incoming[peer].empty())
        messages.receives.push_back({.from = static_cast<int>(peer), .data = incoming[peer]});
    }
    if (messages.sends.empty() && messages.receives.empty()) return;
    channel.enqueue(exchange(channel, std::move(messages))).wait();
    for (size_t peer = 0; peer < peers; ++peer) streams.receives[peer].write(incoming[peer]);
  }
}

}  // namespace strait
