#include "launch/trainer/state.h"

#include "data/checkpoint/folder.h"
#include "data/checkpoint/shard.h"
#include "launch/trainer/agree.h"
#include "parallel/comm/exchange.h"

namespace strait {
namespace {

std::vector<checkpoint::Piece> pieces_of(Engine& engine, bool with_bias) {
  std::vector<checkpoint::Piece> pieces;
  for (const Bucket& bucket : engine.buckets()) {
    const auto add = [&](const ShardPiece& piece, const char* kind, const Tensor& values) {
      const std::byte* first = static_cast<const std::byte*>(values.raw()) +
                               piece.shard_offset * static_cast<int64_t>(size_of(values.dtype()));
      pieces.push_back({.name = piece.part->name,
                        .kind = kind,
                        .offset = piece.offset,
                        .count = piece.count,
                        .dtype = values.dtype(),
                        .values = first});
    };
    for (const ShardPiece& piece : pieces_of_shard(bucket)) {
      add(piece, checkpoint::kMaster, bucket.master);
      add(piece, checkpoint::kFirstMoment, bucket.first_moment);
      add(piece, checkpoint::kSecondMoment, bucket.second_moment);
    }
  }
  if (!with_bias) return pieces;
  const Model& model = engine.model();
  const int64_t experts = model.settings.n_routed_experts;
  for (int64_t layer = 0; layer < model.num_layers(); ++layer) {
    const int row = model.layers[static_cast<size_t>(layer)].moe_index;
    if (row < 0) continue;
    pieces.push_back({.name = selection_bias_name(model, layer),
                      .kind = checkpoint::kBias,
                      .offset = 0,
                      .count = experts,
                      .dtype = DType::f32,
                      .values = engine.selection_bias().data() + row * experts});
  }
  return pieces;
}

template <class T>
void read_piece(checkpoint::Reader& reader, const ShardPiece& piece, const char* kind,
                const Tensor& into) {
  reader.read(piece.part->name, kind, piece.offset,
              std::span<T>(into.data<T>() + piece.shard_offset, static_cast<size_t>(piece.count)));
}

void read_shards(Engine& engine, checkpoint::Reader& reader) {
  for (Bucket& bucket : engine.buckets()) {
    for (const ShardPiece& piece : pieces_of_shard(bucket)) {
      read_piece<float>(reader, piece, checkpoint::kMaster, bucket.master);
      for (const auto& [kind, moment] : {std::pair(checkpoint::kFirstMoment, &bucket.first_moment),
                                         std::pair(checkpoint::kSecondMoment, &bucket.second_moment)}) {
        if (!moment->defined()) continue;
        if (moment->dtype() == DType::bf16) {
          read_piece<bfloat16>(reader, piece, kind, *moment);
        } else {
          read_piece<float>(reader, piece, kind, *moment);
        }
      }
    }
  }
  const Model& model = engine.model();
  const auto experts = static_cast<size_t>(model.settings.n_routed_experts);
  for (int64_t layer = 0; layer < model.num_layers(); ++layer) {
    const int row = model.layers[static_cast<size_t>(layer)].moe_index;
    if (row < 0) continue;
    reader.read(selection_bias_name(model, layer), checkpoint::kBias, 0,
                std::span(engine.selection_bias()).subspan(static_cast<size_t>(row) * experts, experts));
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
    together(comm, [&] { if (first) checkpoint::create_temporary(temporary); });
    std::string mine;
    together(comm, [&] {
      mine = checkpoint::encode(
          checkpoint::write_shard(temporary, comm.rank().value, pieces_of(engine, first)));
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
  together(comm, [&] { read_shards(engine, reader); });
  engine.set_committed_steps(reader.manifest().step);
  engine.load_weights();
}

}  // namespace strait
