#include "engine/training/updater.h"

#include "engine/error.h"
#include "engine/model/finite.h"

namespace toolkit {
namespace {

Shape shape_of(const AdapterTensor& tensor) {
  const int64_t rows = tensor.sizes.size() > 1 ? tensor.sizes[0] : 1;
  return {rows, rows == 0 ? 0 : int64_t(tensor.count) / rows};
}

bool is_b(const std::string& key) { return key.find(".lora_B.") != std::string::npos; }

}  // namespace

Updater::Updater(const Options& options, const AdapterLayout& layout, const TrainedLayers& trained,
                 float* values)
    : layout_(layout),
      trained_(trained),
      values_(values),
      b_rate_(options.lora_plus_ratio),
      optimizer_(optimizer_row(options.optimizer).make(options)) {
  std::vector<int64_t> bytes;
  for (size_t kind = 0; kind < layout.kinds(); ++kind)
    bytes.push_back(add_kind(layout.of_kind(kind)));
  int64_t end = 0;
  for (int64_t layer = 0; layer < layout.layers(); ++layer) {
    begins_.push_back(end);
    if (trained.has(layer)) end += bytes[layout.kind_of(layer)];
  }
  if (end > 0) states_ = Buffer(end, Category::optimizer, "toolkit optimizer");
}

int64_t Updater::add_kind(const std::vector<AdapterTensor>& tensors) {
  int64_t bytes = 0;
  std::vector<Tensor>& all = tensors_.emplace_back();
  for (const AdapterTensor& tensor : tensors) {
    Tensor trained = {shape_of(tensor), is_b(tensor.key) ? b_rate_ : 1, {}};
    for (const StateSpec& spec : optimizer_->states(trained.shape)) {
      trained.places.push_back({spec, bytes});
      bytes += held_bytes(spec);
    }
    all.push_back(std::move(trained));
  }
  return bytes;
}

template <typename Body>
void Updater::each_tensor(int64_t layer, Body body) const {
  const std::vector<AdapterTensor>& places = layout_.tensors(layer);
  const std::vector<Tensor>& tensors = tensors_[layout_.kind_of(layer)];
  std::vector<void*> states;
  for (size_t i = 0; i < tensors.size(); ++i) {
    states.clear();
    for (const Place& state : tensors[i].places) {
      if (!trained_.has(layer)) break;
      states.push_back(static_cast<char*>(states_.data()) + begins_[layer] + state.offset);
    }
    float* values = values_ + layout_.begin(layer) + places[i].offset;
    const std::string name = layer_key(places[i].key, layer);
    body(TrainedTensor{name, layer, tensors[i].shape, values, states.data()}, places[i],
         tensors[i]);
  }
}

void Updater::initialize() {
  for (int64_t layer : trained_.list()) {
    each_tensor(layer, [&](const TrainedTensor& tensor, const AdapterTensor&, const Tensor&) {
      optimizer_->initialize(tensor);
    });
  }
}

void Updater::update(int64_t layer, float* gradients, StepSize size) {
  each_tensor(
      layer, [&](const TrainedTensor& tensor, const AdapterTensor& place, const Tensor& own) {
        optimizer_->update(tensor, gradients + place.offset, {size.lr * own.rate, size.step});
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
    each_tensor(layer, [&](const TrainedTensor& tensor, const AdapterTensor&, const Tensor& own) {
      arrays.push_back({"adapter", tensor.name, "float32", tensor.shape.count(), tensor.values});
      for (size_t i = 0; trained_.has(layer) && i < own.places.size(); ++i) {
        const StateSpec& spec = own.places[i].spec;
        states.push_back({spec.name, tensor.name, spec.type, spec.count, tensor.states[i]});
      }
    });
  }
  arrays.insert(arrays.end(), states.begin(), states.end());
  return arrays;
}

}  // namespace toolkit
