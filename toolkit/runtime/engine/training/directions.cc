#include "engine/training/directions.h"

#include <algorithm>
#include <limits>

#include "kernels/kernels.h"

namespace toolkit {

Directions::Directions(const AdapterLayout& layout, uint64_t seed, bool b_alone)
    : layout_(layout), seed_(seed), b_alone_(b_alone) {
  for (size_t kind = 0; kind < layout.kinds(); ++kind) {
    const std::vector<AdapterTensor>& tensors = layout.of_kind(kind);
    std::vector<uint32_t>& numbers = numbers_.emplace_back();
    for (const AdapterTensor& tensor : tensors) {
      numbers.push_back(
          uint32_t(std::count_if(tensors.begin(), tensors.end(),
                                 [&](const AdapterTensor& t) { return t.key < tensor.key; })));
    }
  }
}

float Directions::limit(int64_t layer, size_t tensor) const {
  return limits_.empty() ? std::numeric_limits<float>::infinity() : limits_[layer][tensor];
}

template <typename Body>
void Directions::each_tensor(int64_t layer, Query query, Body body) const {
  const std::vector<AdapterTensor>& tensors = layout_.tensors(layer);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (b_alone_ && !is_b(tensors[i])) continue;
    const uint32_t number = numbers_[layout_.kind_of(layer)][i];
    const NormalStream stream = {
        {uint32_t(seed_), uint32_t(seed_ >> 32)},
        {number + (uint32_t(query.number) << 16), uint32_t(layer), uint32_t(query.step)}};
    body(tensors[i], stream, limit(layer, i));
  }
}

void Directions::perturb(int64_t layer, Query query, const float* values, float scale, float* plus,
                         float* minus) const {
  if (b_alone_) {
    std::copy_n(values, layout_.layer_floats(layer), plus);
    std::copy_n(values, layout_.layer_floats(layer), minus);
  }
  each_tensor(layer, query,
              [&](const AdapterTensor& tensor, const NormalStream& stream, float limit) {
                const size_t at = tensor.offset;
                kernels().perturb(values + at, stream, int64_t(tensor.count), scale, limit,
                                  plus + at, minus + at);
              });
}

void Directions::apply(int64_t layer, Query query, Change change, float* values) const {
  each_tensor(layer, query,
              [&](const AdapterTensor& tensor, const NormalStream& stream, float limit) {
                const float factor = is_b(tensor) ? change.factor_b : change.factor_a;
                kernels().add_normals(values + tensor.offset, stream, int64_t(tensor.count),
                                      change.keep, factor, limit);
              });
}

}  // namespace toolkit
