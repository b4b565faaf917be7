// A bundle on the device: programs.pte, base.ptd and adapter.ptd, checked against each other and,
// but for the weights, against what was exported. Weights are checked as they are first read.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/memory/weights.h"
#include "engine/model/identity.h"
#include "engine/model/program.h"
#include "engine/model/weight_checks.h"

namespace toolkit {

constexpr int64_t kBundleFormatVersion = 4;

enum class Kind {
  embed,
  block_forward,
  block_backward,
  head_loss,
  head_backward,
  embed_step,
  block_step,
  head_logits
};
// What a bundle is opened for: to train and evaluate, or to generate, which other methods do.
enum class Use { training, generation };

// One method of the programs, at any length: its inputs and outputs, in binding order.
struct Bindings {
  Kind kind;
  std::string name;
  size_t block = 0;  // of a block: the number of its kind
  std::vector<std::string> inputs{}, outputs{};
  // For every layer (one for embed and head), empty for those of another kind of block: places of
  // the base inputs, in order of appearance.
  std::vector<std::vector<WeightRef>> base{};
};

class Bundle {
 public:
  explicit Bundle(const std::string& directory, Use use = Use::training);  // throws Error

  int64_t layers, hidden_size, vocab_size, rank;
  double alpha;
  std::vector<int64_t> seq_lens;
  std::string lowering, model_name;

  const std::string& directory() const { return directory_; }
  const BundleIdentity& identity() const { return identity_; }
  const Program& program() const { return program_; }
  const FlatTensorFile& base() const { return base_; }
  const std::vector<Bindings>& methods() const { return methods_; }
  // Place in methods() of the method of this kind that a layer runs. Kinds of block that come only
  // below the lowest adapter have no backward.
  size_t method_of(Kind kind, int64_t layer) const;
  // Whether the layer's forward returns, beside its output, what its backward is to be given.
  bool keeps(int64_t layer) const { return keeps_[kind_of(layer)]; }
  // Whether one from `lowest` up does.
  bool any_keeps(int64_t lowest) const;
  // Number of a layer's kind of block.
  size_t kind_of(int64_t layer) const { return size_t(layer_kinds_[layer]); }
  // Keys of the adapter tensors that layers of every kind have, with `{layer}` in place, in binding
  // order of the kind's forward. Some have none.
  const std::vector<std::vector<std::string>>& adapter_keys() const { return adapter_keys_; }
  // Throws Error unless the method at this place, at some length, fits the base file.
  void check_method(size_t place, const Method& method) const;
  bool has_seq_len(int64_t tokens) const;
  // Throws Error, naming the first, if weights are not those that were exported. Each is read for
  // that once; returns the bytes that were.
  int64_t check_weights(const std::vector<WeightRef>& refs) const { return checks_.check(refs); }

 private:
  void read_block_kinds();
  void list_methods(const std::vector<std::string>& kinds);
  void list_generating(const std::vector<std::string>& kinds);
  bool runs(const Bindings& bindings, int64_t layer) const;  // whether the layer is of its kind
  void bind(Bindings& bindings);
  void bind_input(Bindings& bindings, const std::string& name);
  void check_outputs(const Bindings& bindings) const;

  std::string directory_;
  const Use use_;
  BundleIdentity identity_;
  Program program_;
  FlatTensorFile base_;
  mutable WeightChecks checks_;
  std::vector<int64_t> layer_kinds_;  // number of every layer's kind of block
  std::vector<bool> keeps_;           // of every kind
  std::vector<Bindings> methods_;     // of the two ends, then those of every kind
  std::vector<std::vector<std::vector<TensorSpec>>> specs_;
  std::vector<std::vector<std::string>> adapter_keys_;
};

std::string layer_key(const std::string& key, int64_t layer);  // replaces {layer}
// The rest of `name` after `prefix`, or null when it starts otherwise.
const char* after_prefix(const std::string& name, const char* prefix);

}  // namespace toolkit
