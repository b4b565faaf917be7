// A bundle on the device: programs.pte, base.ptd and adapter.ptd, checked against each other and,
// but for the weights, against what was exported. Weights are checked as they are first read.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "trainer/identity.h"
#include "trainer/program.h"
#include "trainer/weight_checks.h"
#include "trainer/weights.h"

namespace toolkit {

constexpr int64_t kBundleFormatVersion = 4;

enum class Kind { embed, block_forward, block_backward, head_loss, head_backward };
constexpr int kKinds = 5;
const char* kind_name(Kind kind);

// Inputs and outputs of one kind of method, in binding order.
struct Bindings {
  std::vector<std::string> inputs, outputs;
  // For every layer (one for embed and head): places of the base inputs, in order of appearance.
  std::vector<std::vector<WeightRef>> base;
};

class Bundle {
 public:
  explicit Bundle(const std::string& directory);  // throws Error

  int64_t layers, hidden_size, vocab_size, rank;
  double alpha;
  std::vector<int64_t> seq_lens;
  std::string lowering, model_name;

  const std::string& directory() const { return directory_; }
  const BundleIdentity& identity() const { return identity_; }
  const Program& program() const { return program_; }
  const FlatTensorFile& base() const { return base_; }
  const Bindings& bindings(Kind kind) const { return bindings_[int(kind)]; }
  // Keys of one layer's adapter tensors with `{layer}` in place, in binding order of block_forward.
  const std::vector<std::string>& adapter_keys() const { return adapter_keys_; }
  // Throws Error unless a method of this kind and length fits the base file.
  void check_method(Kind kind, const Method& method) const;
  bool has_seq_len(int64_t tokens) const;
  // Throws Error, naming the first, if weights are not those that were exported. Each is read for
  // that once; returns the bytes that were.
  int64_t check_weights(const std::vector<WeightRef>& refs) const { return checks_.check(refs); }

 private:
  void bind(Kind kind);

  std::string directory_;
  BundleIdentity identity_;
  Program program_;
  FlatTensorFile base_;
  mutable WeightChecks checks_;
  std::array<Bindings, kKinds> bindings_;
  std::array<std::vector<std::vector<TensorSpec>>, kKinds> specs_;
  std::vector<std::string> adapter_keys_;
};

std::string layer_key(const std::string& key, int64_t layer);  // replaces {layer}
// The rest of `name` after `prefix`, or null when it starts otherwise.
const char* after_prefix(const std::string& name, const char* prefix);

}  // namespace toolkit
