#include "parallel/comm/exchange.h"

#include <array>
#include <bit>
#include <utility>

#include "core/errors.h"
#include "parallel/comm/transfers.h"

namespace strait {
namespace {

class ExchangeOperation : public Operation {
 public:
  ExchangeOperation(const Channel& channel, Exchange messages, const char* name)
      : messages_(std::move(messages)), transfers_(channel, name) {
    const auto is_peer = [&](int peer) {
      return peer >= 0 && peer < channel.size() && peer != channel.self();
    };
    for (const auto& send : messages_.sends)
      STRAIT_CHECK(is_peer(send.to), "[exchange] no peer at position " + std::to_string(send.to));
    for (const auto& receive : messages_.receives)
      STRAIT_CHECK(is_peer(receive.from),
                   "[exchange] no peer at position " + std::to_string(receive.from));
  }

  bool poll() override {
    for (const auto& receive : messages_.receives) transfers_.receive(receive.from, receive.data);
    for (const auto& send : messages_.sends) transfers_.send(send.to, send.data);
    messages_ = {};
    return transfers_.poll();
  }

 private:
  Exchange messages_;
  Transfers transfers_;
};

OperationPtr exchange_as(const Channel& channel, Exchange messages, const char* name) {
  return std::make_unique<ExchangeOperation>(channel, std::move(messages), name);
}

}  // namespace

OperationPtr exchange(const Channel& channel, Exchange messages) {
  return exchange_as(channel, std::move(messages), "exchange");
}

OperationPtr broadcast(const Channel& channel, int root, std::span<std::byte> data) {
  STRAIT_CHECK(root >= 0 && root < channel.size(), "[broadcast] the root is not in the group");
  const int ranks = channel.size();
  const int place = (channel.self() - root + ranks) % ranks;  // the root is 0
  const auto position = [=](int other) { return (other + root) % ranks; };
  // A place's parent is itself without its lowest set bit; its children add a lower bit.
  const int lowest =
      place == 0 ? static_cast<int>(std::bit_ceil(static_cast<unsigned>(ranks))) : (place & -place);
  Exchange from_parent, to_children;
  if (place > 0) from_parent.receives.push_back({.from = position(place - lowest), .data = data});
  for (int bit = lowest / 2; bit > 0; bit /= 2)
    if (place + bit < ranks)
      to_children.sends.push_back({.to = position(place + bit), .data = data});
  return sequence({
      [=] { return exchange_as(channel, from_parent, "broadcast"); },
      [=] { return exchange_as(channel, to_children, "broadcast"); },
  });
}

OperationPtr barrier(const Channel& channel) {
  const int ranks = channel.size(), self = channel.self();
  auto bytes = std::make_shared<std::array<std::byte, 2>>();
  std::vector<Step> steps;
  for (int distance = 1; distance < ranks; distance *= 2)
    steps.push_back([=] {
      Exchange signal;
      signal.receives.push_back(
          {.from = (self - distance + ranks) % ranks, .data = {&(*bytes)[0], 1}});
      signal.sends.push_back({.to = (self + distance) % ranks, .data = {&(*bytes)[1], 1}});
      return exchange_as(channel, std::move(signal), "barrier");
    });
  return sequence(std::move(steps));
}

OperationPtr gather_strings(const Channel& channel, int root, const std::string& mine,
                            std::vector<std::string>* all) {
  STRAIT_CHECK(root >= 0 && root < channel.size(), "[gather] the root is not in the group");
  const int self = channel.self();
  STRAIT_CHECK(self != root || all != nullptr, "[gather] the root needs a place for the strings");
  auto sizes = std::make_shared<std::vector<int64_t>>(static_cast<size_t>(channel.size()), 0);
  (*sizes)[static_cast<size_t>(self)] = static_cast<int64_t>(mine.size());
  const auto size_of_rank = [=](int rank) {
    return std::span<int64_t>(&(*sizes)[static_cast<size_t>(rank)], 1);
  };
  const Step send_size = [=] {
    Exchange messages;
    if (self != root) messages.sends.push_back({.to = root, .data = bytes_of(size_of_rank(self))});
    for (int rank = 0; self == root && rank < channel.size(); ++rank)
      if (rank != root)
        messages.receives.push_back({.from = rank, .data = bytes_of(size_of_rank(rank))});
    return exchange_as(channel, std::move(messages), "gather");
  };
  const Step send_string = [=, &mine] {
    Exchange messages;
    if (self != root)
      messages.sends.push_back({.to = root, .data = std::as_bytes(std::span(mine))});
    else
      all->assign(static_cast<size_t>(channel.size()), {});
    for (int rank = 0; self == root && rank < channel.size(); ++rank) {
      std::string& text = (*all)[static_cast<size_t>(rank)];
      if (rank == root) {
        text = mine;
        continue;
      }
      text.resize(static_cast<size_t>((*sizes)[static_cast<size_t>(rank)]));
      messages.receives.push_back({.from = rank, .data = std::as_writable_bytes(std::span(text))});
    }
    return exchange_as(channel, std::move(messages), "gather");
  };
  return sequence({send_size, send_string});
}

}  // namespace strait
