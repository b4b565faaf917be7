#include "operators/scratch.h"

#include <executorch/runtime/kernel/operator_registry.h>
#include <executorch/runtime/platform/runtime.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <istream>
#include <memory>
#include <optional>
#include <ostream>
#include <sstream>
#include <vector>

#include "kernels/dry_run.h"
#include "kernels/error.h"
#include "operators/arguments.h"
#include "operators/together.h"

namespace toolkit {
namespace {

using executorch::aten::TensorImpl;

[[noreturn]] void refuse_size(const std::string& bytes) {
  throw Error("no address space for a tensor of " + bytes + " bytes. Ask for a smaller shape");
}

/// Memory of zeros that cannot be written: what all tensors of a dry run consist of. Nothing of it
/// is resident but what an operator reads to check it, and integers of 0 are valid everywhere.
class Zeros {
 public:
  explicit Zeros(size_t bytes)
      : bytes_(std::max<size_t>(bytes, 1)),
        data_(
            mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (data_ == MAP_FAILED) refuse_size(std::to_string(bytes));
  }
  ~Zeros() { munmap(data_, bytes_); }
  Zeros(const Zeros&) = delete;
  Zeros& operator=(const Zeros&) = delete;
  void* data() const { return data_; }

 private:
  size_t bytes_;
  void* data_;
};

struct Type {
  const char* name;
  ScalarType type;
  size_t bytes;
};

constexpr Type kTypes[] = {{"float32", ScalarType::Float, 4},
                           {"float16", ScalarType::Half, 2},
                           {"int32", ScalarType::Int, 4},
                           {"uint8", ScalarType::Byte, 1},
                           {"int8", ScalarType::Char, 1}};

/// A tensor's type and shape, e.g. float32[1,5,64]; ~float32[1,5,64]: a result nobody wants.
struct Shape {
  const Type* type = nullptr;
  bool wanted = true;
  std::vector<executorch::aten::SizesType> sizes;
  std::vector<executorch::aten::DimOrderType> order;

  /// Throws Error where no memory holds as many.
  size_t bytes() const {
    size_t result = type->bytes;
    for (const auto size : sizes) {
      if (__builtin_mul_overflow(result, static_cast<size_t>(size), &result))
        refuse_size("2^64 or more");
    }
    if (result > PTRDIFF_MAX) refuse_size(std::to_string(result));
    return result;
  }
};

[[noreturn]] void refuse(const std::string& word) {
  throw Error("'" + word + "' is no value of an operator. See operators/scratch.h");
}

Shape shape_of(const std::string& marked) {
  Shape shape;
  shape.wanted = marked[0] != '~';
  const std::string word = marked.substr(shape.wanted ? 0 : 1);
  const size_t open = word.find('[');
  for (const Type& type : kTypes) {
    if (word.compare(0, open, type.name) == 0) shape.type = &type;
  }
  if (shape.type == nullptr || word.back() != ']') refuse(word);
  std::istringstream sizes(word.substr(open + 1, word.size() - open - 2));
  for (std::string size; std::getline(sizes, size, ',');) {
    char* end = nullptr;
    const long value = std::strtol(size.c_str(), &end, 10);
    if (end == size.c_str() || *end != '\0' || value < 0 || value > INT32_MAX) refuse(word);
    shape.order.push_back(static_cast<uint8_t>(shape.sizes.size()));
    shape.sizes.push_back(static_cast<int32_t>(value));
  }
  return shape;
}

EValue number_of(const std::string& word) {
  char* end = nullptr;
  if (word.find_first_of(".eE") == std::string::npos) {
    const int64_t value = std::strtoll(word.c_str(), &end, 10);
    if (end != word.c_str() && *end == '\0') return EValue(value);
  } else {
    const double value = std::strtod(word.c_str(), &end);
    if (end != word.c_str() && *end == '\0') return EValue(value);
  }
  refuse(word);
}

/// The values of a call, and what they stand on.
class Call {
 public:
  explicit Call(std::istringstream& words) {
    std::vector<std::string> all;
    for (std::string word; words >> word;) {
      if (word != "->") all.push_back(word);
    }
    size_t largest = 0;
    for (const std::string& word : all) {
      if (word.find('[') == std::string::npos) continue;
      shapes_.push_back(shape_of(word));
      largest = std::max(largest, shapes_.back().bytes());
    }
    zeros_ = std::make_unique<Zeros>(largest);
    size_t next = 0;
    for (const std::string& word : all) {
      const bool tensor = word.find('[') != std::string::npos;
      values_.push_back(tensor ? tensor_of(shapes_[next++]) : value_of(word));
    }
    for (EValue& value : values_) stack_.push_back(&value);
  }

  Stack stack() { return {stack_.data(), stack_.size()}; }

 private:
  static EValue value_of(const std::string& word) {
    if (word == "-") return EValue();
    if (word == "true" || word == "false") return EValue(word == "true");
    return number_of(word);
  }

  EValue tensor_of(Shape& shape) {
    tensors_.emplace_back(shape.type->type, static_cast<ssize_t>(shape.sizes.size()),
                          shape.sizes.data(), shape.wanted ? zeros_->data() : nullptr,
                          shape.order.data());
    return EValue(Tensor(&tensors_.back()));
  }

  std::deque<Shape> shapes_;
  std::unique_ptr<Zeros> zeros_;
  std::deque<TensorImpl> tensors_;
  std::deque<EValue> values_;
  std::vector<EValue*> stack_;
};

/// How often a call is made at once, taken off its name.
int64_t times_of(std::string* name) {
  const size_t sign = name->find('*');
  if (sign == std::string::npos) return 1;
  char* end = nullptr;
  const long times = std::strtol(name->c_str(), &end, 10);
  if (end != name->c_str() + sign || times < 1 || times > kMostTogether) refuse(*name);
  name->erase(0, sign + 1);
  return times;
}

}  // namespace

int64_t scratch_bytes(const std::string& call) {
  std::istringstream words(call);
  std::string name;
  words >> name;
  const int64_t times = times_of(&name);
  const std::string registered = "toolkit::" + name + ".out";
  if (!executorch::runtime::registry_has_op_function(registered.c_str())) {
    throw Error("no operator is named '" + name + "'. Use a runtime of the same version");
  }
  Call values(words);
  DryRun& run = *DryRun::current();
  run.take_peak();  // that of a call that failed
  KernelRuntimeContext context;
  const auto op = executorch::runtime::get_op_function_from_registry(registered.c_str()).get();
  {
    std::optional<Together> together;
    if (times > 1) together.emplace();
    for (int64_t i = 0; i < times; ++i) op(context, values.stack());
    if (times > 1) together->finish();
  }
  throw_operator_error();
  if (context.failure_state() != executorch::runtime::Error::Ok) {
    throw Error("operator " + name + " does not take the values it was given: " + call +
                ". Use a runtime of the same version");
  }
  return static_cast<int64_t>(run.take_peak());
}

void answer_scratch(const std::string& isa, int threads, const std::string& arithmetic,
                    std::istream& calls, std::ostream& answers) {
  executorch::runtime::runtime_init();
  DryRun run(isa, threads, arithmetic);
  for (std::string call; std::getline(calls, call);) {
    const int64_t bytes = scratch_bytes(call);
    answers << "{\"bytes\":" << bytes << "}\n";
  }
  if (!answers.flush()) throw Error("the answers cannot be written. Ask again");
}

}  // namespace toolkit
