// The model at one sequence length: its methods over one arena, run with weights streamed from
// base.ptd.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/model/adapter.h"
#include "engine/model/bundle.h"
#include "engine/model/dataset.h"

namespace toolkit {

// What one run of a method reads and writes; only what the method names is used.
struct Frame {
  const int32_t *tokens = nullptr, *labels = nullptr, *positions = nullptr, *start = nullptr;
  const float* hidden = nullptr;
  const float* grad = nullptr;
  const float* kept = nullptr;     // what the forward kept beside `hidden`
  const float* adapter = nullptr;  // one layer's values
  float grad_scale = 0;
  float* hidden_out = nullptr;
  float* kept_out = nullptr;
  float* grad_out = nullptr;
  float* gradients_out = nullptr;  // one layer's gradients
  float loss = 0;                  // sum over labelled tokens, written
};

class Network {
 public:
  // Methods of the backward pass are loaded when `training`; with `b_alone` they compute no A's
  // gradient. Blocks compute up to `together` rows side by side. Throws Error when the bundle has
  // no programs for `seq_len` or they do not fit its files.
  Network(const Bundle& bundle, int64_t seq_len, bool training, bool b_alone = false,
          int64_t together = 1);

  const Bundle& bundle() const { return bundle_; }
  const AdapterLayout& adapter() const { return *layout_; }
  int64_t seq_len() const { return seq_len_; }
  int64_t together() const { return together_; }
  size_t hidden_bytes() const { return hidden_bytes_; }

  // Places of the weights a run needs.
  const std::vector<WeightRef>& weights(Kind kind, int64_t layer) const;
  // Throws Error when the method fails or its weights could not be read.
  void run(Kind kind, int64_t layer, const WeightMapping& weights, Frame& frame);
  // The same of block_forward for up to `together` rows, whose weights are unpacked once. Where it
  // throws, programs are left in the middle: the network is of no more use.
  void run_blocks(int64_t layer, const WeightMapping& weights, std::vector<Frame>& frames);

 private:
  // The first eight are inputs that a frame has as they are, in the order of input_of().
  enum class Role {
    tokens,
    labels,
    positions,
    start,
    hidden,
    grad,
    kept,
    grad_scale,
    scalar,
    loss,
    base,
    adapter,
    gradient,
    unwanted  // a gradient that is not computed
  };
  struct Port {
    Role role;
    size_t index;  // base: of the mapping; scalar: of numbers_; adapter, gradient: offset in floats
  };
  struct Entry {
    std::unique_ptr<Method> method;
    std::vector<std::unique_ptr<Method>> beside;  // the same for the rows after the first
    std::vector<Port> inputs, outputs;
  };
  // Throws Error where the network is of no more use.
  void require_whole() const;
  std::string method_name(size_t place) const;
  void load(size_t place);
  void resolve(size_t place);
  // Copies of a method that run side by side.
  int64_t copies(size_t place) const;
  void bind(const Entry& entry, Method& method, const char* name, const WeightMapping& weights,
            Frame& frame) const;
  Port port_of(const Bindings& bindings, const Method::Port& port, size_t* base);
  Port scalar_of(const Method::Port& port, const char* number);
  // Null where the frame has nothing for the port.
  const void* input_of(const Port& port, const WeightMapping& weights, const Frame& frame) const;
  // Null where the frame has no room for the port.
  static void* output_of(const Port& port, Frame& frame);
  void note_dry_step(Kind kind, int64_t layer) const;
  void check_sizes(const std::string& method, const Method::Port& port) const;

  const Bundle& bundle_;
  int64_t seq_len_, together_;
  size_t hidden_bytes_;
  Arena arena_;
  std::vector<Entry>
      entries_;               // as the bundle has its methods; those that are not needed are empty
  bool interrupted_ = false;  // in the middle of programs side by side
  std::vector<float> numbers_;  // inputs that the programs name by their value
  std::unique_ptr<AdapterLayout> layout_;
};

// Tokens of a row of so many sequences; throws Error when the bundle has no programs for as many.
int64_t row_tokens(const Bundle& bundle, int64_t seq_len, int64_t sequences);

// Sample `index` of `data` as a frame.
Frame frame_of(const Dataset& data, int64_t index);

}  // namespace toolkit
