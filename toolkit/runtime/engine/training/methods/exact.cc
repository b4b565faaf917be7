// The exact gradient: forward with every block's input kept, then backward block by block. A
// block's adapters are updated as soon as their gradients exist, so that those of one block are
// alive (LOMO, arXiv 2306.09782); the gradient that the block below gets was computed before.
// Clipping needs the norm of all first (--clipping): `keep` keeps all gradients until then, `twice`
// computes them again, and `last-norm` does with the norm of the step before. The pass ends with
// the lowest layer that is trained; those above it that are not trained pass the gradient on.
#include <cmath>

#include "engine/error.h"
#include "engine/memory/memory.h"
#include "engine/training/methods/method.h"
#include "engine/training/norms.h"

namespace toolkit {
namespace {

class Exact : public StepMethod {
 public:
  explicit Exact(const MethodParts& parts)
      : parts_(parts),
        layout_(parts.network.adapter()),
        lowest_(parts.trained.first()),
        max_norm_(parts.options.max_grad_norm),
        keeps_(max_norm_ > 0 && parts.options.clipping == "keep"),
        twice_(max_norm_ > 0 && parts.options.clipping == "twice"),
        by_last_(max_norm_ > 0 && parts.options.clipping == "last-norm"),
        states_(layout_.layers() - lowest_, parts.network.bundle().any_keeps(lowest_),
                parts.options.grad_accum, parts.network.hidden_bytes(),
                checkpoints_from(parts.options.checkpoints), parts.options.out) {
    if (max_norm_ == 0 && parts.options.clipping != "keep") {
      fail_usage("--clipping says how --max-grad-norm is kept to: give that, too");
    }
    const char* const name = "toolkit gradients";
    if (keeps_) {
      all_ = std::make_unique<LayerMemory>(layout_.begins_from(lowest_), Category::gradients, name,
                                           parts.spill);
    } else {
      one_ = Buffer(layout_.largest_floats() * sizeof(float), Category::gradients, name);
    }
  }

  StepResult step(const std::vector<int64_t>& samples, StepSize size) override {
    if (max_norm_ == 0) return updating_pass(samples, size, 1);
    if (keeps_) {
      const StepResult result = pass(samples, [](int64_t) {});
      update_kept(factor_of(result.grad_norm), size);
      return result;
    }
    // No step came before the first one.
    const bool first = twice_ || last_norm_ < 0;
    const double norm = first ? pass(samples, [](int64_t) {}).grad_norm : last_norm_;
    const StepResult result = updating_pass(samples, size, factor_of(norm));
    last_norm_ = float(result.grad_norm);
    return result;
  }

  void rest() override { states_.release(); }
  const HiddenStates* checkpoints() const override { return &states_; }
  std::vector<StateArray> arrays() override {
    if (!by_last_) return {};
    return {{"last_norm", "gradient", "float32", 1, &last_norm_}};
  }

 private:
  float* of(int64_t layer) const {
    if (!keeps_) return one_.floats();
    all_->use(layer);
    return all_->floats() + layout_.begin(layer) - layout_.begin(lowest_);
  }
  float factor_of(double norm) const { return float(clip_factor(norm, max_norm_)); }

  /// Loss and norm; `done` is called with every trained layer whose gradients are complete.
  StepResult pass(const std::vector<int64_t>& samples, const Passes::LayerDone& done) {
    double squares = 0;
    const LossSum sum = parts_.passes.gradients(
        samples, parts_.updater.values(), lowest_, states_,
        [this](int64_t layer) { return of(layer); },
        [&](int64_t layer) {
          if (parts_.trained.has(layer)) {
            squares += checked_squares(layer);
            done(layer);
          }
          if (keeps_) all_->rest(layer, true);
        });
    return {sum, std::sqrt(squares)};
  }

  StepResult updating_pass(const std::vector<int64_t>& samples, StepSize size, float factor) {
    return pass(samples, [&](int64_t layer) {
      Phase phase(parts_.trace, "optimizer", layer);
      update(layer, factor, size);
    });
  }

  double checked_squares(int64_t layer) const {
    const double squares = sum_of_squares(of(layer), layout_.layer_floats(layer));
    if (std::isfinite(squares)) return squares;
    fail("the gradient of layer %lld is not finite. Use a lower learning rate or clip gradients",
         (long long)layer);
  }

  void update_kept(float factor, StepSize size) {
    Phase phase(parts_.trace, "optimizer");
    for (int64_t layer : parts_.trained.list()) update(layer, factor, size);
  }

  void update(int64_t layer, float factor, StepSize size) {
    float* gradient = of(layer);
    const size_t floats = layout_.layer_floats(layer);
    for (size_t i = 0; factor != 1 && i < floats; ++i) gradient[i] *= factor;
    parts_.updater.update(layer, gradient, size);
    if (keeps_) all_->rest(layer, true);
  }

  const MethodParts parts_;
  const AdapterLayout& layout_;
  const int64_t lowest_;
  const double max_norm_;
  const bool keeps_, twice_, by_last_;
  float last_norm_ = -1;  // saved as it is used; below 0: none yet
  HiddenStates states_;
  Buffer one_;
  std::unique_ptr<LayerMemory> all_;
};

}  // namespace

extern const MethodRow kExact;
const MethodRow kExact = {"exact",
                          "the gradient of the loss, by backpropagation block by block",
                          {{"max-grad-norm"}, {"clipping"}, {"checkpoints"}},
                          true,
                          true,
                          true,
                          [](const MethodParts& parts) -> std::unique_ptr<StepMethod> {
                            return std::make_unique<Exact>(parts);
                          }};

}  // namespace toolkit
