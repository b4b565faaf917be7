// Forward and backward through the streamed model, layer by layer for all sequences of a step.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/memory/checkpoints.h"
#include "engine/memory/layer_memory.h"
#include "engine/memory/weights.h"
#include "engine/model/batch.h"
#include "engine/model/dataset.h"
#include "engine/model/network.h"
#include "engine/trace/trace.h"
#include "engine/training/upper_layers.h"

namespace toolkit {

// Sum of token losses and number of labelled tokens.
struct LossSum {
  double loss = 0;
  int64_t tokens = 0;
  double mean() const { return loss / double(tokens); }
};

// What an evaluation takes for hidden states.
constexpr size_t kEvaluationMemory = 8 << 20;

// Thrown out of a pass that was asked to end.
struct Interrupted {};

class Passes {
 public:
  // Everything is borrowed and must outlive this object. `together` sequences at a time make a row
  // of the network, whose length is theirs in all.
  Passes(Network& network, const Dataset& data, Trace& trace, Prefetcher& prefetcher,
         int64_t together = 1)
      : network_(network),
        data_(data),
        trace_(trace),
        prefetcher_(prefetcher),
        batch_(data, together, network.together()),
        top_(network.bundle().layers) {}

  // Layers of the adapter that lie there are put away once a pass is done with them; borrowed.
  void put_away(LayerMemory& values) { values_ = &values; }

  // Asked between the rows of every layer as long as a pass has changed nothing; when it says true,
  // the pass throws Interrupted.
  void interruptible(std::function<bool()> interrupted) { interrupted_ = std::move(interrupted); }

  // Has gradients() compute the layers below `layers` alone; the others and the loss are left to
  // `above`, borrowed.
  void cut(int64_t layers, UpperLayers& above) { top_ = layers, above_ = &above; }

  bool asked_to_end() const { return interrupted_ && interrupted_(); }

  // Called with the layer whose gradients are complete.
  using LayerDone = std::function<void(int64_t layer)>;
  // Memory of a layer's gradients.
  using GradientsOf = std::function<float*(int64_t layer)>;

  // Loss of `samples`, a multiple of those computed together, and gradients of its mean over
  // labelled tokens, of the layers from `lowest` up, those without adapters included. The layers
  // below keep no states for a backward pass, so `states` has as many layers as there are
  // gradients. `values` are all adapters; `layer_done` may change the layer's values, if `changes`:
  // then the first call of it ends the time for interruptions. Throws Error when the loss is not
  // finite, before any gradient is computed, and when no token is labelled. Layers that are
  // `skipped` have no backward pass: what arrives at their output is passed on to their input, as
  // if they were their residual alone.
  LossSum gradients(const std::vector<int64_t>& samples, const float* values, int64_t lowest,
                    HiddenStates& states, const GradientsOf& gradients_of,
                    const LayerDone& layer_done, bool changes,
                    const std::vector<bool>& skipped = {});

  // A layer's adapter for one of the rows that are computed together.
  using ValuesOf = std::function<const float*(int64_t layer, size_t row)>;

  // Whether a pass tells its phases in the trace, or is part of a longer one.
  enum class Phases { traced, none };

  // Sums of token losses, one for each row that `samples` make (a sample may come more than once):
  // a forward pass that reads the weights once for all of them and keeps nothing for a backward
  // pass. `states` has one layer and at least as many sequences as there are rows. `values_of` is
  // asked for row after row of a layer, layer after layer; what it gave must last for as many rows
  // as the network computes together.
  std::vector<double> losses(const std::vector<int64_t>& samples, const ValuesOf& values_of,
                             HiddenStates& states, Phases phases);
  // Labelled tokens of these samples, which a step's loss is the mean of. Throws Error when there
  // are none.
  int64_t labelled(const std::vector<int64_t>& samples) const;

  // Loss only. `interrupted` is asked between chunks; the sum so far is returned when it says true.
  LossSum evaluate(int64_t samples, const float* values, size_t memory,
                   const std::function<bool(int64_t done, const LossSum&)>& interrupted);

 private:
  const float* layer_values(const float* values, int64_t layer) const {
    return values + network_.adapter().begin(layer);
  }
  // Number in `states` of a layer's input.
  int64_t state_of(int64_t layer) const { return layer > lowest_ ? layer - lowest_ : 0; }
  // Has the weights of a step read ahead, without `backward` those of a loss.
  void plan_reading(int64_t rows, bool backward);
  // Rows that samples make, and one of them.
  size_t rows(const std::vector<int64_t>& samples) const {
    return samples.size() / size_t(batch_.sequences());
  }
  // The frame lasts until another one of `place`.
  Frame row_of(const std::vector<int64_t>& samples, size_t row, size_t place = 0) {
    return batch_.frame(&samples[row * size_t(batch_.sequences())], place);
  }
  void check_interruption() const {
    if (unchanged_ && interrupted_ && interrupted_()) throw Interrupted();
  }
  // Around the use of a layer's adapter.
  void use_values(int64_t layer) const {
    if (values_ != nullptr) values_->use(layer);
  }
  void rest_values(int64_t layer) const {
    if (values_ != nullptr) values_->rest(layer, false);
  }
  // Weights of a method that were held against their checksums.
  const std::vector<WeightRef>& checked(Kind kind, int64_t layer);
  // Does the same with the embedding as a whole, of which a step reads some rows only: in the
  // head's turn, since a tied head has read it, and for another it is one more reading, once.
  void check_embedding();
  // Throws Error unless all of the output of a layer (-1: of the embedding) is finite.
  void check_output(const float* hidden, int64_t layer);
  void embed(const std::vector<int64_t>& samples, HiddenStates& states);
  // Asks for the rows of the tokens where weights come from storage, and leaves nothing of the
  // table in memory.
  void run_embedding(WeightMapping& weights, Frame& frame);
  void forward(const std::vector<int64_t>& samples, const float* values, HiddenStates& states);
  // Gives the frames `kept_out` where the layer keeps something; it is the caller's to put or give
  // back.
  void keep_of(int64_t layer, std::vector<Frame>& frames, HiddenStates& states);
  // Has a layer compute `hidden_out` and `kept_out` of rows side by side.
  void run_blocks(int64_t layer, const WeightMapping& weights, std::vector<Frame>& frames);
  // Has a layer without a backward pass pass its gradient on.
  void pass_on(int64_t layer, size_t rows, HiddenStates& states) const {
    for (size_t s = 0; s < rows; ++s) states.move(state_of(layer) + 1, state_of(layer), s);
  }
  bool skips(int64_t layer) const {
    return layer >= lowest_ && !skipped_.empty() && skipped_[layer];
  }
  double head(const std::vector<int64_t>& samples, float grad_scale, HiddenStates& states);
  // The same by the layers that are elsewhere.
  double upper_layers(const std::vector<int64_t>& samples, int64_t labelled, HiddenStates& states);
  void backward(int64_t layer, const std::vector<int64_t>& samples, const float* values,
                HiddenStates& states, float* gradients);

  Network& network_;
  const Dataset& data_;
  Trace& trace_;
  Prefetcher& prefetcher_;
  Batch batch_;
  LayerMemory* values_ = nullptr;
  std::function<bool()> interrupted_;
  bool unchanged_ = false;        // by the pass under way
  int64_t lowest_ = 0, top_;      // the layers that the backward pass runs, and the first above
  UpperLayers* above_ = nullptr;  // null: there are none
  std::vector<bool> skipped_;
  int64_t stage_ = 0;        // of the prefetcher, in the backward pass
  Buffer second_gradients_;  // one layer's, when several rows add up
};

}  // namespace toolkit
