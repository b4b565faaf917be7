// Reads ExecuTorch's FlatTensor files (.ptd): names, types, shapes and places of tensors.
//
// Files come from outside, so every offset is checked against the file before use; the SDK's own
// reader trusts them. Layout: flatbuffer root offset, identifier "FT01", header "FH01" (flatbuffer
// offset and size, segment base and size), flatbuffer, segments. Schema:
// extension/flat_tensor/serialize in ExecuTorch.
#pragma once

#include <executorch/runtime/core/portable_type/scalar_type.h>

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "trainer/files.h"

namespace toolkit {

using ScalarType = executorch::runtime::etensor::ScalarType;

struct TensorSpec {
  ScalarType type = ScalarType::Float;
  std::vector<int32_t> sizes;
  int64_t offset = 0;  // from the start of the file
  int64_t bytes = 0;
};

class FlatTensorFile {
 public:
  explicit FlatTensorFile(const std::string& path);  // throws Error when missing or corrupt

  const TensorSpec* find(const std::string& key) const;     // null when absent
  const TensorSpec& require(const std::string& key) const;  // throws Error when absent
  const std::unordered_map<std::string, TensorSpec>& tensors() const { return tensors_; }
  const File& file() const { return file_; }
  const std::string& path() const { return file_.path(); }
  int64_t size() const { return size_; }
  // The table of names is large; it can go once everything is bound.
  void forget_names() { std::unordered_map<std::string, TensorSpec>().swap(tensors_); }

 private:
  File file_;
  int64_t size_ = 0;
  std::unordered_map<std::string, TensorSpec> tensors_;
};

int64_t element_bytes(ScalarType type);  // 0 for types the runtime does not know
std::string describe(ScalarType type,
                     const std::vector<int32_t>& sizes);  // "float32 [1, 256, 896]"

}  // namespace toolkit
