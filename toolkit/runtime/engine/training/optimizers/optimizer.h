// How a trained tensor is changed by its gradient. An optimizer is one file beside this one and one
// row in table.cc, and nothing else names it: options, their defaults, the resume state, `trainer
// describe` and what it costs in memory all come from the row and from states().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace toolkit {

struct Options;

// A matrix, row-major; a vector is one of its rows.
struct Shape {
  int64_t rows, columns;
  int64_t count() const { return rows * columns; }
};

// What an optimizer remembers of a tensor from step to step: so many elements of a type, "float32"
// or "uint8".
struct StateSpec {
  std::string name, type;
  int64_t count;
};
int64_t element_bytes(const std::string& type);  // throws Error for an unknown type
// Memory it takes: whole cache lines.
int64_t held_bytes(const StateSpec& spec);

// A tensor and its states, in the order of Optimizer::states().
struct TrainedTensor {
  const std::string& name;  // with its layer's number
  int64_t layer;
  Shape shape;
  float* values;
  void* const* states;

  float* floats(int state) const { return static_cast<float*>(states[state]); }
  uint8_t* bytes(int state) const { return static_cast<uint8_t*>(states[state]); }
};

// Of the optimizer step; the first one is 1.
struct StepSize {
  double lr;
  int64_t step;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // The same for every tensor of a shape.
  virtual std::vector<StateSpec> states(Shape shape) const = 0;
  // Fills the states of a tensor when a run begins; they are zeros before.
  virtual void initialize(const TrainedTensor&) {}
  // Changes values and states. `gradient` has the values' shape and may be overwritten. Must not
  // depend on the number of threads, nor on the order in which tensors come. What it needs for the
  // moment it allocates in the first call: `trainer describe` only asks for states().
  virtual void update(const TrainedTensor& tensor, float* gradient, StepSize size) = 0;
};

// An option that an optimizer reads, and its default where that is not the option's own.
struct OptionUse {
  const char* name;
  const char* fallback = nullptr;
};

// Whether an option is among those that are read.
bool reads(const std::vector<OptionUse>& uses, const std::string& name);

struct OptimizerRow {
  const char* name;
  const char* help;  // the formula; scalars are computed in double, tensors in float32
  std::vector<OptionUse> options;
  std::unique_ptr<Optimizer> (*make)(const Options& options);
};

// All there are; the rows are in table.cc.
const std::vector<OptimizerRow>& optimizers();
const OptimizerRow& optimizer_row(const std::string& name);  // throws UsageError for an unknown one

// Runs a body on ranges [begin, end) of a tensor's elements, on all threads unless the tensor is
// done before they have met.
void each_range(int64_t count, const std::function<void(int64_t begin, int64_t end)>& body);

}  // namespace toolkit
