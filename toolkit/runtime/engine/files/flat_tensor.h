// Reads ExecuTorch's FlatTensor files (.ptd): names, types, shapes and places of tensors.
//
// Files come from outside, so every offset is checked against the file before use; the SDK's own
// reader trusts them. Layout: flatbuffer root offset, identifier "FT01", header "FH01" (flatbuffer
// offset and size, segment base and size), flatbuffer, segments. Schema:
// extension/flat_tensor/serialize in ExecuTorch. Files of ours end in two tensors, `sha256` and
// `checksums`, that say what the others hold (toolkit/bundle/checksums.py); the table of names is
// held against its checksum when the file is opened, and a file without checksums is refused.
#pragma once

#include <executorch/runtime/core/portable_type/scalar_type.h>

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/files/files.h"

namespace toolkit {

using ScalarType = executorch::runtime::etensor::ScalarType;

struct TensorSpec {
  ScalarType type = ScalarType::Float;
  std::vector<int32_t> sizes;
  int64_t offset = 0;  // from the start of the file
  int64_t bytes = 0;
  uint32_t crc32 = 0;
};

using Sha256 = std::array<uint8_t, 32>;
std::string hexadecimal(const Sha256& digest);

class FlatTensorFile {
 public:
  explicit FlatTensorFile(const std::string& path);  // throws Error when missing or corrupt

  const TensorSpec* find(const std::string& key) const;     // null when absent
  const TensorSpec& require(const std::string& key) const;  // throws Error when absent
  const std::unordered_map<std::string, TensorSpec>& tensors() const { return tensors_; }
  const File& file() const { return file_; }
  const std::string& path() const { return file_.path(); }
  int64_t size() const { return size_; }
  // Of the content, as the file itself says: the identity of what it holds.
  const Sha256& sha256() const { return sha256_; }
  // Reads all tensors and throws Error, naming the first that is not what it was when the file was
  // written. `remedy` is what to do about it.
  void check_all(const char* remedy) const;
  // The content of a uint8 tensor: a hash or a text. Throws Error when it is not one.
  std::vector<uint8_t> read_bytes(const std::string& key) const;
  // The table of names is large; it can go once everything is bound.
  void forget_names() { std::unordered_map<std::string, TensorSpec>().swap(tensors_); }

 private:
  File file_;
  void read_checksums(const std::vector<uint8_t>& head);

  int64_t size_ = 0;
  Sha256 sha256_ = {};
  std::unordered_map<std::string, TensorSpec> tensors_;  // without the two of the file itself
};

int64_t element_bytes(ScalarType type);  // 0 for types the runtime does not know
std::string describe(ScalarType type,
                     const std::vector<int32_t>& sizes);  // "float32 [1, 256, 896]"

}  // namespace toolkit
