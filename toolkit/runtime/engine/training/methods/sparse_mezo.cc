// Sparse MeZO (arXiv 2402.15751): MeZO on values whose magnitude is at most their tensor's limit,
// which is fixed before the first step so that a share 1 - sparsity of the tensor is at or below
// it. Which values that are is decided anew in every step by the adapter itself, never by a
// perturbed copy, so nothing but the limits is kept.
//
// The B of a fresh adapter is zero: it has no small values to choose, and with a limit of zero none
// that moved would move again. A tensor whose limit comes out as zero is trained as a whole.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/training/methods/zeroth_order.h"

namespace toolkit {
namespace {

/// The magnitude that so large a share of the values is not above.
float limit_of(const float* values, int64_t count, double share) {
  std::vector<float> magnitudes(values, values + count);
  for (float& value : magnitudes) value = std::fabs(value);
  const int64_t chosen = std::max<int64_t>(1, int64_t(std::ceil(share * double(count))));
  const auto last = magnitudes.begin() + (chosen - 1);
  std::nth_element(magnitudes.begin(), last, magnitudes.end());
  const bool all = chosen >= count || *last == 0;
  return all ? std::numeric_limits<float>::infinity() : *last;
}

class SparseMezo : public ZerothOrder {
 public:
  explicit SparseMezo(const MethodParts& parts)
      : ZerothOrder(parts, 1, false, parts.options.sparsity) {
    for (int64_t layer = 0; layer < layout_.layers(); ++layer) {
      limits_.emplace_back(layout_.tensors(layer).size());
    }
  }

  // The limits are of the adapter that the run began with.
  std::vector<StateArray> arrays() override {
    std::vector<StateArray> arrays;
    for (int64_t layer = 0; layer < layout_.layers(); ++layer) {
      each_tensor(layer, [&](const AdapterTensor& tensor, float* limit) {
        arrays.push_back({"limit", layer_key(tensor.key, layer), "float32", 1, limit});
      });
    }
    return arrays;
  }

  void begin(int64_t step, const Origin& origin) override {
    for (int64_t layer = 0; step == 0 && layer < layout_.layers(); ++layer) {
      parts_.updater.read(layer, [&](const float* values) {
        each_tensor(layer, [&](const AdapterTensor& tensor, float* limit) {
          *limit =
              limit_of(values + tensor.offset, int64_t(tensor.count), 1 - parts_.options.sparsity);
        });
      });
    }
    directions_.set_limits(limits_);
    ZerothOrder::begin(step, origin);
  }

 private:
  template <typename Body>
  void each_tensor(int64_t layer, Body body) {
    const std::vector<AdapterTensor>& tensors = layout_.tensors(layer);
    for (size_t i = 0; i < tensors.size(); ++i) body(tensors[i], &limits_[layer][i]);
  }

  std::vector<std::vector<float>> limits_;  // of every layer's tensors
};

}  // namespace

extern const MethodRow kSparseMezo;
const MethodRow kSparseMezo = {"sparse-mezo",
                               "MeZO of the small values alone: those whose magnitude is in the "
                               "lowest share, 1 - sparsity, of "
                               "their tensor's when the run begins; tensors of zeros as a whole",
                               {{"zo-eps"}, {"sparsity"}},
                               false,
                               false,
                               false,
                               true,
                               [](const MethodParts& parts) -> std::unique_ptr<StepMethod> {
                                 return std::make_unique<SparseMezo>(parts);
                               }};

}  // namespace toolkit
