// Passes that end with the loss: of held-out data, and of estimates.
#include <algorithm>
#include <cmath>
#include <optional>

#include "engine/error.h"
#include "engine/training/passes.h"

namespace toolkit {

LossSum Passes::evaluate(int64_t samples, const float* values, size_t memory,
                         const std::function<bool(int64_t, const LossSum&)>& interrupted) {
  Phase phase(trace_, "evaluate");
  const int64_t made = network_.together() * (network_.bundle().any_keeps(0) ? 2 : 1);
  const int64_t chunk = std::min<int64_t>(
      samples, std::max<int64_t>(1, int64_t(memory / network_.hidden_bytes()) - made));
  HiddenStates states(1, false, chunk, network_.hidden_bytes(), CheckpointPlace::ram, "");
  LossSum sum;
  for (int64_t first = 0; first < samples; first += chunk) {
    std::vector<int64_t> indices;
    for (int64_t i = first; i < std::min(samples, first + chunk); ++i) indices.push_back(i);
    const auto same = [&](int64_t layer, size_t) { return layer_values(values, layer); };
    for (double loss : losses(indices, same, states, Phases::none)) sum.loss += loss;
    for (int64_t sample : indices) sum.tokens += data_.labelled(sample);
    if (!std::isfinite(sum.loss)) fail("the loss is not finite. Use another adapter");
    if (interrupted(first + int64_t(indices.size()), sum)) break;
  }
  return sum;
}

std::vector<double> Passes::losses(const std::vector<int64_t>& samples, const ValuesOf& values_of,
                                   HiddenStates& states, Phases phases) {
  const File& file = network_.bundle().base().file();
  const int64_t layers = network_.bundle().layers;
  std::optional<Phase> phase;
  const auto enter = [&](const char* name, int64_t layer = -1) {
    phase.reset();
    if (phases == Phases::traced) phase.emplace(trace_, name, layer);
  };
  const auto snapshot = [&] {
    if (phase.has_value()) phase->snapshot();
  };
  unchanged_ = true;
  plan_reading(int64_t(rows(samples)), false);
  enter("embed");
  {
    WeightMapping weights(file, network_.weights(Kind::embed, 0), nullptr, Access::rows);
    for (size_t s = 0; s < rows(samples); ++s) {
      Frame frame = row_of(samples, s);
      frame.hidden_out = states.acquire();
      run_embedding(weights, frame);
      states.put(0, s, frame.hidden_out);
    }
    snapshot();
  }
  for (int64_t layer = 0; layer < layers; ++layer) {
    enter("forward", layer);
    prefetcher_.begin(layer);
    use_values(layer);
    WeightMapping weights(file, checked(Kind::block_forward, layer), &prefetcher_);
    const size_t together = size_t(network_.together());
    for (size_t s = 0; s < rows(samples); s += together) {
      check_interruption();
      std::vector<Frame> frames;
      for (size_t i = s; i < std::min(rows(samples), s + together); ++i) {
        frames.push_back(row_of(samples, i, i - s));
        frames.back().hidden = states.get(0, i);
        frames.back().hidden_out = states.acquire();
        frames.back().adapter = values_of(layer, i);
      }
      keep_of(layer, frames, states);
      run_blocks(layer, weights, frames);
      for (size_t i = 0; i < frames.size(); ++i) {
        if (frames[i].kept_out != nullptr) states.give_back(frames[i].kept_out);
        states.put(0, int64_t(s + i), frames[i].hidden_out);
      }
    }
    snapshot();
    rest_values(layer);
  }
  enter("head");
  prefetcher_.begin(layers);
  WeightMapping weights(file, checked(Kind::head_loss, 0), &prefetcher_);
  check_embedding();
  std::vector<double> losses;
  for (size_t s = 0; s < rows(samples); ++s) {
    check_interruption();
    Frame frame = row_of(samples, s);
    frame.hidden = states.get(0, s);
    network_.run(Kind::head_loss, 0, weights, frame);
    losses.push_back(frame.loss);
    states.drop(0, s);
  }
  snapshot();
  return losses;
}

}  // namespace toolkit
