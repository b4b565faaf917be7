#include "trainer/bundle.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "trainer/error.h"

namespace toolkit {
namespace {

bool contains(const char* const* names, const std::string& name) {
  for (; *names != nullptr; ++names) {
    if (name == *names) return true;
  }
  return false;
}

}  // namespace

const char* kind_name(Kind kind) {
  static const char* const names[] = {"embed", "block_forward", "block_backward", "head_loss",
                                      "head_backward"};
  return names[int(kind)];
}

std::string layer_key(const std::string& key, int64_t layer) {
  const size_t at = key.find("{layer}");
  if (at == std::string::npos) return key;
  return key.substr(0, at) + std::to_string(layer) + key.substr(at + 7);
}

const char* after_prefix(const std::string& name, const char* prefix) {
  const size_t length = std::strlen(prefix);
  return name.compare(0, length, prefix) == 0 ? name.c_str() + length : nullptr;
}

Bundle::Bundle(const std::string& directory)
    : directory_(directory),
      identity_(directory),
      program_(identity_.checked_programs()),
      base_(directory + "/base.ptd"),
      checks_(base_) {
  const int64_t version = program_.integer("format_version");
  if (version != kBundleFormatVersion) {
    fail(
        "bundle %s has format version %lld, this runtime reads %lld. Export the bundle again or "
        "deploy a runtime of its version",
        directory.c_str(), (long long)version, (long long)kBundleFormatVersion);
  }
  identity_.check_part("base.ptd", base_, identity_.base);
  layers = program_.integer("layers");
  hidden_size = program_.integer("hidden_size");
  vocab_size = program_.integer("vocab_size");
  rank = program_.integer("lora_rank");
  alpha = program_.number("lora_alpha");
  seq_lens = program_.integers("seq_lens");
  lowering = program_.text("lowering");
  model_name = program_.text("model_name");
  if (layers < 1 || layers > 100000 || hidden_size < 1 || vocab_size < 1 || seq_lens.empty()) {
    fail("bundle %s describes no model. Export it again", directory.c_str());
  }
  for (int kind = 0; kind < kKinds; ++kind) bind(Kind(kind));
  base_.forget_names();
}

void Bundle::bind(Kind kind) {
  static const char* const known[] = {"tokens", "labels", "hidden",     "grad", "positions",
                                      "start",  "loss",   "grad_scale", nullptr};
  Bindings& bindings = bindings_[int(kind)];
  bindings.inputs = program_.texts(std::string(kind_name(kind)) + "_inputs");
  bindings.outputs = program_.texts(std::string(kind_name(kind)) + "_outputs");
  const bool block = kind == Kind::block_forward || kind == Kind::block_backward;
  const int64_t count = block ? layers : 1;
  bindings.base.resize(count);
  specs_[int(kind)].resize(count);
  for (const std::string& name : bindings.inputs) {
    if (const char* key = after_prefix(name, "base:")) {
      for (int64_t layer = 0; layer < count; ++layer) {
        const TensorSpec& spec = base_.require(layer_key(key, layer));
        bindings.base[layer].push_back({spec.offset, spec.bytes});
        specs_[int(kind)][layer].push_back(spec);
      }
    } else if (const char* adapter = after_prefix(name, "adapter:")) {
      if (kind == Kind::block_forward) adapter_keys_.push_back(adapter);
    } else if (!contains(known, name)) {
      fail("bundle %s: %s has the unknown input '%s'. Deploy a newer runtime", directory_.c_str(),
           kind_name(kind), name.c_str());
    }
  }
}

void Bundle::check_method(Kind kind, const Method& method) const {
  const std::vector<std::vector<TensorSpec>>& layers_of_kind = specs_[int(kind)];
  for (size_t layer = 0; layer < layers_of_kind.size(); ++layer) {
    size_t next = 0;
    for (const Method::Port& port : method.inputs()) {
      const char* key = after_prefix(port.name, "base:");
      if (key == nullptr) continue;
      const TensorSpec& spec = layers_of_kind[layer][next++];
      if (spec.type == port.type && spec.sizes == port.sizes) continue;
      fail("%s: %s is %s, but programs.pte expects %s. Export the bundle again",
           base_.path().c_str(), layer_key(key, layer).c_str(),
           describe(spec.type, spec.sizes).c_str(), describe(port.type, port.sizes).c_str());
    }
  }
}

bool Bundle::has_seq_len(int64_t tokens) const {
  return std::find(seq_lens.begin(), seq_lens.end(), tokens) != seq_lens.end();
}

}  // namespace toolkit
