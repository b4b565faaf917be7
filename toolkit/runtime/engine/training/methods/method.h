// How a training step makes updates of samples: the exact gradient, or an estimate of it. A method
// is one file beside this one and one row in table.cc, and nothing else names it: the step loop
// (trainer.h) draws samples, sets the rate, saves and evaluates the same way for all.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/memory/checkpoints.h"
#include "engine/memory/layer_memory.h"
#include "engine/training/layers.h"
#include "engine/training/optimizers/optimizer.h"
#include "engine/training/passes.h"
#include "engine/training/state.h"
#include "engine/training/updater.h"

namespace toolkit {

// What a method works with; borrowed.
struct MethodParts {
  const Options& options;
  Network& network;
  Passes& passes;
  const TrainedLayers& trained;
  Updater& updater;
  Trace& trace;
  SpillFile* spill;  // for what a method keeps of every layer; null: that stays in RAM
};

// The adapter that a run goes on from.
struct Origin {
  std::string sha256;
  int64_t taken = -1;  // after so many steps; -1: the run began with it
};

struct StepResult {
  LossSum loss;          // before the update
  double grad_norm = 0;  // of the gradient or its estimate, before clipping
};

class StepMethod {
 public:
  virtual ~StepMethod() = default;
  // One step: the loss of the samples and updated adapters. Throws Interrupted (passes.h) as long
  // as nothing has changed, and Error, after which the adapters are undefined.
  virtual StepResult step(const std::vector<int64_t>& samples, StepSize size) = 0;
  // Gives back memory that the next step fills anyway, before an evaluation takes some.
  virtual void rest() {}
  // Where blocks' inputs wait for a backward pass; null: there is none.
  virtual const HiddenStates* checkpoints() const { return nullptr; }
  // What a resumed run needs beside adapters and the optimizer's states.
  virtual std::vector<StateArray> arrays() { return {}; }
  // Before the first step of a session, after `step` steps of the run.
  virtual void begin(int64_t step, const Origin& origin) { (void)step, (void)origin; }
  // Before what the run has come to is saved. May throw StorageFull, and is then called again.
  virtual void saving() {}
};

struct MethodRow {
  const char* name;
  const char* help;
  std::vector<OptionUse> options;
  // What it keeps in memory. Without a backward pass its programs are not loaded.
  bool backward, checkpoints, gradients;
  // Whether it changes the adapter itself: the optimizer is then sgd, without any state.
  bool updates;
  std::unique_ptr<StepMethod> (*make)(const MethodParts& parts);
  // Rows of so many tokens that the network is to compute side by side; null: one.
  int64_t (*together)(const Options& options, int64_t tokens) = nullptr;
};

// All there are; the rows are in table.cc.
const std::vector<MethodRow>& methods();
const MethodRow& method_row(const std::string& name);  // throws UsageError for an unknown one

}  // namespace toolkit
