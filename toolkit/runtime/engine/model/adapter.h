// The trained tensors: values and gradients, one layer after the other in one block of memory each.
#pragma once

#include <string>
#include <vector>

#include "engine/memory/memory.h"
#include "engine/model/bundle.h"

namespace toolkit {

struct AdapterTensor {
  std::string key;  // with {layer} in place
  std::vector<int32_t> sizes;
  size_t offset;  // in floats, within a layer
  size_t count;   // floats
};

// Layout of one layer, the same for all; every tensor starts at a multiple of 64 bytes.
class AdapterLayout {
 public:
  // Shapes come from the block_forward method. Throws Error when the layer has no adapter inputs.
  AdapterLayout(const std::vector<std::string>& keys, const Method& block_forward, int64_t layers);

  const std::vector<AdapterTensor>& tensors() const { return tensors_; }
  int64_t layers() const { return layers_; }
  size_t layer_floats() const { return layer_floats_; }
  size_t total_floats() const { return layer_floats_ * layers_; }
  int64_t parameters() const { return parameters_; }
  // Index in tensors() of a key; throws Error when absent.
  size_t index_of(const std::string& key) const;

 private:
  std::vector<AdapterTensor> tensors_;
  int64_t layers_;
  size_t layer_floats_ = 0;
  int64_t parameters_ = 0;
};

// Reads adapter values into `values` [total_floats]. Throws Error when a tensor is missing,
// damaged, not finite or of another shape, or when the file holds one that the bundle does not
// train.
void load_adapter(const FlatTensorFile& file, const AdapterLayout& layout, float* values);

// The same with the adapter that a run or evaluation starts from: the file `path`, or the bundle's
// own where that is empty. Returns the SHA-256 of its content.
Sha256 load_start(const Bundle& bundle, const std::string& path, const AdapterLayout& layout,
                  float* values);

// The key of a layer's first tensor that is not finite, empty if all are.
std::string first_not_finite(const AdapterLayout& layout, const float* values, int64_t layer);

// Floats of one tensor at hand for writing.
struct NamedTensor {
  std::string name;
  std::vector<int32_t> sizes;
  const float* data;
};

// Every tensor of all layers, named PREFIX + key.
std::vector<NamedTensor> named_tensors(const AdapterLayout& layout, const float* values,
                                       const std::string& prefix);

// Writes a safetensors file of fp32 tensors atomically. Its metadata are {"format": "pt"} and
// "toolkit_crc32", the CRC-32 of the whole file with zeros for its own eight hexadecimal digits.
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors);

}  // namespace toolkit
