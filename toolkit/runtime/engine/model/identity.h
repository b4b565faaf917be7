// What a bundle was when it was exported (identity.ptd, see toolkit/bundle/identity.py), and which
// tokenizer bundle and data have.
#pragma once

#include <string>

#include "engine/files/flat_tensor.h"

namespace toolkit {

struct Tokenizer {
  Sha256 sha256 = {};
  std::string name;  // empty: there is none
};

// What a .ptd file says of a tokenizer.
Tokenizer tokenizer_of(const FlatTensorFile& file);

class BundleIdentity {
 public:
  explicit BundleIdentity(const std::string& directory);  // throws Error

  Sha256 programs, base, adapter;
  Tokenizer tokenizer;
  // What PEFT puts before the names of adapter.ptd in the model that the adapter is for.
  std::string adapter_prefix;

  // The path of programs.pte, held against its checksum. Throws Error.
  std::string checked_programs() const;
  // Throws Error unless `file` is the part of the bundle that was exported with the others.
  void check_part(const char* name, const FlatTensorFile& file, const Sha256& wanted) const;
  // Throws Error for data that was made with another tokenizer. A bundle without one has random
  // weights, which take any tokens.
  void check_tokenizer(const std::string& data, const Tokenizer& of_data) const;

 private:
  std::string directory_;
  uint32_t programs_crc32_;
};

}  // namespace toolkit
