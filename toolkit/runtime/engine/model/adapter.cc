#include "engine/model/adapter.h"

#include "engine/error.h"
#include "engine/files/crc32.h"
#include "engine/model/finite.h"

namespace toolkit {
namespace {

constexpr size_t kAlignFloats = 16;

}  // namespace

AdapterLayout::AdapterLayout(const std::vector<std::string>& keys, const Method& block_forward,
                             int64_t layers)
    : layers_(layers) {
  for (const Method::Port& port : block_forward.inputs()) {
    const char* key = after_prefix(port.name, "adapter:");
    if (key == nullptr) continue;
    if (port.type != ScalarType::Float) {
      fail("adapter tensor %s is not float32. Export the bundle again", key);
    }
    const size_t count = port.bytes / sizeof(float);
    tensors_.push_back({key, port.sizes, layer_floats_, count});
    layer_floats_ += (count + kAlignFloats - 1) / kAlignFloats * kAlignFloats;
    parameters_ += int64_t(count) * layers;
  }
  if (tensors_.empty() || tensors_.size() != keys.size()) {
    fail("the bundle trains no adapter. Export it with --targets");
  }
}

size_t AdapterLayout::index_of(const std::string& key) const {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i].key == key) return i;
  }
  fail("the bundle's methods disagree about adapter tensor %s. Export it again", key.c_str());
}

void load_adapter(const FlatTensorFile& file, const AdapterLayout& layout, float* values) {
  const std::string& path = file.path();
  size_t found = 0;
  for (int64_t layer = 0; layer < layout.layers(); ++layer) {
    for (const AdapterTensor& tensor : layout.tensors()) {
      const std::string key = layer_key(tensor.key, layer);
      const TensorSpec& spec = file.require(key);
      if (spec.type != ScalarType::Float || spec.sizes != tensor.sizes) {
        fail(
            "%s: %s is %s, but the bundle trains %s. Use an adapter of the bundle's rank and "
            "targets",
            path.c_str(), key.c_str(), describe(spec.type, spec.sizes).c_str(),
            describe(ScalarType::Float, tensor.sizes).c_str());
      }
      float* target = values + layer * layout.layer_floats() + tensor.offset;
      file.file().read_at(target, spec.bytes, spec.offset);
      if (crc32(0, target, spec.bytes) != spec.crc32) {
        fail("%s: %s is damaged. Make or deploy it again", path.c_str(), key.c_str());
      }
      if (!all_finite(target, tensor.count)) {
        fail("%s: %s holds numbers that are not finite. Use another adapter", path.c_str(),
             key.c_str());
      }
      ++found;
    }
  }
  if (found != file.tensors().size()) {
    fail("%s holds %zu tensors, the bundle trains %zu. Use an adapter of the bundle's targets",
         path.c_str(), file.tensors().size(), found);
  }
}

Sha256 load_start(const Bundle& bundle, const std::string& path, const AdapterLayout& layout,
                  float* values) {
  const FlatTensorFile file(path.empty() ? bundle.directory() + "/adapter.ptd" : path);
  if (path.empty()) bundle.identity().check_part("adapter.ptd", file, bundle.identity().adapter);
  load_adapter(file, layout, values);
  return file.sha256();
}

std::string first_not_finite(const AdapterLayout& layout, const float* values, int64_t layer) {
  for (const AdapterTensor& tensor : layout.tensors()) {
    const float* data = values + layer * layout.layer_floats() + tensor.offset;
    if (!all_finite(data, tensor.count)) return layer_key(tensor.key, layer);
  }
  return "";
}

std::vector<NamedTensor> named_tensors(const AdapterLayout& layout, const float* values,
                                       const std::string& prefix) {
  std::vector<NamedTensor> result;
  for (int64_t layer = 0; layer < layout.layers(); ++layer) {
    for (const AdapterTensor& tensor : layout.tensors()) {
      const float* data = values + layer * layout.layer_floats() + tensor.offset;
      result.push_back({prefix + layer_key(tensor.key, layer), tensor.sizes, data});
    }
  }
  return result;
}

}  // namespace toolkit
