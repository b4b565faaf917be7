// Reads and checks an operator's arguments from ExecuTorch's stack of values.
//
// Operators are registered as boxed kernels, since several of them have several outputs. A check
// that fails is logged with the operator's and the argument's name and fails the call with
// Error::InvalidArgument; later reads then return empty values, so an operator reads all its
// arguments and asks `ok()` once.
#pragma once

#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/core/span.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>

#include <cstdint>
#include <initializer_list>

#include "kernels/kernels.h"

namespace toolkit {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::runtime::EValue;
using executorch::runtime::KernelRuntimeContext;
using executorch::runtime::Span;

using Stack = Span<EValue*>;

/// An fp32 input seen as rows of its last dimension.
struct Rows {
  const float* data = nullptr;
  const Tensor* tensor = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
};

/// What an adapter's rank may be.
enum class Rank { positive, any };

class Arguments {
 public:
  Arguments(const char* op, KernelRuntimeContext& context, Stack stack)
      : op_(op), context_(context), stack_(stack) {}

  bool ok() const { return ok_; }

  /// The next argument, an fp32 tensor with at least one dimension.
  Rows rows(const char* name);
  /// The same, which must have as many rows and columns as given.
  const float* rows(const char* name, int64_t rows, int64_t columns);
  /// A contiguous tensor of `count` elements; null when absent, which only optional ones may be.
  const float* floats(const char* name, int64_t count, bool optional = false);
  const int32_t* ints(const char* name, int64_t count);
  const uint8_t* bytes(const char* name, int64_t count);
  /// The next tensor as int32 with any number of elements.
  const Tensor* int_tensor(const char* name);
  /// Three arguments: codes, scale, offset. The operator gives what it has read back after
  /// `at_once` rows, 0: at its end.
  QuantizedMatrix weight(const char* name, int64_t at_once = 0);
  /// Two arguments a [rank, depth] and b [rows, rank]; both may be absent when optional. A rank of
  /// 0, which only forwards take, is no adapter.
  Adapter adapter(const char* name, int64_t rows, int64_t depth, bool optional, Rank rank);
  double real(const char* name);
  int64_t integer(const char* name);
  bool boolean(const char* name);

  /// An fp32 output of this shape.
  float* out(const char* name, std::initializer_list<int64_t> shape);
  /// An output shaped like `like` but for its last dimension.
  float* out_like(const char* name, const Rows& like, int64_t columns);
  /// An int32 output [count].
  int32_t* out_ints(const char* name, int64_t count);
  /// A uint8 output shaped like `like` but for its last dimension.
  uint8_t* out_bytes(const char* name, const Rows& like, int64_t columns);
  /// The gradients of `lora`; that of its A is null where the caller gave no memory for it.
  AdapterGradient out_adapter(const char* name, const Adapter& lora, int64_t rows, int64_t depth);

  /// Fails the call with a message unless the condition holds; returns the condition.
  bool require(bool condition, const char* name, const char* what);

 private:
  EValue* next(const char* name);
  const Tensor* tensor(const char* name, ScalarType type, bool optional = false);
  Tensor* resized(const char* name, ScalarType type, const int64_t* shape, size_t dimensions,
                  bool optional = false);
  float* resized(const char* name, const int64_t* shape, size_t dimensions);
  Tensor* resized_like(const char* name, ScalarType type, const Rows& like, int64_t columns);

  const char* op_;
  KernelRuntimeContext& context_;
  Stack stack_;
  size_t index_ = 0;
  bool ok_ = true;
};

}  // namespace toolkit
