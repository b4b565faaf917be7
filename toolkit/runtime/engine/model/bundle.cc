#include "engine/model/bundle.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "engine/error.h"

namespace toolkit {
namespace {

constexpr size_t kMostBlockKinds = 10;  // a layer's kind is a digit
constexpr char kKept[] = "kept";

using Names = std::vector<std::string>;

// What methods of a kind may read beside weights, numbers and what a sample consists of, and what
// each returns beside gradients. In the order of Kind. Blocks may also hand on what they kept.
struct Signature {
  Names inputs, outputs;
};

const Signature& signature_of(Kind kind) {
  static const Signature all[] = {{{}, {"hidden"}},
                                  {{"hidden"}, {"hidden"}},
                                  {{"hidden", "grad"}, {"grad"}},
                                  {{"hidden"}, {"loss"}},
                                  {{"hidden", "grad_scale"}, {"loss", "grad"}},
                                  {{}, {"hidden"}},
                                  {{"hidden", "keys", "values"}, {"hidden", "k", "v"}},
                                  {{"hidden"}, {"logits"}}};
  return all[int(kind)];
}

bool is_block(Kind kind) {
  return kind == Kind::block_forward || kind == Kind::block_backward || kind == Kind::block_step;
}

bool contains(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The first name that comes more than once, or null.
const std::string* first_twice(const Names& names) {
  std::set<std::string> seen;
  for (const std::string& name : names) {
    if (!seen.insert(name).second) return &name;
  }
  return nullptr;
}

// Keys of the adapter tensors among a method's inputs.
Names adapters_of(const Names& inputs) {
  Names keys;
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

Bundle::Bundle(const std::string& directory, Use use)
    : directory_(directory),
      use_(use),
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
  const Names kinds = program_.texts("block_kinds");
  if (kinds.size() > kMostBlockKinds) {
    fail("bundle %s has %zu kinds of blocks, this runtime knows %zu. Deploy a newer runtime",
         directory_.c_str(), kinds.size(), kMostBlockKinds);
  }
  if (const std::string* kind = first_twice(kinds)) {
    fail("bundle %s has two kinds of blocks named '%s'. Export it again", directory_.c_str(),
         kind->c_str());
  }
  for (char digit : program_.text("layer_kinds")) layer_kinds_.push_back(digit - '0');
  bool known = int64_t(layer_kinds_.size()) == layers;
  for (int64_t kind : layer_kinds_) known = known && kind >= 0 && kind < int64_t(kinds.size());
  if (!known) {
    fail("bundle %s does not say of which kind each of its %lld layers is. Export it again",
         directory_.c_str(), (long long)layers);
  }
  for (size_t block = 0; block < kinds.size(); ++block) {
    if (std::count(layer_kinds_.begin(), layer_kinds_.end(), int64_t(block)) == 0) {
      fail("bundle %s has no layer of the kind '%s'. Export it again", directory_.c_str(),
           kinds[block].c_str());
    }
    adapter_keys_.push_back(adapters_of(program_.texts(kinds[block] + "_forward_inputs")));
    keeps_.push_back(contains(program_.texts(kinds[block] + "_forward_outputs"), kKept));
  }
  if (use_ == Use::generation) {
    list_generating(kinds);
  } else {
    list_methods(kinds);
  }
}

void Bundle::list_generating(const Names& kinds) {
  if (!program_.has_method("head_logits")) {
    fail("bundle %s has no programs to generate with. Export it again with `toolkit export`",
         directory_.c_str());
  }
  methods_ = {{Kind::embed_step, "embed_step"}, {Kind::head_logits, "head_logits"}};
  for (size_t block = 0; block < kinds.size(); ++block) {
    methods_.push_back({Kind::block_step, kinds[block] + "_step", block});
  }
}

void Bundle::list_methods(const Names& kinds) {
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
  for (size_t place = 0; place < methods_.size(); ++place) {
    if (methods_[place].kind == kind && runs(methods_[place], layer)) return place;
  }
  fail("there is no method for layer %lld. Report this as a bug", (long long)layer);
}

bool Bundle::any_keeps(int64_t lowest) const {
  bool any = false;
  for (int64_t layer = lowest; layer < layers; ++layer) any = any || keeps(layer);
  return any;
}

bool Bundle::runs(const Bindings& bindings, int64_t layer) const {
  return !is_block(bindings.kind) || bindings.block == kind_of(layer);
}

void Bundle::bind(Bindings& bindings) {
  bindings.inputs = program_.texts(bindings.name + "_inputs");
  bindings.outputs = program_.texts(bindings.name + "_outputs");
  const bool block = is_block(bindings.kind);
  const size_t place = &bindings - methods_.data();
  bindings.base.resize(block ? layers : 1);
  specs_[place].resize(bindings.base.size());
  for (const std::string& name : bindings.inputs) bind_input(bindings, name);
  const Names adapters = adapters_of(bindings.inputs);
  if (const std::string* key = first_twice(adapters)) {
    fail("bundle %s: %s has the input adapter:%s twice. Export it again", directory_.c_str(),
         bindings.name.c_str(), key->c_str());
  }
  const bool given = contains(bindings.inputs, kKept);
  if (bindings.kind == Kind::block_backward && given != keeps_[bindings.block]) {
    fail("bundle %s: %s %s what its forward keeps. Export it again", directory_.c_str(),
         bindings.name.c_str(), given ? "reads more than" : "does not read");
  }
  if (block && adapters != adapter_keys_[bindings.block]) {
    fail("bundle %s: the adapters of %s are not those of its forward. Export it again",
         directory_.c_str(), bindings.name.c_str());
  }
  check_outputs(bindings);
}

void Bundle::bind_input(Bindings& bindings, const std::string& name) {
  static const Names of_a_sample = {"tokens", "labels", "positions", "start"};
  const char* key = after_prefix(name, "base:");
  if (key == nullptr) {
    const bool adapter = is_block(bindings.kind) && after_prefix(name, "adapter:") != nullptr;
    if (adapter || after_prefix(name, "scalar:") || contains(of_a_sample, name) ||
        contains(signature_of(bindings.kind).inputs, name) ||
        (bindings.kind == Kind::block_backward && name == kKept))
      return;
    fail("bundle %s: %s has the unknown input '%s'. Deploy a newer runtime", directory_.c_str(),
         bindings.name.c_str(), name.c_str());
  }
  const size_t place = &bindings - methods_.data();
  for (size_t layer = 0; layer < bindings.base.size(); ++layer) {
    if (!runs(bindings, int64_t(layer))) continue;
    const TensorSpec& spec = base_.require(layer_key(key, int64_t(layer)));
    bindings.base[layer].push_back({spec.offset, spec.bytes});
    specs_[place][layer].push_back(spec);
  }
}

// What a method leaves out would stay what it was before, and of what comes twice the last counts:
// both train on wrong gradients without a word.
void Bundle::check_outputs(const Bindings& bindings) const {
  Names wanted = signature_of(bindings.kind).outputs;
  if (bindings.kind == Kind::block_forward && keeps_[bindings.block]) wanted.push_back(kKept);
  if (bindings.kind == Kind::block_backward) {
    for (const std::string& key : adapter_keys_[bindings.block]) {
      wanted.push_back("gradient:" + key);
    }
  }
  const auto refuse = [&](const char* how, const std::string& name) {
    fail("bundle %s: %s returns %s '%s'. Export it again", directory_.c_str(),
         bindings.name.c_str(), how, name.c_str());
  };
  if (const std::string* name = first_twice(bindings.outputs)) refuse("twice", *name);
  for (const std::string& name : bindings.outputs) {
    if (!contains(wanted, name)) refuse("the unknown", name);
  }
  for (const std::string& name : wanted) {
    if (!contains(bindings.outputs, name)) refuse("no", name);
  }
}

void Bundle::check_method(size_t place, const Method& method) const {
  for (size_t layer = 0; layer < specs_[place].size(); ++layer) {
    const std::vector<TensorSpec>& specs = specs_[place][layer];
    if (!runs(methods_[place], int64_t(layer))) continue;
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
