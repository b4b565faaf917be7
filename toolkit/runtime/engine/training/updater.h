// The adapters of a run with what the optimizer remembers of them, changed layer by layer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/memory/layer_memory.h"
#include "engine/model/adapter.h"
#include "engine/training/layers.h"
#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"
#include "engine/training/state.h"

namespace toolkit {

// What a run keeps of all layers beside the model: adapters, what the optimizer remembers of those
// that are trained, and their gradients where all are kept. In bytes, of each.
std::vector<size_t> bytes_of_state(const Options& options, const AdapterLayout& layout,
                                   const TrainedLayers& trained);

class Updater {
 public:
  // `layout`, `trained`, `values` [total_floats] and `spill` are borrowed. The states of a layer
  // lie together, in the file if there is one; layers that are not trained have none.
  Updater(const Options& options, const AdapterLayout& layout, const TrainedLayers& trained,
          LayerMemory& values, SpillFile* spill);

  // Before the first step of a run that is not resumed.
  void initialize();
  // One trained layer's gradients, which may be overwritten, to its values. Throws Error when one
  // of these is then not finite.
  void update(int64_t layer, float* gradients, StepSize size);
  // Has `body` read or change a layer's values, of which it gets the first. A change throws Error
  // when one of them is then not finite.
  void read(int64_t layer, const std::function<void(const float* values)>& body);
  void change(int64_t layer, const std::function<void(float* values)>& body);
  // Throws Error unless a layer's values are finite; `when` ends the sentence.
  void check_values(int64_t layer, const char* when) const;

  float* values() const { return values_.floats(); }
  const AdapterLayout& layout() const { return layout_; }
  // What a resumed run needs, in the order of the file.
  std::vector<StateArray> arrays() const;

 private:
  struct Place {
    StateSpec spec;
    int64_t offset;  // in bytes, within a layer's states
  };
  struct Tensor {
    Shape shape;
    double rate;  // that the step's is multiplied by
    std::vector<Place> places;
  };
  int64_t add_kind(const std::vector<AdapterTensor>& tensors);  // returns the bytes of a layer
  std::vector<size_t> begins_of_states();
  // Calls a body with every tensor of a layer.
  template <typename Body>
  void each_tensor(int64_t layer, Body body) const;

  const AdapterLayout& layout_;
  const TrainedLayers& trained_;
  LayerMemory& values_;
  const double b_rate_;
  const std::unique_ptr<Optimizer> optimizer_;
  std::vector<std::vector<Tensor>> tensors_;  // of every kind of block, as in the layout
  std::vector<size_t> begins_;                // in bytes, where every layer's states begin
  LayerMemory states_;
};

}  // namespace toolkit
