// What the methods share that go backward block by block, for layers that a step takes.
//
// A block's adapters are updated as soon as their gradients exist, so that those of one block are
// alive (LOMO, arXiv 2306.09782); the gradient that the block below gets was computed before.
// Clipping needs the norm of all first (--clipping): `keep` keeps all gradients until then, `twice`
// computes them again, and `last-norm` does with the norm of the step before. The pass ends with
// the lowest layer that is taken; those above it that are not taken pass the gradient on.
#pragma once

#include <memory>
#include <vector>

#include "engine/training/methods/method.h"

namespace toolkit {

class Backpropagation : public StepMethod {
 public:
  // The layers below `top` alone are computed here; below 0: all are.
  explicit Backpropagation(const MethodParts& parts, int64_t top = -1);

  StepResult step(const std::vector<int64_t>& samples, StepSize size) override;
  void rest() override { states_.release(); }
  const HiddenStates* checkpoints() const override { return &states_; }
  std::vector<StateArray> arrays() override;

 protected:
  // The layers of a step, all those that are trained unless a method chooses among them; of the
  // others the `skipped` have no backward pass (passes.h).
  struct Choice {
    std::vector<bool> taken, skipped;
  };
  virtual void choose(int64_t step, Choice& choice) { (void)step, (void)choice; }
  // After a layer was chosen and before it is updated: the norm of its gradient before clipping,
  // and the number of its update, which is the step's unless the method counts on its own.
  virtual int64_t taking(int64_t layer, double norm, int64_t step) {
    (void)layer, (void)norm;
    return step;
  }

  const MethodParts parts_;
  const AdapterLayout& layout_;

 private:
  float* of(int64_t layer) const;
  float factor_of(double norm) const;
  // Loss and norm; `done` is called with every layer that is taken, its gradients complete, and
  // changes it or not.
  StepResult pass(const std::vector<int64_t>& samples, const Passes::LayerDone& done, bool changes);
  StepResult updating_pass(const std::vector<int64_t>& samples, StepSize size, float factor);
  double checked_squares(int64_t layer) const;
  void update_kept(float factor, StepSize size);
  void update(int64_t layer, float factor, StepSize size);

  const int64_t lowest_;  // that any step may take
  const double max_norm_;
  const bool keeps_, twice_, by_last_;
  float last_norm_ = -1;  // saved as it is used; below 0: none yet
  Choice choice_;
  std::vector<double> squares_;  // of every layer's gradient
  HiddenStates states_;
  Buffer one_;
  std::unique_ptr<LayerMemory> all_;
};

}  // namespace toolkit
