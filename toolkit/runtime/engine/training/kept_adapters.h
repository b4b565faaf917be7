// Adapters of a run that are kept by the step they are of: FOLDER/step-K/adapter_model.safetensors.
// Each is written atomically; where a kill came between, its folder is empty.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/model/adapter.h"

namespace toolkit {

class KeptAdapters {
 public:
  explicit KeptAdapters(const std::string& folder) : folder_(folder) {}

  // Throws Error.
  void write(int64_t step, const std::vector<NamedTensor>& tensors, const Visited& visited) const;
  bool has(int64_t step) const;
  // Steps that have a folder, the lowest first.
  std::vector<int64_t> steps() const;
  // Removes the others, and what is left of them.
  void keep(const std::function<bool(int64_t step)>& wanted) const;
  void keep_last(int64_t count) const;

 private:
  std::string of_step(int64_t step) const;
  std::string file_of(int64_t step) const;

  const std::string folder_;
};

}  // namespace toolkit
