#include "parallel/program/step_work.h"

namespace strait {
namespace {

// Where a piece stands among the numbers of one (layer, micro-batch); a layer's exchanges and
// experts follow, part by part. The embedding and what crosses to the stage before stand at a
// stage's first layer, heads and what crosses to the stage after at its last.
constexpr int kAttention = 0, kMlp = 3, kShared = 6, kEmbed = 9, kHead = 11, kMtpHead = 13;
constexpr int kFromBefore = 15, kToBefore = 16, kToAfter = 17, kFromAfter = 18, kFirstPart = 19;
constexpr int kDispatch = 0, kCombine = 2, kExperts = 4, kNumbersPerPart = 7;
constexpr int kBoundaryNumbers = 2, kNumbersPerBucket = 4;
constexpr Kind kBucketKinds[] = {Kind::update, Kind::gather_weights, Kind::pack_weights,
                                 Kind::reduce_gradients};

bool is_message(Kind kind) { return kind == Kind::send || kind == Kind::receive; }

// An output goes to the later stage, a gradient to the earlier one.
bool is_of_earlier_stage(const Piece& p) {
  return is_message(p.kind) && (p.kind == Kind::send) == (p.pass == Pass::forward);
}

Message message_of(const Piece& p, int64_t rows) {
  return {.microbatch = p.microbatch, .pass = p.pass, .layer = p.layer, .rows = rows};
}

}  // namespace

std::string to_string(const Piece& piece) {
  Task task{.kind = piece.kind,
            .pass = piece.pass,
            .microbatch = piece.microbatch,
            .layer = piece.layer,
            .bucket = piece.bucket,
            .part = piece.part};
  if (piece.kind == Kind::send) task.send = message_of(piece, 0);
  if (piece.kind == Kind::receive) task.receive = message_of(piece, 0);
  return to_string(task);
}

StepWork::StepWork(const StepShape& shape, const Schedule& schedule, int position,
                   bool with_boundary)
    : shape_(shape),
      buckets_(shape.buckets[static_cast<size_t>(position)]),
      position_(position),
      num_positions_(schedule.num_positions()),
      with_boundary_(with_boundary) {
  for (int microbatch = 0; microbatch < schedule.num_microbatches; ++microbatch)
    copy_of_.push_back(schedule.copy_of(microbatch));
  const auto position_of = [&](int stage, int copy) {
    const bool exists = stage >= 0 && stage < schedule.num_stages;
    return exists ? schedule.place_of(stage, copy).position : -1;
  };
  stage_index_.assign(static_cast<size_t>(schedule.num_copies * num_layers()), -1);
  int numbers = kBoundaryNumbers + kNumbersPerBucket * static_cast<int>(buckets_.size());
  for (const Chunk& chunk : schedule.chunks[static_cast<size_t>(position)]) {
    const StageLayers& layers = shape.stages[static_cast<size_t>(chunk.stage)];
    const auto index = static_cast<int>(stages_.size());
    stages_.push_back({.chunk = index,
                       .copy = chunk.copy,
                       .layers = layers,
                       .before = position_of(chunk.stage - 1, chunk.copy),
                       .after = position_of(chunk.stage + 1, chunk.copy),
                       .first_number = numbers});
    for (int layer = layers.first_layer; layer < layers.end_layer; ++layer)
      stage_index_[static_cast<size_t>(chunk.copy * num_layers() + layer)] = index;
    numbers +=
        (layers.end_layer - layers.first_layer) * schedule.num_microbatches * numbers_per_layer();
  }
  wanted_.assign(static_cast<size_t>(numbers), 0);
  pieces_.resize(static_cast<size_t>(numbers));
  want_boundary();
  for (const HeldStage& stage : stages_)
    for (int microbatch = 0; microbatch < schedule.num_microbatches; ++microbatch)
      if (copy_of_[static_cast<size_t>(microbatch)] == stage.copy)
        want_microbatch(stage, microbatch);
}

int StepWork::numbers_per_layer() const { return kFirstPart + kNumbersPerPart * shape_.waves; }

const StepWork::HeldStage* StepWork::stage_of(int microbatch, int layer) const {
  const auto num_microbatches = static_cast<int>(copy_of_.size());
  if (microbatch < 0 || microbatch >= num_microbatches || layer < 0 || layer >= num_layers())
    return nullptr;
  const int copy = copy_of_[static_cast<size_t>(microbatch)];
  const int index = stage_index_[static_cast<size_t>(copy * num_layers() + layer)];
  return index < 0 ? nullptr : &stages_[static_cast<size_t>(index)];
}

// The stage with the heads may hold the MTP module alone.
const StepWork::HeldStage* StepWork::head_stage(int microbatch) const {
  const HeldStage* stage = stage_of(microbatch, num_layers() - 1);
  return stage != nullptr && stage->layers.has_head ? stage : nullptr;
}

const StepWork::HeldStage* StepWork::stage_of(const Piece& p) const {
  if (p.kind == Kind::embed) return stage_of(p.microbatch, 0);
  if (p.kind == Kind::head) return head_stage(p.microbatch);
  return stage_of(p.microbatch, is_of_earlier_stage(p) ? p.layer - 1 : p.layer);
}

int StepWork::number_of(const Piece& p) const {
  if (p.kind == Kind::gradient_norm) return 0;
  if (p.kind == Kind::commit) return 1;
  for (int index = 0; index < kNumbersPerBucket; ++index)
    if (p.kind == kBucketKinds[index]) {
      const bool exists = p.bucket >= 0 && p.bucket < static_cast<int>(buckets_.size());
      return exists ? kBoundaryNumbers + kNumbersPerBucket * p.bucket + index : -1;
    }
  const HeldStage* stage = stage_of(p);
  if (stage == nullptr || p.part < 0 || p.part >= shape_.waves) return -1;
  const int first_layer = stage->layers.first_layer, last_layer = stage->layers.end_layer - 1;
  const bool forward = p.pass == Pass::forward;
  const auto number = [&](int layer, int place, Pass pass) {
    const auto num_microbatches = static_cast<int>(copy_of_.size());
    const int row = (layer - first_layer) * num_microbatches + p.microbatch;
    return stage->first_number + row * numbers_per_layer() + place + static_cast<int>(pass);
  };
  const int part = kFirstPart + kNumbersPerPart * p.part;
  switch (p.kind) {
    case Kind::attention:
      return number(p.layer, kAttention, p.pass);
    case Kind::mlp:
      return number(p.layer, kMlp, p.pass);
    case Kind::shared:
      return number(p.layer, kShared, p.pass);
    case Kind::dispatch:
      return number(p.layer, part + kDispatch, p.pass);
    case Kind::combine:
      return number(p.layer, part + kCombine, p.pass);
    case Kind::experts:
      return number(p.layer, part + kExperts, p.pass);
    case Kind::embed:
      return number(first_layer, kEmbed, p.pass);
    case Kind::head: {
      const bool mtp = p.layer == shape_.num_hidden_layers;
      return number(last_layer, mtp ? kMtpHead : kHead, p.pass);
    }
    case Kind::send:
      return forward ? number(last_layer, kToAfter, Pass::forward)
                     : number(first_layer, kToBefore, Pass::forward);
    case Kind::receive:
      return forward ? number(first_layer, kFromBefore, Pass::forward)
                     : number(last_layer, kFromAfter, Pass::forward);
    default:
      return -1;
  }
}

// Numbers of different places may coincide for passes that no piece has: only the piece that is
// wanted counts.
int StepWork::find(const Piece& piece) const {
  const int number = number_of(piece);
  return number >= 0 && wanted(number) && pieces_[static_cast<size_t>(number)] == piece ? number
                                                                                        : -1;
}

void StepWork::want(const Piece& piece) {
  const auto number = static_cast<size_t>(number_of(piece));
  wanted_[number] = 1;
  pieces_[number] = piece;
}

void StepWork::want_boundary() {
  if (with_boundary_) {
    want({.kind = Kind::gradient_norm});
    want({.kind = Kind::commit});
  }
  for (int bucket = 0; bucket < static_cast<int>(buckets_.size()); ++bucket)
    for (const Kind kind : kBucketKinds)
      if (with_boundary_ || kind == Kind::reduce_gradients) want({.kind = kind, .bucket = bucket});
}

void StepWork::want_microbatch(const HeldStage& stage, int m) {
  const StageLayers& layers = stage.layers;
  for (const Pass pass : {Pass::forward, Pass::input_gradient}) {
    const bool forward = pass == Pass::forward;
    const auto crosses = [&](bool sends, int layer) {
      want({.kind = sends ? Kind::send : Kind::receive,
            .pass = pass,
            .microbatch = m,
            .layer = layer});
    };
    if (stage.before >= 0 && stage.before != position_) crosses(!forward, layers.first_layer);
    if (stage.after >= 0 && stage.after != position_) crosses(forward, layers.end_layer);
    if (layers.embeds) want({.kind = Kind::embed, .pass = pass, .microbatch = m});
    if (layers.has_head)
      for (int layer = shape_.num_hidden_layers - 1; layer < num_layers(); ++layer)
        want({.kind = Kind::head, .pass = pass, .microbatch = m, .layer = layer});
  }
  for (int layer = layers.first_layer; layer < layers.end_layer; ++layer) want_layer(m, layer);
}

void StepWork::want_layer(int m, int layer) {
  const auto want_passes = [&](Kind kind, bool with_weights) {
    const bool in_parts = kind == Kind::dispatch || kind == Kind::combine || kind == Kind::experts;
    for (int part = 0; part < (in_parts ? shape_.waves : 1); ++part)
      for (const Pass pass : {Pass::forward, Pass::input_gradient, Pass::weight_gradient})
        if (with_weights || pass != Pass::weight_gradient)
          want({.kind = kind, .pass = pass, .microbatch = m, .layer = layer, .part = part});
  };
  want_passes(Kind::attention, true);
  if (!is_moe(layer)) return want_passes(Kind::mlp, true);
  if (shape_.has_shared_experts) want_passes(Kind::shared, true);
  want_passes(Kind::experts, true);
  if (!shape_.exchanges) return;
  want_passes(Kind::dispatch, false);
  want_passes(Kind::combine, false);
}

Task StepWork::task_of(int number) const {
  const Piece& p = piece(number);
  Task task{.kind = p.kind,
            .pass = p.pass,
            .microbatch = p.microbatch,
            .layer = p.layer,
            .bucket = p.bucket};
  switch (p.kind) {
    case Kind::commit:
      task.lane = Lane::shard;
      for (int other = 0; other < num_positions_; ++other)
        if (other != position_) task.positions.push_back(other);
      break;
    case Kind::gather_weights:
    case Kind::reduce_gradients:
      task.lane = Lane::shard;
      task.positions = buckets_[static_cast<size_t>(p.bucket)].positions;
      break;
    case Kind::dispatch:
    case Kind::combine:
    case Kind::experts:
      if (p.kind != Kind::experts) task.lane = shape_.exchange_lane;
      task.capacity_rows = shape_.exchange_capacity_rows;  // all rows may go to one part
      task.part = p.part;
      task.num_parts = shape_.waves;
      break;
    case Kind::send:
    case Kind::receive:
      task.lane = Lane::pipe;
      (p.kind == Kind::send ? task.send : task.receive) = message_of(p, shape_.microbatch_rows);
      task.positions = {is_of_earlier_stage(p) ? stage_of(p)->after : stage_of(p)->before};
      break;
    default:
      break;
  }
  if (p.microbatch >= 0) task.chunk = stage_of(p)->chunk;
  return task;
}

}  // namespace strait
