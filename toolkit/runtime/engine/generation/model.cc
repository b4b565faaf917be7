#include "engine/generation/model.h"

#include <algorithm>
#include <cmath>
#include <locale>
#include <numeric>
#include <sstream>
#include <utility>

#include "engine/error.h"
#include "engine/model/finite.h"
#include "kernels/workspace.h"
#include "operators/neighbours.h"

namespace toolkit {
namespace {

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

GenerationModel::GenerationModel(const std::string& directory)
    : bundle_(directory, Use::generation),
      context_(bundle_.program().integer("context")),
      part_(bundle_.program().integer("part_tokens")),
      rope_original_(bundle_.program().integer("rope_original")),
      entries_(bundle_.methods().size()),
      tokens_(size_t(part_)),
      positions_(size_t(part_)) {
  if (part_ < 1 || part_ > context_ || context_ > INT32_MAX / 2) {
    fail("bundle %s has no possible context. Export it again", directory.c_str());
  }
  for (const Bindings& bindings : bundle_.methods()) {
    arena_.reserve(planned_bytes(bundle_.program(), bindings.name));
  }
  arena_.allocate();
  for (size_t place = 0; place < entries_.size(); ++place) load(place);
  std::vector<const Method*> steps(bundle_.adapter_keys().size());
  for (size_t place = 0; place < entries_.size(); ++place) {
    const Bindings& bindings = bundle_.methods()[place];
    if (bindings.kind == Kind::block_step) steps[bindings.block] = entries_[place].method.get();
  }
  layout_ = std::make_unique<AdapterLayout>(bundle_, steps);
  for (size_t place = 0; place < entries_.size(); ++place) find_ports(place);
  find_widths();
  map_weights();
  const size_t bytes = size_t(part_ * bundle_.hidden_size) * sizeof(float);
  for (Buffer& hidden : hidden_) hidden = Buffer(bytes, Category::arena, "toolkit hidden");
  const Method& head = *entry_of(Kind::head_logits, 0).method;
  logits_ = Buffer(size_t(head.outputs()[0].bytes), Category::arena, "toolkit logits");
}

void GenerationModel::load(size_t place) {
  const Bindings& bindings = bundle_.methods()[place];
  entries_[place].method = std::make_unique<Method>(bundle_.program(), bindings.name,
                                                    bindings.inputs, bindings.outputs, arena_);
  bundle_.check_method(place, *entries_[place].method);
}

// One mapping for all, since the file has next to nothing between its tensors.
void GenerationModel::map_weights() {
  std::vector<WeightRef> all;
  for (size_t place = 0; place < entries_.size(); ++place) {
    for (const std::vector<WeightRef>& refs : bundle_.methods()[place].base) {
      entries_[place].first.push_back(all.size());
      bundle_.check_weights(refs);
      all.insert(all.end(), refs.begin(), refs.end());
    }
  }
  weights_ = std::make_unique<WeightMapping>(bundle_.base().file(), all, nullptr, Access::resident);
}

void GenerationModel::find_ports(size_t place) {
  Entry& entry = entries_[place];
  size_t base = 0;
  const Bindings& bindings = bundle_.methods()[place];
  for (const Method::Port& port : entry.method->inputs()) check_port(bindings, port, *entry.method);
  for (const Method::Port& port : entry.method->outputs())
    check_port(bindings, port, *entry.method);
  for (const Method::Port& port : entry.method->inputs()) {
    entry.inputs.push_back(port_of(bundle_.methods()[place], port, &base));
  }
}

// Of other sizes a method would write where there is no memory for it.
void GenerationModel::check_port(const Bindings& bindings, const Method::Port& port,
                                 const Method& method) const {
  const bool head = bindings.kind == Kind::head_logits;
  const int32_t rows = head ? 1 : int32_t(part_), size = int32_t(bundle_.hidden_size);
  int32_t width = 0;
  for (const Method::Port& other : method.inputs()) {
    if (other.name == "keys" && other.sizes.size() == 2) width = other.sizes[1];
  }
  std::vector<int32_t> sizes = port.sizes;
  ScalarType type = ScalarType::Float;
  if (port.name == "hidden") {
    sizes = {1, rows, size};
  } else if (port.name == "k" || port.name == "v") {
    sizes = {1, rows, width};
  } else if (port.name == "keys" || port.name == "values") {
    sizes = {int32_t(context_), width};
  } else if (port.name == "logits") {
    const bool enough = sizes.size() == 3 && sizes[2] >= bundle_.vocab_size;
    sizes = {1, 1, enough ? sizes[2] : int32_t(bundle_.vocab_size)};
  } else if (port.name == "tokens" || port.name == "positions") {
    type = ScalarType::Int;
    sizes = port.name == "tokens" ? std::vector<int32_t>{1, rows} : std::vector<int32_t>{rows};
  } else if (after_prefix(port.name, "scalar:") != nullptr) {
    sizes = {};
  } else if (after_prefix(port.name, "adapter:") != nullptr) {
    if (sizes.size() != 2) sizes = {0, 0};
  } else {
    return;  // a weight, which check_method has held against its file
  }
  if (port.sizes == sizes && port.type == type) return;
  fail("bundle %s: '%s' of %s is %s, expected %s. Export it again", bundle_.directory().c_str(),
       port.name.c_str(), bindings.name.c_str(), describe(port.type, port.sizes).c_str(),
       describe(type, sizes).c_str());
}

GenerationModel::Port GenerationModel::port_of(const Bindings& bindings, const Method::Port& port,
                                               size_t* base) {
  if (port.name == "tokens") return {Role::tokens, 0, 1};
  if (port.name == "positions") return {Role::positions, 0, 0};
  if (port.name == "hidden") return {Role::hidden, 0, 1};
  if (port.name == "keys") return {Role::keys, 0, 0};
  if (port.name == "values") return {Role::values, 0, 0};
  if (const char* number = after_prefix(port.name, "scalar:")) return scalar_of(number);
  if (after_prefix(port.name, "base:") != nullptr) {
    const bool either = ends_with(port.name, ".inv_freq") && port.sizes.size() == 2;
    return {either ? Role::frequencies : Role::base, (*base)++, 0, port.bytes / 2};
  }
  const char* key = after_prefix(port.name, "adapter:");
  if (key == nullptr) {
    fail("bundle %s has the unknown input '%s'. Deploy a newer runtime",
         bundle_.directory().c_str(), port.name.c_str());
  }
  const size_t dimension = ends_with(port.name, "lora_A.weight") ? 0 : 1;
  return {Role::adapter, layout_->tensor(bindings.block, key).offset, dimension,
          port.sizes[dimension]};
}

GenerationModel::Port GenerationModel::scalar_of(const std::string& number) {
  std::istringstream text(number);
  text.imbue(std::locale::classic());
  float value = 0;
  text >> value;
  if (text.fail() || !std::isfinite(value)) {
    fail("bundle %s: the input 'scalar:%s' is not one number. Export it again",
         bundle_.directory().c_str(), number.c_str());
  }
  numbers_.push_back(value);
  return {Role::scalar, numbers_.size() - 1};
}

void GenerationModel::find_widths() {
  for (int64_t layer = 0; layer < bundle_.layers; ++layer) {
    const size_t place = bundle_.method_of(Kind::block_step, layer);
    for (const Method::Port& port : entries_[place].method->inputs()) {
      if (port.name == "keys") widths_.push_back(port.sizes[1]);
    }
  }
  if (int64_t(widths_.size()) != bundle_.layers) {
    fail("bundle %s has blocks without keys. Export it again", bundle_.directory().c_str());
  }
}

const void* GenerationModel::bind(Method& method, size_t index, const Port& port, const Run& run,
                                  size_t first) {
  switch (port.role) {
    case Role::tokens:
      method.resize_input(index, port.dimension, run.count);
      return tokens_.data();
    case Role::positions:
      method.resize_input(index, port.dimension, run.count);
      return positions_.data();
    case Role::hidden:
      method.resize_input(index, port.dimension, run.count);
      return run.hidden;
    case Role::keys:
      method.resize_input(index, port.dimension, run.cache->capacity());
      return run.cache->keys(run.layer);
    case Role::values:
      method.resize_input(index, port.dimension, run.cache->capacity());
      return run.cache->values(run.layer);
    case Role::base:
      return weights_->data(first + port.index);
    case Role::frequencies: {
      method.resize_input(index, port.dimension, 1);
      const char* rows = static_cast<const char*>(weights_->data(first + port.index));
      return rows + (run.is_long ? port.size : 0);
    }
    case Role::scalar:
      return &numbers_[port.index];
    case Role::adapter:
      method.resize_input(index, port.dimension, run.adapter != nullptr ? port.size : 0);
      // Nothing is read of one without a rank, but it has to be somewhere.
      return run.adapter != nullptr ? run.adapter + layout_->begin(run.layer) + port.index
                                    : static_cast<const float*>(logits_.data());
  }
  return nullptr;
}

void GenerationModel::start(Entry& entry, const Run& run) {
  Method& method = *entry.method;
  arena_.prepare(method.planned());
  const size_t first = entry.first[entry.first.size() == 1 ? 0 : run.layer];
  for (size_t i = 0; i < entry.inputs.size(); ++i) {
    method.set_input(i, bind(method, i, entry.inputs[i], run, first));
  }
}

void GenerationModel::run(const int32_t* tokens, int64_t count, int64_t past, const float* adapter,
                          bool is_long, const KvCache& cache) {
  if (count < 1 || count > part_ || past < 0 || past + count > cache.capacity()) {
    fail("%lld tokens behind %lld do not fit. Report this as a bug", (long long)count,
         (long long)past);
  }
  std::copy(tokens, tokens + count, tokens_.begin());
  std::iota(positions_.begin(), positions_.begin() + count, int32_t(past));
  Run run{count, past, 0, adapter, is_long, &cache, nullptr};
  Entry& embed = entry_of(Kind::embed_step, 0);
  start(embed, run);
  embed.method->set_output(0, hidden_[0].data());
  embed.method->execute();
  Neighbours neighbours;
  for (; run.layer < bundle_.layers; ++run.layer) {
    Entry& block = entry_of(Kind::block_step, run.layer);
    run.hidden = hidden_[0].floats();
    start(block, run);
    const int64_t at = past * widths_[run.layer];
    for (size_t i = 0; i < block.method->outputs().size(); ++i) {
      const std::string& name = block.method->outputs()[i].name;
      float* data = name == "hidden" ? hidden_[1].floats()
                    : name == "k"    ? cache.keys(run.layer) + at
                                     : cache.values(run.layer) + at;
      block.method->set_output(i, data);
    }
    block.method->execute();
    neighbours.finish();
    std::swap(hidden_[0], hidden_[1]);
  }
  weights_->check();
  check_finite(hidden_[0].floats() + (count - 1) * bundle_.hidden_size);
}

void GenerationModel::check_finite(const float* hidden) const {
  if (all_finite(hidden, size_t(bundle_.hidden_size))) return;
  fail(
      "the output of the last layer is not finite. Use another adapter or export the bundle again");
}

float* GenerationModel::logits(int64_t row) {
  Entry& head = entry_of(Kind::head_logits, 0);
  const float* hidden = hidden_[0].floats() + row * bundle_.hidden_size;
  start(head, {1, 0, 0, nullptr, false, nullptr, hidden});
  head.method->set_output(0, logits_.data());
  head.method->execute();
  weights_->check();
  return logits_.floats();
}

void GenerationModel::rest() {
  arena_.prepare(0);
  for (Buffer& hidden : hidden_) hidden.release_from(0);
  workspace_trim();
}

}  // namespace toolkit
