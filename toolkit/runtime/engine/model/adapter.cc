#include "engine/model/adapter.h"

#include <algorithm>
#include <numeric>

#include "engine/error.h"
#include "engine/files/crc32.h"
#include "engine/model/finite.h"

namespace toolkit {
namespace {

constexpr size_t kAlignFloats = 16;

size_t aligned(size_t floats) { return (floats + kAlignFloats - 1) / kAlignFloats * kAlignFloats; }

}  // namespace

AdapterLayout::AdapterLayout(const Bundle& bundle, const std::vector<const Method*>& forwards,
                             bool b_alone) {
  std::vector<Floats> floats;
  for (const Method* forward : forwards) floats.push_back(add_kind(*forward, b_alone));
  for (int64_t layer = 0; layer < bundle.layers; ++layer) {
    kind_of_.push_back(bundle.kind_of(layer));
    values_.add(floats[kind_of_.back()].values);
    gradients_.add(floats[kind_of_.back()].gradients);
    for (const AdapterTensor& tensor : tensors(layer)) parameters_ += int64_t(tensor.count);
  }
  if (parameters_ == 0) fail("the bundle trains no adapter. Export it with --targets");
}

AdapterLayout::Floats AdapterLayout::add_kind(const Method& forward, bool b_alone) {
  std::vector<AdapterTensor>& tensors = tensors_.emplace_back();
  Floats floats;
  for (const Method::Port& port : forward.inputs()) {
    const char* key = after_prefix(port.name, "adapter:");
    if (key == nullptr) continue;
    if (port.type != ScalarType::Float) {
      fail("adapter tensor %s is not float32. Export the bundle again", key);
    }
    const size_t count = port.bytes / sizeof(float);
    tensors.push_back({key, port.sizes, floats.values, count, kNoGradient});
    floats.values += aligned(count);
    if (b_alone && !is_b(tensors.back())) continue;
    tensors.back().gradient = floats.gradients;
    floats.gradients += aligned(count);
  }
  return floats;
}

size_t LayerPlaces::largest() const {
  size_t most = 0;
  for (size_t layer = 0; layer + 1 < begins_.size(); ++layer) {
    most = std::max(most, begins_[layer + 1] - begins_[layer]);
  }
  return most;
}

std::vector<size_t> LayerPlaces::begins_from(int64_t lowest) const {
  std::vector<size_t> begins;
  for (const size_t begin : begins_) {
    begins.push_back((begin - std::min(begin, begins_[lowest])) * sizeof(float));
  }
  for (int64_t layer = 0; layer < lowest; ++layer) begins[layer] = 0;
  return begins;
}

const AdapterTensor& AdapterLayout::tensor(size_t kind, const std::string& key) const {
  for (const AdapterTensor& tensor : tensors_[kind]) {
    if (tensor.key == key) return tensor;
  }
  fail("the bundle's methods disagree about adapter tensor %s. Export it again", key.c_str());
}

void load_adapter(const FlatTensorFile& file, const AdapterLayout& layout, float* values,
                  const Visited& visited) {
  const std::string& path = file.path();
  size_t found = 0;
  for (int64_t layer = 0; layer < layout.layers(); ++layer) {
    for (const AdapterTensor& tensor : layout.tensors(layer)) {
      const std::string key = layer_key(tensor.key, layer);
      const TensorSpec& spec = file.require(key);
      if (spec.type != ScalarType::Float || spec.sizes != tensor.sizes) {
        fail(
            "%s: %s is %s, but the bundle trains %s. Use an adapter of the bundle's rank and "
            "targets",
            path.c_str(), key.c_str(), describe(spec.type, spec.sizes).c_str(),
            describe(ScalarType::Float, tensor.sizes).c_str());
      }
      float* target = values + layout.begin(layer) + tensor.offset;
      file.file().read_at(target, spec.bytes, spec.offset);
      if (crc32(0, target, spec.bytes) != spec.crc32) {
        fail("%s: %s is damaged. Make or deploy it again", path.c_str(), key.c_str());
      }
      if (!all_finite(target, tensor.count)) {
        fail("%s: %s holds numbers that are not finite. Use another adapter", path.c_str(),
             key.c_str());
      }
      if (visited) visited(target, spec.bytes);
      ++found;
    }
  }
  if (found != file.tensors().size()) {
    fail("%s holds %zu tensors, the bundle trains %zu. Use an adapter of the bundle's targets",
         path.c_str(), file.tensors().size(), found);
  }
}

Sha256 load_start(const Bundle& bundle, const std::string& path, const AdapterLayout& layout,
                  float* values, const Visited& visited) {
  const FlatTensorFile file(path.empty() ? bundle.directory() + "/adapter.ptd" : path);
  if (path.empty()) bundle.identity().check_part("adapter.ptd", file, bundle.identity().adapter);
  load_adapter(file, layout, values, visited);
  return file.sha256();
}

std::string first_not_finite(const AdapterLayout& layout, const float* values, int64_t layer) {
  for (const AdapterTensor& tensor : layout.tensors(layer)) {
    const float* data = values + layout.begin(layer) + tensor.offset;
    if (!all_finite(data, tensor.count)) return layer_key(tensor.key, layer);
  }
  return "";
}

std::vector<NamedTensor> named_tensors(const AdapterLayout& layout,
                                       const std::vector<int64_t>& layers, const float* values,
                                       const std::string& prefix) {
  std::vector<NamedTensor> result;
  for (int64_t layer : layers) {
    for (const AdapterTensor& tensor : layout.tensors(layer)) {
      const float* data = values + layout.begin(layer) + tensor.offset;
      result.push_back({prefix + layer_key(tensor.key, layer), tensor.sizes, data});
    }
  }
  return result;
}

std::vector<int64_t> all_layers(const AdapterLayout& layout) {
  std::vector<int64_t> layers(layout.layers());
  std::iota(layers.begin(), layers.end(), 0);
  return layers;
}

}  // namespace toolkit
