// Which layers' adapters a run changes; the others keep their values.
#pragma once

#include <string>
#include <vector>

#include "engine/model/adapter.h"

namespace toolkit {

// Layers that a text names, ascending: numbers and ranges "0,4,8-11", or "last:K", the K uppermost
// of `count`. The host reads the same (toolkit/layers.py). Throws UsageError.
std::vector<int64_t> parse_layers(const std::string& text, int64_t count);

class TrainedLayers {
 public:
  // Those that `text` names, empty: every layer that has adapters. Throws UsageError when one of
  // them has none.
  TrainedLayers(const std::string& text, const AdapterLayout& layout);

  bool has(int64_t layer) const { return trained_[layer]; }
  // The lowest, with which a backward pass ends.
  int64_t first() const { return list_.front(); }
  const std::vector<int64_t>& list() const { return list_; }  // ascending
  // "all" where no adapter is left out, else as numbers and ranges.
  std::string text() const;

 private:
  std::vector<bool> trained_;
  std::vector<int64_t> list_;
  bool all_;
};

}  // namespace toolkit
