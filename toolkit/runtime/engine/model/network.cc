#include "engine/model/network.h"

#include <cmath>
#include <iterator>
#include <locale>
#include <sstream>

#include "engine/error.h"
#include "engine/memory/dry_step.h"
#include "operators/together.h"

namespace toolkit {

Frame frame_of(const Dataset& data, int64_t index) {
  Frame frame;
  frame.tokens = data.tokens(index);
  frame.labels = data.labels(index);
  frame.positions = data.positions(index);
  frame.start = data.start(index);
  return frame;
}

int64_t row_tokens(const Bundle& bundle, int64_t seq_len, int64_t sequences) {
  const int64_t tokens = seq_len * sequences;
  if (sequences == 1 || bundle.has_seq_len(tokens)) return tokens;
  fail(
      "%lld sequences of %lld tokens together take programs for %lld tokens, which bundle %s does "
      "not have. Export it with --seq-len %lld --seq-len %lld, or use --grad-accum",
      (long long)sequences, (long long)seq_len, (long long)tokens, bundle.directory().c_str(),
      (long long)seq_len, (long long)tokens);
}

Network::Network(const Bundle& bundle, int64_t seq_len, bool training, bool b_alone,
                 int64_t together)
    : bundle_(bundle),
      seq_len_(seq_len),
      together_(together),
      hidden_bytes_(size_t(seq_len) * bundle.hidden_size * sizeof(float)) {
  if (!bundle.has_seq_len(seq_len)) {
    std::string known;
    for (int64_t length : bundle.seq_lens)
      known += (known.empty() ? "" : ", ") + std::to_string(length);
    fail(
        "the data has sequences of %lld tokens, bundle %s has programs for %s. Make the data with "
        "one of these lengths or export with --seq-len %lld",
        (long long)seq_len, bundle.directory().c_str(), known.c_str(), (long long)seq_len);
  }
  entries_.resize(bundle.methods().size());
  std::vector<size_t> places;
  for (size_t place = 0; place < entries_.size(); ++place) {
    const Kind kind = bundle.methods()[place].kind;
    const bool backward = kind == Kind::block_backward || kind == Kind::head_backward;
    if (training || !backward) places.push_back(place);
  }
  for (size_t place : places) {
    arena_.reserve(size_t(copies(place)) * planned_bytes(bundle.program(), method_name(place)));
  }
  arena_.allocate();
  for (size_t place : places) load(place);
  std::vector<const Method*> forwards(bundle.adapter_keys().size());
  for (size_t place : places) {
    const Bindings& bindings = bundle.methods()[place];
    if (bindings.kind == Kind::block_forward) {
      forwards[bindings.block] = entries_[place].method.get();
    }
  }
  layout_ = std::make_unique<AdapterLayout>(bundle, forwards, b_alone);
  for (size_t place : places) resolve(place);
}

std::string Network::method_name(size_t place) const {
  return bundle_.methods()[place].name + format("_t%lld", (long long)seq_len_);
}

void Network::load(size_t place) {
  const Bindings& bindings = bundle_.methods()[place];
  const auto loaded = [&](size_t at) {
    return std::make_unique<Method>(bundle_.program(), method_name(place), bindings.inputs,
                                    bindings.outputs, arena_, at);
  };
  Entry& entry = entries_[place];
  entry.method = loaded(0);
  bundle_.check_method(place, *entry.method);
  for (int64_t i = 1; i < copies(place); ++i) {
    entry.beside.push_back(loaded(size_t(i) * entry.method->planned()));
  }
}

int64_t Network::copies(size_t place) const {
  return bundle_.methods()[place].kind == Kind::block_forward ? together_ : 1;
}

void Network::resolve(size_t place) {
  Entry& entry = entries_[place];
  const Bindings& bindings = bundle_.methods()[place];
  size_t base = 0;
  for (const Method::Port& port : entry.method->inputs()) {
    check_sizes(bindings.name, port);
    entry.inputs.push_back(port_of(bindings, port, &base));
  }
  for (const Method::Port& port : entry.method->outputs()) {
    check_sizes(bindings.name, port);
    entry.outputs.push_back(port_of(bindings, port, &base));
  }
}

Network::Port Network::port_of(const Bindings& bindings, const Method::Port& port, size_t* base) {
  static const struct {
    const char* name;
    Role role;
  } simple[] = {
      {"tokens", Role::tokens}, {"labels", Role::labels},         {"positions", Role::positions},
      {"start", Role::start},   {"hidden", Role::hidden},         {"grad", Role::grad},
      {"kept", Role::kept},     {"grad_scale", Role::grad_scale}, {"loss", Role::loss}};
  for (const auto& row : simple) {
    if (port.name == row.name) return {row.role, 0};
  }
  if (after_prefix(port.name, "base:") != nullptr) return {Role::base, (*base)++};
  if (const char* number = after_prefix(port.name, "scalar:")) return scalar_of(port, number);
  const char* key = after_prefix(port.name, "adapter:");
  const Role role = key != nullptr ? Role::adapter : Role::gradient;
  if (key == nullptr) key = after_prefix(port.name, "gradient:");
  if (key == nullptr) {
    fail("bundle %s has the unknown output '%s'. Deploy a newer runtime",
         bundle_.directory().c_str(), port.name.c_str());
  }
  const AdapterTensor& tensor = layout_->tensor(bindings.block, key);
  if (tensor.sizes != port.sizes || port.type != ScalarType::Float) {
    fail("bundle %s: %s is %s in one method and %s in another. Export it again",
         bundle_.directory().c_str(), key, describe(ScalarType::Float, tensor.sizes).c_str(),
         describe(port.type, port.sizes).c_str());
  }
  if (role == Role::adapter) return {role, tensor.offset};
  return {tensor.gradient != kNoGradient ? role : Role::unwanted, tensor.gradient};
}

Network::Port Network::scalar_of(const Method::Port& port, const char* number) {
  // As it is written in C, whatever the language of the process that has loaded this.
  std::istringstream text(number);
  text.imbue(std::locale::classic());
  float value = 0;
  text >> std::noskipws >> value;
  const bool whole = !text.fail() && text.peek() == std::istringstream::traits_type::eof();
  if (!whole || !std::isfinite(value) || !port.sizes.empty() || port.type != ScalarType::Float) {
    fail("bundle %s: the input '%s' is not one number. Export it again",
         bundle_.directory().c_str(), port.name.c_str());
  }
  numbers_.push_back(value);
  return {Role::scalar, numbers_.size() - 1};
}

void Network::check_sizes(const std::string& method, const Method::Port& port) const {
  const int32_t tokens = int32_t(seq_len_), width = int32_t(bundle_.hidden_size);
  std::vector<int32_t> sizes;
  ScalarType type = ScalarType::Float;
  if (port.name == "hidden" || port.name == "grad" || port.name == "kept") {
    sizes = {1, tokens, width};
  } else if (port.name == "tokens" || port.name == "labels") {
    sizes = {1, tokens};
    type = ScalarType::Int;
  } else if (port.name == "positions" || port.name == "start") {
    sizes = {tokens};
    type = ScalarType::Int;
  } else if (port.name != "loss" && port.name != "grad_scale") {
    return;
  }
  if (port.sizes == sizes && port.type == type) return;
  fail("bundle %s: '%s' of %s is %s, expected %s. Export it again", bundle_.directory().c_str(),
       port.name.c_str(), method.c_str(), describe(port.type, port.sizes).c_str(),
       describe(type, sizes).c_str());
}

const std::vector<WeightRef>& Network::weights(Kind kind, int64_t layer) const {
  const auto& layers = bundle_.methods()[bundle_.method_of(kind, layer)].base;
  return layers[layers.size() == 1 ? 0 : layer];
}

const void* Network::input_of(const Port& port, const WeightMapping& weights,
                              const Frame& frame) const {
  const void* const plain[] = {frame.tokens, frame.labels, frame.positions, frame.start,
                               frame.hidden, frame.grad,   frame.kept,      &frame.grad_scale};
  if (port.role == Role::base) return weights.data(port.index);
  if (port.role == Role::scalar) return &numbers_[port.index];
  if (port.role == Role::adapter) {
    return frame.adapter != nullptr ? frame.adapter + port.index : nullptr;
  }
  return size_t(port.role) < std::size(plain) ? plain[size_t(port.role)] : nullptr;
}

void* Network::output_of(const Port& port, Frame& frame) {
  if (port.role == Role::hidden) return frame.hidden_out;
  if (port.role == Role::grad) return frame.grad_out;
  if (port.role == Role::kept) return frame.kept_out;
  if (port.role == Role::loss) return &frame.loss;
  const bool gradient = port.role == Role::gradient && frame.gradients_out != nullptr;
  return gradient ? frame.gradients_out + port.index : nullptr;
}

void Network::bind(const Entry& entry, Method& method, const char* name,
                   const WeightMapping& weights, Frame& frame) const {
  for (size_t i = 0; i < entry.inputs.size(); ++i) {
    const void* data = input_of(entry.inputs[i], weights, frame);
    if (data == nullptr) fail("%s lacks an input. Report this as a bug", name);
    method.set_input(i, data);
  }
  for (size_t i = 0; i < entry.outputs.size(); ++i) {
    void* data = output_of(entry.outputs[i], frame);
    const bool wanted = entry.outputs[i].role != Role::unwanted;
    if (data == nullptr && wanted) fail("%s lacks an output. Report this as a bug", name);
    method.set_output(i, data);
  }
}

void Network::require_whole() const {
  if (interrupted_) fail("a run was interrupted before. Report this as a bug");
}

void Network::run(Kind kind, int64_t layer, const WeightMapping& weights, Frame& frame) {
  require_whole();
  const size_t place = bundle_.method_of(kind, layer);
  const Entry& entry = entries_[place];
  arena_.prepare(size_t(copies(place)) * entry.method->planned());
  bind(entry, *entry.method, bundle_.methods()[place].name.c_str(), weights, frame);
  entry.method->execute();
  note_dry_step(kind, layer);
  weights.check();
}

void Network::run_blocks(int64_t layer, const WeightMapping& weights, std::vector<Frame>& frames) {
  if (frames.size() == 1) return run(Kind::block_forward, layer, weights, frames[0]);
  require_whole();
  const size_t place = bundle_.method_of(Kind::block_forward, layer);
  const Entry& entry = entries_[place];
  arena_.prepare(size_t(copies(place)) * entry.method->planned());
  std::vector<Method*> methods;
  for (Frame& frame : frames) {
    methods.push_back(methods.empty() ? entry.method.get()
                                      : entry.beside[methods.size() - 1].get());
    bind(entry, *methods.back(), bundle_.methods()[place].name.c_str(), weights, frame);
  }
  Together together;
  interrupted_ = true;
  for (bool more = true; more;) {
    for (Method* method : methods) more = method->step();
    together.finish();
  }
  interrupted_ = false;
  note_dry_step(Kind::block_forward, layer);
  weights.check();
}

void Network::note_dry_step(Kind kind, int64_t layer) const {
  DryStep* dry = DryStep::current();
  if (dry == nullptr) return;
  size_t mapped = 0;
  for (const WeightRef& ref : weights(kind, layer)) mapped += size_t(ref.bytes);
  const char* phase = "head";
  if (kind == Kind::embed) phase = "embed";
  if (kind == Kind::block_forward) phase = "forward";
  if (kind == Kind::block_backward) phase = "backward";
  dry->note(phase, mapped);
}

}  // namespace toolkit
