#include "launch/trainer/state.h"

#include <algorithm>

#include "data/checkpoint/folder.h"
#include "data/checkpoint/shard.h"
#include "launch/trainer/agree.h"
#include "parallel/comm/exchange.h"
#include "parallel/shard/layout.h"

namespace strait {
namespace {

// What this rank holds of the state; the selection biases, which all ranks hold, if asked for.
std::vector<StatePiece> state_of(Engine& engine, bool with_bias) {
  std::vector<StatePiece> pieces = pieces_of(engine.buckets(), kOptimizerState);
  if (with_bias)
    for (StatePiece& piece : bias_pieces(engine.model(), engine.selection_bias()))
      pieces.push_back(std::move(piece));
  return pieces;
}

std::vector<checkpoint::Piece> stored_pieces(const std::vector<StatePiece>& state) {
  std::vector<checkpoint::Piece> pieces;
  pieces.reserve(state.size());
  for (const StatePiece& piece : state)
    pieces.push_back({.name = piece.name,
                      .kind = name_of(piece.kind),
                      .offset = piece.offset,
                      .count = piece.count,
                      .dtype = piece.dtype,
                      .values = piece.values});
  return pieces;
}

// Moments are FP32 or BF16 as the recipe says now, whatever was saved: FP32 holds what was BF16
// exactly, BF16 is rounded to from FP32.
void load_piece(checkpoint::Reader& reader, const StatePiece& piece) {
  const std::string kind = name_of(piece.kind);
  const auto count = static_cast<size_t>(piece.count);
  if (piece.dtype == DType::f32)
    return reader.read(piece.name, kind, piece.offset,
                       std::span(reinterpret_cast<float*>(piece.values), count));
  const std::span out(reinterpret_cast<bfloat16*>(piece.values), count);
  if (!reader.has(piece.name, kind) || reader.dtype(piece.name, kind) != DType::f32)
    return reader.read(piece.name, kind, piece.offset, out);
  constexpr size_t kBlock = 1 << 16;
  std::vector<float> block;
  for (size_t done = 0; done < count; done += block.size()) {
    block.resize(std::min(kBlock, count - done));
    reader.read(piece.name, kind, piece.offset + static_cast<int64_t>(done),
                std::span<float>(block));
    std::ranges::transform(block, out.begin() + static_cast<std::ptrdiff_t>(done), to_bfloat16);
  }
}

}  // namespace

checkpoint::ModelDescription describe_model(const ModelSettings& settings,
                                            const std::string& config_json) {
  const Model model = build_model(settings, {0, settings.n_routed_experts}, DType::f32);
  checkpoint::ModelDescription description{.config_json = config_json, .tensors = {}};
  for (const auto& parameter : model.parameters) {
    for (const Part& part : parameter->parts) {
      std::vector<int64_t> shape = {part.num_rows, parameter->num_cols()};
      if (parameter->shape.rank() == 1) shape = {parameter->num_cols()};
      description.tensors.push_back(
          {.name = part.name,
           .shape = shape,
           .kinds = {checkpoint::kMaster, checkpoint::kFirstMoment, checkpoint::kSecondMoment}});
    }
  }
  for (int64_t layer = 0; layer < model.num_layers(); ++layer)
    if (model.layers[static_cast<size_t>(layer)].moe_index >= 0)
      description.tensors.push_back({.name = selection_bias_name(model, layer),
                                     .shape = {settings.n_routed_experts},
                                     .kinds = {checkpoint::kBias}});
  return description;
}

int64_t save_checkpoint(Engine& engine, Comm& comm, const std::string& root,
                        checkpoint::Manifest manifest) {
  const std::string temporary = checkpoint::temporary_folder(root, manifest.step);
  const bool first = comm.rank().value == 0;
  int64_t bytes = 0;
  try {
    together(comm, [&] {
      if (first) checkpoint::create_temporary(temporary);
    });
    std::string mine;
    together(comm, [&] {
      mine = checkpoint::encode(checkpoint::write_shard(temporary, comm.rank().value,
                                                        stored_pieces(state_of(engine, first))));
    });
    std::vector<std::string> shards = {mine};
    if (comm.size() > 1) {
      const Channel channel = comm.channel(LinkLane::host, comm.world());
      channel.enqueue(gather_strings(channel, 0, mine, &shards)).wait();
    }
    together(comm, [&] {
      if (!first) return;
      for (const std::string& shard : shards) {
        manifest.shards.push_back(checkpoint::decode(shard));
        bytes += manifest.shards.back().bytes;
      }
      checkpoint::publish(temporary, checkpoint::step_folder(root, manifest.step), manifest);
    });
  } catch (const DataError&) {
    if (first) checkpoint::discard(temporary);
    throw;
  }
  return bytes;
}

void load_checkpoint(Engine& engine, Comm& comm, checkpoint::Reader& reader) {
  together(comm, [&] {
    for (const StatePiece& piece : state_of(engine, true)) load_piece(reader, piece);
  });
  engine.set_committed_steps(reader.manifest().step);
  engine.load_weights();
}

}  // namespace strait
