#include "engine/model/bundle.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "engine/error.h"

namespace toolkit {
namespace {

bool contains(const char* const* names, const std::string& name) {
  for (; *names != nullptr; ++names) {
    if (name == *names) return true;
  }
  return false;
}

// Keys of the adapter tensors among a method's inputs.
std::vector<std::string> adapters_of(const std::vector<std::string>& inputs) {
  std::vector<std::string> keys;
  for (const std::string& name : inputs) {
    if (const char* key = after_prefix(name, "adapter:")) keys.push_back(key);
  }
  return keys;
}

}  // namespace

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
  read_block_kinds();
  specs_.resize(methods_.size());
  for (Bindings& bindings : methods_) bind(bindings);
  base_.forget_names();
}

void Bundle::read_block_kinds() {
  const std::vector<std::string> kinds = program_.texts("block_kinds");
  for (char digit : program_.text("layer_kinds")) layer_kinds_.push_back(digit - '0');
  bool known = int64_t(layer_kinds_.size()) == layers;
  for (int64_t kind : layer_kinds_) known = known && kind >= 0 && kind < int64_t(kinds.size());
  if (!known) {
    fail("bundle %s does not say of which kind each of its %lld layers is. Export it again",
         directory_.c_str(), (long long)layers);
  }
  for (const std::string& kind : kinds) {
    adapter_keys_.push_back(adapters_of(program_.texts(kind + "_forward_inputs")));
  }
  list_methods(kinds);
}

void Bundle::list_methods(const std::vector<std::string>& kinds) {
  methods_ = {{Kind::embed, "embed"},
              {Kind::head_loss, "head_loss"},
              {Kind::head_backward, "head_backward"}};
  int64_t lowest = 0;
  while (lowest < layers && adapter_keys_[kind_of(lowest)].empty()) ++lowest;
  for (size_t block = 0; block < kinds.size(); ++block) {
    methods_.push_back({Kind::block_forward, kinds[block] + "_forward", block});
    const auto above = layer_kinds_.begin() + lowest;
    if (std::count(above, layer_kinds_.end(), int64_t(block)) > 0) {
      methods_.push_back({Kind::block_backward, kinds[block] + "_backward", block});
    }
  }
}

size_t Bundle::method_of(Kind kind, int64_t layer) const {
  const bool block = kind == Kind::block_forward || kind == Kind::block_backward;
  const size_t number = block ? size_t(layer_kinds_[layer]) : 0;
  for (size_t place = 0; place < methods_.size(); ++place) {
    if (methods_[place].kind == kind && methods_[place].block == number) return place;
  }
  fail("there is no method for layer %lld. Report this as a bug", (long long)layer);
}

void Bundle::bind(Bindings& bindings) {
  bindings.inputs = program_.texts(bindings.name + "_inputs");
  bindings.outputs = program_.texts(bindings.name + "_outputs");
  const bool block = bindings.kind == Kind::block_forward || bindings.kind == Kind::block_backward;
  bindings.base.resize(block ? layers : 1);
  specs_[&bindings - methods_.data()].resize(bindings.base.size());
  for (const std::string& name : bindings.inputs) bind_input(bindings, name);
  if (block && adapters_of(bindings.inputs) != adapter_keys_[bindings.block]) {
    fail("bundle %s: the adapters of %s are not those of its forward. Export it again",
         directory_.c_str(), bindings.name.c_str());
  }
}

void Bundle::bind_input(Bindings& bindings, const std::string& name) {
  static const char* const known[] = {"tokens", "labels", "hidden",     "grad", "positions",
                                      "start",  "loss",   "grad_scale", nullptr};
  const char* key = after_prefix(name, "base:");
  if (key == nullptr) {
    if (contains(known, name) || after_prefix(name, "adapter:") || after_prefix(name, "scalar:"))
      return;
    fail("bundle %s: %s has the unknown input '%s'. Deploy a newer runtime", directory_.c_str(),
         bindings.name.c_str(), name.c_str());
  }
  const size_t place = &bindings - methods_.data();
  for (size_t layer = 0; layer < bindings.base.size(); ++layer) {
    if (method_of(bindings.kind, int64_t(layer)) != place) continue;
    const TensorSpec& spec = base_.require(layer_key(key, int64_t(layer)));
    bindings.base[layer].push_back({spec.offset, spec.bytes});
    specs_[place][layer].push_back(spec);
  }
}

void Bundle::check_method(size_t place, const Method& method) const {
  for (size_t layer = 0; layer < specs_[place].size(); ++layer) {
    const std::vector<TensorSpec>& specs = specs_[place][layer];
    if (method_of(methods_[place].kind, int64_t(layer)) != place) continue;
    size_t next = 0;
    for (const Method::Port& port : method.inputs()) {
      const char* key = after_prefix(port.name, "base:");
      if (key == nullptr) continue;
      const TensorSpec& spec = specs[next++];
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
