// The trained tensors: values and gradients, one layer after the other in one block of memory each.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/memory/memory.h"
#include "engine/model/bundle.h"

namespace toolkit {

struct AdapterTensor {
  std::string key;  // with {layer} in place
  std::vector<int32_t> sizes;
  size_t offset;    // in floats, within a layer
  size_t count;     // floats
  size_t gradient;  // in floats, within a layer's gradients; kNoGradient: it is not trained
};
constexpr size_t kNoGradient = SIZE_MAX;
// Whether it is the B of a pair, which begins as zeros.
inline bool is_b(const AdapterTensor& tensor) {
  return tensor.key.find(".lora_B.") != std::string::npos;
}

// Where every layer's part begins in one block of memory, in floats.
class LayerPlaces {
 public:
  void add(size_t floats) { begins_.push_back(begins_.back() + floats); }
  size_t begin(int64_t layer) const { return begins_[layer]; }
  size_t floats(int64_t layer) const { return begins_[layer + 1] - begins_[layer]; }
  size_t largest() const;
  size_t total() const { return begins_.back(); }
  // In bytes, where every layer begins and the end, in memory without the layers below `lowest`.
  std::vector<size_t> begins_from(int64_t lowest) const;

 private:
  std::vector<size_t> begins_ = {0};  // every layer's and the end
};

// Where every layer's tensors are, layer after layer: those of a kind of block have the same, those
// of some kinds none. Every tensor starts at a multiple of 64 bytes.
class AdapterLayout {
 public:
  // Shapes come from the forward method of every kind. `b_alone`: no A has a gradient. Throws Error
  // when no layer has an adapter.
  AdapterLayout(const Bundle& bundle, const std::vector<const Method*>& forwards,
                bool b_alone = false);

  int64_t layers() const { return int64_t(kind_of_.size()); }
  size_t kinds() const { return tensors_.size(); }
  size_t kind_of(int64_t layer) const { return kind_of_[layer]; }
  const std::vector<AdapterTensor>& of_kind(size_t kind) const { return tensors_[kind]; }
  const std::vector<AdapterTensor>& tensors(int64_t layer) const { return of_kind(kind_of(layer)); }
  bool has(int64_t layer) const { return !tensors(layer).empty(); }
  // In floats: where a layer begins, what it takes, what the largest and all layers take.
  size_t begin(int64_t layer) const { return values_.begin(layer); }
  size_t layer_floats(int64_t layer) const { return values_.floats(layer); }
  size_t largest_floats() const { return values_.largest(); }
  size_t total_floats() const { return values_.total(); }
  std::vector<size_t> begins_from(int64_t lowest) const { return values_.begins_from(lowest); }
  // The same of gradients.
  const LayerPlaces& gradients() const { return gradients_; }
  int64_t parameters() const { return parameters_; }
  // The tensor of a key in layers of a kind; throws Error when absent.
  const AdapterTensor& tensor(size_t kind, const std::string& key) const;

 private:
  struct Floats {
    size_t values = 0, gradients = 0;
  };
  Floats add_kind(const Method& forward, bool b_alone);  // of a layer

  std::vector<std::vector<AdapterTensor>> tensors_;  // of every kind
  std::vector<size_t> kind_of_;                      // every layer's
  LayerPlaces values_, gradients_;
  int64_t parameters_ = 0;
};

// Reads adapter values into `values` [total_floats]. Throws Error when a tensor is missing,
// damaged, not finite or of another shape, or when the file holds one that the bundle does not
// train.
void load_adapter(const FlatTensorFile& file, const AdapterLayout& layout, float* values,
                  const Visited& visited = {});

// The same with the adapter that a run or evaluation starts from: the file `path`, or the bundle's
// own where that is empty. Returns the SHA-256 of its content.
Sha256 load_start(const Bundle& bundle, const std::string& path, const AdapterLayout& layout,
                  float* values, const Visited& visited = {});

// The key of a layer's first tensor that is not finite, empty if all are.
std::string first_not_finite(const AdapterLayout& layout, const float* values, int64_t layer);

// Floats of one tensor at hand for writing.
struct NamedTensor {
  std::string name;
  std::vector<int32_t> sizes;
  const float* data;
};

// The tensors of these layers, named PREFIX + key.
std::vector<NamedTensor> named_tensors(const AdapterLayout& layout,
                                       const std::vector<int64_t>& layers, const float* values,
                                       const std::string& prefix);
std::vector<int64_t> all_layers(const AdapterLayout& layout);

// Writes a safetensors file of fp32 tensors atomically. Its metadata are {"format": "pt"} and
// "toolkit_crc32", the CRC-32 of the whole file with zeros for its own eight hexadecimal digits.
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const Visited& visited = {});

}  // namespace toolkit
