#include "engine/training/updater.h"

#include "engine/error.h"
#include "engine/memory/dry_step.h"
#include "engine/model/finite.h"
#include "engine/runtime.h"

namespace toolkit {
namespace {

Shape shape_of(const AdapterTensor& tensor) {
  const int64_t rows = tensor.sizes.size() > 1 ? tensor.sizes[0] : 1;
  return {rows, rows == 0 ? 0 : int64_t(tensor.count) / rows};
}

}  // namespace

std::vector<size_t> bytes_of_state(const Options& options, const AdapterLayout& layout,
                                   const TrainedLayers& trained) {
  const auto optimizer = optimizer_row(options.optimizer).make(options);
  const bool kept = options.max_grad_norm > 0 && options.clipping == "keep";
  size_t states = 0;
  for (int64_t layer : trained.list()) {
    for (const AdapterTensor& tensor : layout.tensors(layer)) {
      if (tensor.gradient == kNoGradient) continue;
      for (const StateSpec& spec : optimizer->states(shape_of(tensor)))
        states += size_t(held_bytes(spec));
    }
  }
  return {layout.begins_from(0).back(), states,
          kept ? layout.gradients().begins_from(trained.first()).back() : 0};
}

Updater::Updater(const Options& options, const AdapterLayout& layout, const TrainedLayers& trained,
                 LayerMemory& values, SpillFile* spill)
    : layout_(layout),
      trained_(trained),
      values_(values),
      b_rate_(options.lora_plus_ratio),
      optimizer_(optimizer_row(options.optimizer).make(options)),
      begins_(begins_of_states()),
      states_(begins_, Category::optimizer, "toolkit optimizer", spill) {}

std::vector<size_t> Updater::begins_of_states() {
  std::vector<int64_t> bytes;
  for (size_t kind = 0; kind < layout_.kinds(); ++kind) {
    bytes.push_back(add_kind(layout_.of_kind(kind)));
  }
  std::vector<size_t> begins = {0};
  for (int64_t layer = 0; layer < layout_.layers(); ++layer) {
    const bool has = trained_.has(layer);
    begins.push_back(begins.back() + size_t(has ? bytes[layout_.kind_of(layer)] : 0));
  }
  return begins;
}

int64_t Updater::add_kind(const std::vector<AdapterTensor>& tensors) {
  int64_t bytes = 0;
  std::vector<Tensor>& all = tensors_.emplace_back();
  for (const AdapterTensor& tensor : tensors) {
    Tensor trained = {shape_of(tensor), is_b(tensor) ? b_rate_ : 1, {}};
    const bool remembered = tensor.gradient != kNoGradient;
    const std::vector<StateSpec> specs =
        remembered ? optimizer_->states(trained.shape) : std::vector<StateSpec>();
    for (const StateSpec& spec : specs) {
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
    float* values = values_.floats() + layout_.begin(layer) + places[i].offset;
    const std::string name = layer_key(places[i].key, layer);
    body(TrainedTensor{name, layer, tensors[i].shape, values, states.data()}, places[i],
         tensors[i]);
  }
}

void Updater::initialize() {
  for (int64_t layer : trained_.list()) {
    each_tensor(layer, [&](const TrainedTensor& tensor, const AdapterTensor& place, const Tensor&) {
      if (place.gradient != kNoGradient) optimizer_->initialize(tensor);
    });
    values_.rest(layer, false);
    states_.rest(layer, false);
  }
}

void Updater::update(int64_t layer, float* gradients, StepSize size) {
  states_.use(layer);
  change(layer, [&](float*) {
    each_tensor(
        layer, [&](const TrainedTensor& tensor, const AdapterTensor& place, const Tensor& own) {
          if (place.gradient == kNoGradient) return;
          optimizer_->update(tensor, gradients + place.gradient, {size.lr * own.rate, size.step});
        });
  });
  if (DryStep* dry = DryStep::current()) dry->note("optimizer", 0);
  states_.rest(layer, true);
}

void Updater::read(int64_t layer, const std::function<void(const float* values)>& body) {
  values_.use(layer);
  body(values_.floats() + layout_.begin(layer));
  values_.rest(layer, false);
}

void Updater::change(int64_t layer, const std::function<void(float* values)>& body) {
  values_.use(layer);
  body(values_.floats() + layout_.begin(layer));
  check_values(layer, "after the update");
  if (values_.spilled()) Runtime::current()->profile().sample();
  values_.rest(layer, true);
}

void Updater::check_values(int64_t layer, const char* when) const {
  const std::string key = first_not_finite(layout_, values_.floats(), layer);
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
