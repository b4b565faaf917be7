// Parts of trainer_probe about programs that run side by side.
//   together                           what calls that wait for each other are told where they
//     differ, "what: error"
//   interrupted BUNDLE                 what two rows of a block say: as they should be; with
//     operators that fail; afterwards; and what another run says
#include <cstdio>
#include <functional>

#include "engine/error.h"
#include "engine/memory/weights.h"
#include "engine/model/network.h"
#include "engine/runtime.h"
#include "hosts/probe.h"
#include "kernels/observer.h"
#include "operators/together.h"

namespace toolkit::probe {
namespace {

constexpr int64_t kTokens = 64;  // not few

QuantizedMatrix weight_of(int64_t rows) {
  static const uint8_t codes[1] = {};
  QuantizedMatrix w{};
  w.codes = codes;
  w.rows = rows;
  w.depth = 32;
  w.bits = 4;
  return w;
}

bool add_linear(Together& all, int64_t rows = 16, int64_t tokens = kTokens, float scaling = 1,
                const float* bias = nullptr) {
  return all.linear({}, tokens, weight_of(rows), bias, scaling);
}

bool add_mlp(Together& all, int64_t rows = 16) {
  MlpSequence sequence{};
  sequence.weights.gate = sequence.weights.up = sequence.weights.down = weight_of(rows);
  return all.mlp(sequence, kTokens);
}

/// Calls that are never computed: nothing is read of what they were given.
void tell(const char* what, const std::function<bool(Together&)>& calls) {
  Together all;
  try {
    printf("%s: %s\n", what, calls(all) ? "taken" : "left");
  } catch (const std::exception& error) {
    printf("%s: %s\n", what, error.what());
  }
}

void together(const Words&) {
  const float bias[1] = {};
  const auto linear = [](Together& all) { return add_linear(all); };
  tell("the same", [&](Together& all) { return linear(all) && linear(all); });
  tell("few rows", [](Together& all) { return add_linear(all, 16, 1); });
  tell("tokens", [&](Together& all) { return linear(all) && add_linear(all, 16, kTokens + 1); });
  tell("weights", [&](Together& all) { return linear(all) && add_linear(all, 32); });
  tell("scaling", [&](Together& all) { return linear(all) && add_linear(all, 16, kTokens, 2); });
  tell("bias", [&](Together& all) { return linear(all) && add_linear(all, 16, kTokens, 1, bias); });
  tell("an MLP later", [&](Together& all) { return linear(all) && add_mlp(all); });
  tell("an MLP before", [&](Together& all) { return add_mlp(all) && linear(all); });
  tell("the same MLPs", [](Together& all) { return add_mlp(all) && add_mlp(all); });
  tell("weights of MLPs", [](Together& all) { return add_mlp(all) && add_mlp(all, 32); });
  tell("too many", [&](Together& all) {
    for (int64_t i = 0; i < kMostTogether; ++i) linear(all);
    return linear(all);
  });
  tell("within another", [](Together&) { return Together().waits(); });
  printf("left behind: %d\n", Together::current() != nullptr);
}

/// What a network says of rows of block 0 without numbers.
class Rows {
 public:
  Rows(Network& network, int64_t count) : network_(network), frames_(count) {
    const size_t tokens = network.seq_len(), floats = network.hidden_bytes() / sizeof(float);
    numbers_.resize(tokens);
    adapter_.resize(network.adapter().layer_floats(0));
    hidden_.resize(floats * 2 * count);
    for (size_t i = 0; i < frames_.size(); ++i) {
      Frame& frame = frames_[i];
      frame.tokens = frame.positions = frame.start = numbers_.data();
      frame.adapter = adapter_.data();
      frame.hidden = hidden_.data() + 2 * i * floats;
      frame.hidden_out = hidden_.data() + (2 * i + 1) * floats;
    }
  }

  void tell(bool together) {
    const WeightMapping weights(network_.bundle().base().file(),
                                network_.weights(Kind::block_forward, 0), nullptr);
    try {
      if (together) {
        network_.run_blocks(0, weights, frames_);
      } else {
        network_.run(Kind::block_forward, 0, weights, frames_[0]);
      }
      printf("done\n");
    } catch (const std::exception& error) {
      printf("%s\n", error.what());
    }
  }

 private:
  Network& network_;
  std::vector<Frame> frames_;
  std::vector<int32_t> numbers_;
  std::vector<float> adapter_, hidden_;
};

void interrupted(const Words& words) {
  Runtime runtime(1);
  const Bundle bundle(words[0]);
  Network network(bundle, bundle.seq_lens[0], false, false, 2);
  Rows rows(network, 2);
  rows.tell(true);
  set_operator_observer([](const char*, int64_t) { fail("an operator fails"); });
  rows.tell(true);
  set_operator_observer(nullptr);
  rows.tell(true);
  rows.tell(false);
}

}  // namespace

std::vector<Part> together_parts() {
  return {{"together", 0, together}, {"interrupted", 1, interrupted}};
}

}  // namespace toolkit::probe
