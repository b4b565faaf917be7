#include "engine/training/updater.h"

#include "engine/error.h"
#include "engine/model/finite.h"

namespace toolkit {
namespace {

Shape shape_of(const AdapterTensor& tensor) {
  const int64_t rows = tensor.sizes.size() > 1 ? tensor.sizes[0] : 1;
  return {rows, rows == 0 ? 0 : int64_t(tensor.count) / rows};
}

}  // namespace

Updater::Updater(const Options& options, const AdapterLayout& layout, float* values)
    : layout_(layout), values_(values), optimizer_(optimizer_row(options.optimizer).make(options)) {
  for (const AdapterTensor& tensor : layout.tensors()) {
    Tensor trained = {shape_of(tensor), {}};
    for (const StateSpec& spec : optimizer_->states(trained.shape)) {
      trained.places.push_back({spec, layer_bytes_});
      layer_bytes_ += held_bytes(spec);
    }
    tensors_.push_back(std::move(trained));
  }
  if (layer_bytes_ > 0) {
    states_ = Buffer(layer_bytes_ * layout.layers(), Category::optimizer, "toolkit optimizer");
  }
}

template <typename Body>
void Updater::each_tensor(int64_t layer, Body body) const {
  std::vector<void*> states;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const AdapterTensor& place = layout_.tensors()[i];
    states.clear();
    for (const Place& state : tensors_[i].places) {
      states.push_back(static_cast<char*>(states_.data()) + layer * layer_bytes_ + state.offset);
    }
    float* values = values_ + layer * layout_.layer_floats() + place.offset;
    const std::string name = layer_key(place.key, layer);
    body(TrainedTensor{name, layer, tensors_[i].shape, values, states.data()}, i);
  }
}

void Updater::initialize() {
  for (int64_t layer = 0; layer < layout_.layers(); ++layer) {
    each_tensor(layer,
                [&](const TrainedTensor& tensor, size_t) { optimizer_->initialize(tensor); });
  }
}

void Updater::update(int64_t layer, float* gradients, StepSize size) {
  each_tensor(layer, [&](const TrainedTensor& tensor, size_t i) {
    optimizer_->update(tensor, gradients + layout_.tensors()[i].offset, size);
  });
  check_values(layer, "after the update");
}

void Updater::check_values(int64_t layer, const char* when) const {
  const std::string key = first_not_finite(layout_, values_, layer);
  if (key.empty()) return;
  fail("%s is not finite %s. Use a lower learning rate or clip gradients", key.c_str(), when);
}

std::vector<StateArray> Updater::arrays() const {
  std::vector<StateArray> arrays, states;
  for (int64_t layer = 0; layer < layout_.layers(); ++layer) {
    each_tensor(layer, [&](const TrainedTensor& tensor, size_t i) {
      arrays.push_back({"adapter", tensor.name, "float32", tensor.shape.count(), tensor.values});
      for (size_t j = 0; j < tensors_[i].places.size(); ++j) {
        const StateSpec& spec = tensors_[i].places[j].spec;
        states.push_back({spec.name, tensor.name, spec.type, spec.count, tensor.states[j]});
      }
    });
  }
  arrays.insert(arrays.end(), states.begin(), states.end());
  return arrays;
}

}  // namespace toolkit
