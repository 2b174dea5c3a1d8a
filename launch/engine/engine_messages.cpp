// launch/engine/engine_messages.cpp: what crosses from one stage to another.
//
// The hidden state that a stage ends with is summed when its send has its turn, and the gradient
// that comes back is packed for the experts when it has arrived: both by the communication thread,
// because no compute task comes between a layer's last exchange and its neighbour's first task.
#include "launch/engine/engine_layer.h"
#include "parallel/comm/exchange.h"
#include "parallel/comm/transfers.h"

namespace strait {
namespace {

std::span<std::byte> bytes_of_tensor(const Tensor& tensor) {
  return {tensor.raw(), static_cast<size_t>(tensor.bytes())};
}

}  // namespace

bool Engine::arrives(int microbatch, int layer) const {
  const auto copy = static_cast<size_t>(step_->schedule.copy_of(microbatch));
  return arrives_[copy][static_cast<size_t>(layer)];
}

void Engine::find_crossings(const Schedule& schedule) {
  arrives_.assign(static_cast<size_t>(schedule.num_copies),
                  std::vector<bool>(model_.layers.size() + 1, false));
  for (int copy = 0; copy < schedule.num_copies; ++copy)
    for (int stage = 1; stage < schedule.num_stages; ++stage)
      if (schedule.place_of(stage - 1, copy).position != schedule.place_of(stage, copy).position)
        arrives_[static_cast<size_t>(copy)]
                [static_cast<size_t>(step_shape_.stages[static_cast<size_t>(stage)].first_layer)] =
                    true;
}

// The hidden state that enters `layer`: the output of the one before.
Tensor Engine::hidden_before(int layer, int microbatch) {
  if (arrives(microbatch, layer))
    return crossings_->take({.microbatch = microbatch, .pass = Pass::forward, .layer = layer});
  return finish_layer(*ctx_, layer - 1, microbatch);
}

// The gradient of that.
void Engine::pass_gradient(int layer, int microbatch, Tensor d_hidden) {
  if (arrives(microbatch, layer)) {
    crossings_->put({.microbatch = microbatch, .pass = Pass::input_gradient, .layer = layer},
                    std::move(d_hidden));
  } else {
    begin_layer_backward(*ctx_, layer - 1, microbatch, std::move(d_hidden));
  }
}

// In a swap both directions run at once.
OperationPtr Engine::cross(const Task& task) {
  Context& ctx = comm_ ? *pipe_ctx_ : *ctx_;
  const Message &out = task.send, &in = task.receive;
  Tensor sent, received;
  if (out.microbatch >= 0)
    sent = out.pass == Pass::forward ? finish_layer(ctx, out.layer - 1, out.microbatch)
                                     : crossings_->take(out);
  if (in.microbatch >= 0)
    received =
        ctx.empty({in.rows, settings_.model.hidden_size}, kHiddenDType, Purpose::activations);
  const auto arrived = [this, &ctx, in](Tensor tensor) {
    if (in.pass == Pass::forward) {
      crossings_->put(in, std::move(tensor));
    } else {
      in_step([&] { begin_layer_backward(ctx, in.layer - 1, in.microbatch, std::move(tensor)); });
    }
  };
  if (!comm_) {
    if (received.defined()) arrived(std::move(received));
    return nullptr;
  }
  Exchange messages;
  const int peer = task.positions.front();
  if (sent.defined()) messages.sends.push_back({.to = peer, .data = bytes_of_tensor(sent)});
  if (received.defined())
    messages.receives.push_back({.from = peer, .data = bytes_of_tensor(received)});
  std::vector<Step> steps;
  steps.push_back([this, messages] { return exchange(*pipe_channel_, messages); });
  steps.push_back([sent, received, arrived]() -> OperationPtr {
    if (received.defined()) arrived(received);
    return nullptr;
  });
  return sequence(std::move(steps));
}

}  // namespace strait
