// Layer-cyclic selective backpropagation (LCSB, arXiv 2602.13073) and its exact alternative: a step
// changes some of the trained layers, chosen one group after the other or by how large their
// gradients were.
//
// `lcsb` takes trained blocks that are not chosen as h + detach(o - h): their outputs are computed,
// and what arrives there is passed on to their inputs as it is. Its gradients are those of this
// surrogate: those of the chosen layers lack the other blocks' Jacobians. `block-coordinate` lacks
// nothing, since every block above the lowest chosen one has its backward pass. Of either, layers
// that are not chosen keep adapter and optimizer state, and an optimizer counts a layer's updates
// as its steps, as PyTorch's do with parameters that have no gradient.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/training/methods/backpropagation.h"
#include "engine/training/sampler.h"

namespace toolkit {
namespace {

class ByLayers : public Backpropagation {
 public:
  ByLayers(const MethodParts& parts, bool surrogate)
      : Backpropagation(parts),
        layers_(parts.trained.list()),
        surrogate_(surrogate),
        count_(size_t(std::min<int64_t>(parts.options.blocks, int64_t(layers_.size())))),
        updates_(layers_.size()),
        importance_(layers_.size()) {}

  std::vector<StateArray> arrays() override {
    std::vector<StateArray> arrays = Backpropagation::arrays();
    const int64_t count = int64_t(layers_.size());
    arrays.push_back({"updates", "layers", "float32", count, updates_.data()});
    arrays.push_back({"importance", "layers", "float32", count, importance_.data()});
    return arrays;
  }

 private:
  void choose(int64_t step, Choice& choice) override {
    choice.taken.assign(size_t(layout_.layers()), false);
    choice.skipped.assign(size_t(layout_.layers()), false);
    const std::vector<size_t> order =
        parts_.options.selection == "cyclic" ? in_turn(step) : by_importance(step);
    for (size_t i = 0; i < order.size(); ++i) {
      (i < count_ ? choice.taken : choice.skipped)[layers_[order[i]]] = true;
    }
    if (!surrogate_) choice.skipped.clear();
  }

  std::vector<size_t> in_turn(int64_t step) const {
    std::vector<size_t> order(layers_.size());
    const size_t first = size_t(step - 1) * count_;
    for (size_t i = 0; i < order.size(); ++i) order[i] = (first + i) % order.size();
    return order;
  }

  /// Drawn without replacement, each in proportion to its gradient's norm (Efraimidis and
  /// Spirakis), after those whose norm is not known.
  std::vector<size_t> by_importance(int64_t step) const {
    SplitMix64 random(uint64_t(parts_.options.seed) + uint64_t(step) * 0xD1342543DE82EF95u);
    std::vector<double> keys;
    std::vector<size_t> order;
    for (size_t i = 0; i < layers_.size(); ++i) {
      const double uniform = (double(random.next() >> 11) + 1) * 0x1p-53;
      const bool known = updates_[i] > 0;
      keys.push_back(known ? std::log(uniform) / double(importance_[i])
                           : std::numeric_limits<double>::infinity());
      order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return keys[a] > keys[b]; });
    return order;
  }

  int64_t taking(int64_t layer, double norm, int64_t) override {
    constexpr float kKept = 0.9f, kLeast = 1e-30f;
    const size_t i = size_t(std::find(layers_.begin(), layers_.end(), layer) - layers_.begin());
    const float present = std::max(kLeast, float(norm));
    const bool known = updates_[i] > 0;
    importance_[i] = known ? kKept * importance_[i] + (1 - kKept) * present : present;
    updates_[i] += 1;
    return int64_t(updates_[i]);
  }

  const std::vector<int64_t> layers_;  // those that are trained
  const bool surrogate_;
  const size_t count_;  // of a step
  std::vector<float> updates_, importance_;
};

const std::vector<OptionUse> kOptions = {{"max-grad-norm"}, {"clipping"}, {"checkpoints"},
                                         {"freeze"},        {"blocks"},   {"selection"}};

}  // namespace

extern const MethodRow kLcsb, kBlockCoordinate;
const MethodRow kLcsb = {
    "lcsb",
    "LCSB: some layers a step, by the gradient of a surrogate, an approximation: trained blocks "
    "that are not chosen are h + detach(o - h) and have no backward pass",
    kOptions,
    true,
    true,
    true,
    false,
    [](const MethodParts& parts) -> std::unique_ptr<StepMethod> {
      return std::make_unique<ByLayers>(parts, true);
    }};
const MethodRow kBlockCoordinate = {
    "block-coordinate",
    "some layers a step, by their exact gradients: the backward pass ends with the lowest of them",
    kOptions,
    true,
    true,
    true,
    false,
    [](const MethodParts& parts) -> std::unique_ptr<StepMethod> {
      return std::make_unique<ByLayers>(parts, false);
    }};

}  // namespace toolkit
