#include "engine/training/passes.h"

#include <fcntl.h>

#include <cmath>

#include "engine/error.h"
#include "engine/memory/dry_step.h"
#include "engine/model/finite.h"
#include "kernels/kernels.h"

namespace toolkit {
namespace {

// A dry step's operators take the same memory for every row. The ledger only grows from row to row,
// so the last one finds the most of it.
bool computes(size_t row, size_t rows) {
  return DryStep::current() == nullptr || row < 2 || row + 1 == rows;
}

void add_into(float* sum, const float* values, size_t count) {
  for (size_t i = 0; i < count; ++i) sum[i] += values[i];
}

}  // namespace

void Passes::plan_reading(int64_t rows, bool backward) {
  const bool cut = backward && above_ != nullptr;
  const int64_t layers = backward ? top_ : network_.bundle().layers;
  std::vector<WeightStage> stages;
  for (int64_t layer = 0; layer < layers; ++layer) {
    stages.push_back({network_.weights(Kind::block_forward, layer)});
  }
  const int64_t sweeps = kernels().head_sweeps(network_.seq_len());
  const Kind head = backward ? Kind::head_backward : Kind::head_loss;
  if (!cut) stages.push_back({network_.weights(head, 0), true, rows * sweeps});
  for (int64_t layer = layers; backward && layer-- > lowest_;) {
    if (!skips(layer)) stages.push_back({network_.weights(Kind::block_backward, layer)});
  }
  if (DryStep::current() == nullptr) prefetcher_.plan(stages);
}

const std::vector<WeightRef>& Passes::checked(Kind kind, int64_t layer) {
  const std::vector<WeightRef>& refs = network_.weights(kind, layer);
  if (DryStep::current() == nullptr) network_.bundle().check_weights(refs);
  return refs;
}

void Passes::check_embedding() {
  if (DryStep::current() != nullptr) return;
  const std::vector<WeightRef>& refs = network_.weights(Kind::embed, 0);
  if (network_.bundle().check_weights(refs) == 0 || !prefetcher_.drops()) return;
  for (const WeightRef& ref : refs) {
    posix_fadvise(network_.bundle().base().file().fd(), ref.offset, ref.bytes, POSIX_FADV_DONTNEED);
  }
}

void Passes::check_output(const float* hidden, int64_t layer) {
  if (all_finite(hidden, network_.hidden_bytes() / sizeof(float))) return;
  check_embedding();  // A damaged one would be the cause.
  if (layer < 0) fail("the output of the embedding is not finite. Export the bundle again");
  fail(
      "the output of layer %lld is not finite. Use a lower learning rate, clip gradients or start "
      "from another adapter",
      (long long)layer);
}

int64_t Passes::labelled(const std::vector<int64_t>& samples) const {
  int64_t tokens = 0;
  for (int64_t sample : samples) tokens += data_.labelled(sample);
  if (tokens > 0) return tokens;
  fail(
      "none of the %zu samples of this step has labelled tokens. Use a larger batch or data with "
      "more labelled tokens",
      samples.size());
}

LossSum Passes::gradients(const std::vector<int64_t>& samples, const float* values, int64_t lowest,
                          HiddenStates& states, const GradientsOf& gradients_of,
                          const LayerDone& layer_done, bool changes,
                          const std::vector<bool>& skipped) {
  lowest_ = lowest;
  skipped_ = skipped;
  stage_ = above_ != nullptr ? top_ - 1 : top_;
  unchanged_ = true;
  LossSum sum;
  sum.tokens = labelled(samples);
  states.clear();
  plan_reading(int64_t(rows(samples)), true);
  embed(samples, states);
  forward(samples, values, states);
  sum.loss = above_ != nullptr ? upper_layers(samples, sum.tokens, states)
                               : head(samples, float(1.0 / double(sum.tokens)), states);
  if (!std::isfinite(sum.loss)) {
    fail("the loss is not finite. Use a lower learning rate or clip gradients");
  }
  for (int64_t layer = top_; layer-- > lowest_;) {
    if (skips(layer)) {
      pass_on(layer, rows(samples), states);
      continue;
    }
    backward(layer, samples, values, states, gradients_of(layer));
    unchanged_ = unchanged_ && !changes;
    layer_done(layer);
    rest_values(layer);
  }
  unchanged_ = false;
  return sum;
}

void Passes::embed(const std::vector<int64_t>& samples, HiddenStates& states) {
  Phase phase(trace_, "embed");
  const File& file = network_.bundle().base().file();
  WeightMapping weights(file, network_.weights(Kind::embed, 0), nullptr, Access::rows);
  for (size_t s = 0; s < rows(samples); ++s) {
    Frame frame = row_of(samples, s);
    frame.hidden_out = states.acquire();
    if (computes(s, rows(samples))) run_embedding(weights, frame);
    states.put(0, s, frame.hidden_out);
    states.rest(0, s);
  }
  phase.snapshot();
}

void Passes::run_embedding(WeightMapping& weights, Frame& frame) {
  if (prefetcher_.reads()) {
    request_rows(network_.bundle().base().file(), network_.weights(Kind::embed, 0),
                 network_.bundle().vocab_size, frame.tokens, network_.seq_len());
  }
  network_.run(Kind::embed, 0, weights, frame);
  weights.drop_pages();
  check_output(frame.hidden_out, -1);
}

void Passes::forward(const std::vector<int64_t>& samples, const float* values,
                     HiddenStates& states) {
  for (int64_t layer = 0; layer < top_; ++layer) {
    Phase phase(trace_, "forward", layer);
    prefetcher_.begin(layer);
    use_values(layer);
    WeightMapping weights(network_.bundle().base().file(), checked(Kind::block_forward, layer),
                          &prefetcher_);
    const int64_t from = state_of(layer), to = state_of(layer + 1);
    for (size_t s = 0; s < rows(samples); ++s) {
      check_interruption();
      std::vector<Frame> row{row_of(samples, s)};
      Frame& frame = row[0];
      frame.hidden = states.get(from, s);
      frame.hidden_out = states.acquire();
      frame.adapter = layer_values(values, layer);
      keep_of(layer, row, states);
      if (computes(s, rows(samples))) run_blocks(layer, weights, row);
      const bool waits = to > from && !skips(layer);
      if (waits) states.park(from, s);
      if (to > from && !waits) states.drop(from, s);
      if (frame.kept_out != nullptr && waits) {
        states.put(states.kept(from), s, frame.kept_out);
        states.park(states.kept(from), s);
      } else if (frame.kept_out != nullptr) {
        states.give_back(frame.kept_out);
      }
      states.put(to, s, frame.hidden_out);
      states.rest(to, s);
    }
    phase.snapshot();
    rest_values(layer);
  }
}

void Passes::keep_of(int64_t layer, std::vector<Frame>& frames, HiddenStates& states) {
  if (!network_.bundle().keeps(layer)) return;
  for (Frame& frame : frames) frame.kept_out = states.acquire();
}

void Passes::run_blocks(int64_t layer, const WeightMapping& weights, std::vector<Frame>& frames) {
  network_.run_blocks(layer, weights, frames);
  for (const Frame& frame : frames) check_output(frame.hidden_out, layer);
}

double Passes::head(const std::vector<int64_t>& samples, float grad_scale, HiddenStates& states) {
  Phase phase(trace_, "head");
  const int64_t layers = network_.bundle().layers, last = state_of(layers);
  prefetcher_.begin(layers);
  double loss = 0;
  WeightMapping weights(network_.bundle().base().file(), checked(Kind::head_backward, 0),
                        &prefetcher_);
  check_embedding();
  for (size_t s = 0; s < rows(samples); ++s) {
    check_interruption();
    Frame frame = row_of(samples, s);
    frame.hidden = states.get(last, s);
    frame.grad_out = states.acquire();
    frame.grad_scale = grad_scale;
    if (computes(s, rows(samples))) network_.run(Kind::head_backward, 0, weights, frame);
    states.put(last, s, frame.grad_out);
    states.rest(last, s);
    loss += frame.loss;
  }
  phase.snapshot();
  return loss;
}

double Passes::upper_layers(const std::vector<int64_t>& samples, int64_t labelled,
                            HiddenStates& states) {
  Phase phase(trace_, "head");
  const int64_t last = state_of(top_);
  check_embedding();
  above_->begin(rows(samples), labelled);
  for (size_t s = 0; s < rows(samples); ++s) {
    Frame frame = row_of(samples, s);
    frame.hidden = states.get(last, s);
    above_->give(frame);
    states.rest(last, s);
  }
  const double loss = above_->loss([this] { check_interruption(); });
  for (size_t s = 0; s < rows(samples); ++s) {
    float* const gradient = states.acquire();
    above_->take(gradient);
    states.put(last, s, gradient);
    states.rest(last, s);
  }
  phase.snapshot();
  return loss;
}

void Passes::backward(int64_t layer, const std::vector<int64_t>& samples, const float* values,
                      HiddenStates& states, float* gradients) {
  Phase phase(trace_, "backward", layer);
  prefetcher_.begin(++stage_);
  use_values(layer);
  const LayerPlaces& places = network_.adapter().gradients();
  const size_t count = places.floats(layer);
  const int64_t from = state_of(layer), to = from + 1;
  const bool keeps = network_.bundle().keeps(layer);
  if (from > 0) states.prefetch(from - 1, 0);
  if (from > 0 && network_.bundle().keeps(layer - 1)) states.prefetch(states.kept(from - 1), 0);
  if (rows(samples) > 1 && second_gradients_.bytes() == 0) {
    second_gradients_ =
        Buffer(places.largest() * sizeof(float), Category::gradients, "toolkit gradients");
  }
  WeightMapping weights(network_.bundle().base().file(), checked(Kind::block_backward, layer),
                        &prefetcher_);
  for (size_t s = 0; s < rows(samples); ++s) {
    check_interruption();
    Frame frame = row_of(samples, s);
    frame.hidden = states.get(from, s);
    frame.grad = states.get(to, s);
    if (keeps) frame.kept = states.get(states.kept(from), s);
    // The program reads `grad` for the last time before it writes the first output.
    frame.grad_out = states.edit(to, s);
    frame.adapter = layer_values(values, layer);
    frame.gradients_out = s == 0 ? gradients : second_gradients_.floats();
    const bool runs = computes(s, rows(samples));
    if (runs) network_.run(Kind::block_backward, layer, weights, frame);
    if (runs && s > 0) add_into(gradients, second_gradients_.floats(), count);
    if (keeps) states.drop(states.kept(from), s);
    states.move(to, from, s);
    states.rest(from, s);
  }
  phase.snapshot();
}

}  // namespace toolkit
