#include "operators/arguments.h"

#include <executorch/runtime/core/exec_aten/util/tensor_util.h>
#include <executorch/runtime/platform/log.h>

#include <algorithm>

#include "kernels/dry_run.h"

namespace toolkit {

using executorch::aten::SizesType;
using executorch::runtime::Error;

namespace {
constexpr size_t kMaxDimensions = 8;

bool is_contiguous(const Tensor& t) {
  return executorch::runtime::is_contiguous_dim_order(t.dim_order().data(), t.dim());
}

/// Every tensor is mapped in windows around the pages that are touched.
void tell_read(DryRun& dry, const QuantizedMatrix& w, int64_t at_once) {
  constexpr int64_t kWindow = 64 << 10;
  const int64_t parameters = w.rows * (w.depth / kQuantGroup) * int64_t(sizeof(uint16_t));
  const int64_t tensors[] = {w.rows / kPanel * w.panel_bytes(), parameters,
                             w.offset == nullptr ? 0 : parameters};
  for (int64_t bytes : tensors) {
    const bool whole = at_once == 0 || at_once >= w.rows;
    const int64_t share = whole ? bytes : bytes / w.rows * at_once + kWindow;
    dry.read(size_t(std::min(bytes, share)));
  }
}
}  // namespace

bool Arguments::require(bool condition, const char* name, const char* what) {
  if (!condition && ok_) {
    ok_ = false;
    ET_LOG(Error, "toolkit::%s: argument %s %s", op_, name, what);
    context_.fail(Error::InvalidArgument);
  }
  return condition;
}

EValue* Arguments::next(const char* name) {
  if (!require(index_ < stack_.size(), name,
               "is missing: the program was made for other operators")) {
    return nullptr;
  }
  return stack_[index_++];
}

const Tensor* Arguments::tensor(const char* name, ScalarType type, bool optional) {
  EValue* value = next(name);
  if (value == nullptr) return nullptr;
  if (value->isNone()) {
    require(optional, name, "must not be None");
    return nullptr;
  }
  if (!require(value->isTensor(), name, "must be a tensor")) return nullptr;
  const Tensor& t = value->toTensor();
  if (!require(t.scalar_type() == type, name, "has the wrong dtype")) return nullptr;
  if (!require(is_contiguous(t), name, "must be contiguous")) return nullptr;
  if (!require(t.numel() == 0 || t.const_data_ptr() != nullptr, name, "has no data"))
    return nullptr;
  return &t;
}

Rows Arguments::rows(const char* name) {
  const Tensor* t = tensor(name, ScalarType::Float);
  if (t == nullptr || !require(t->dim() >= 1 && t->numel() > 0, name, "must not be empty"))
    return {};
  const int64_t columns = t->size(t->dim() - 1);
  return {t->const_data_ptr<float>(), t, t->numel() / columns, columns};
}

const float* Arguments::rows(const char* name, int64_t rows, int64_t columns) {
  const Rows r = this->rows(name);
  require(r.rows == rows && r.columns == columns, name, "has the wrong shape");
  return r.data;
}

const float* Arguments::floats(const char* name, int64_t count, bool optional) {
  const Tensor* t = tensor(name, ScalarType::Float, optional);
  if (t == nullptr || !require(t->numel() == count, name, "has the wrong shape")) return nullptr;
  return t->const_data_ptr<float>();
}

const Tensor* Arguments::int_tensor(const char* name) { return tensor(name, ScalarType::Int); }

const int32_t* Arguments::ints(const char* name, int64_t count) {
  const Tensor* t = int_tensor(name);
  if (t == nullptr || !require(t->numel() == count, name, "has the wrong shape")) return nullptr;
  return t->const_data_ptr<int32_t>();
}

const uint8_t* Arguments::bytes(const char* name, int64_t count) {
  const Tensor* t = tensor(name, ScalarType::Byte);
  if (t == nullptr || !require(t->numel() == count, name, "has the wrong shape")) return nullptr;
  return t->const_data_ptr<uint8_t>();
}

QuantizedMatrix Arguments::weight(const char* name, int64_t at_once) {
  EValue* value = next(name);
  if (value == nullptr || !require(value->isTensor(), name, "(codes) must be a tensor")) return {};
  const Tensor& codes = value->toTensor();
  const bool int4 = codes.scalar_type() == ScalarType::Byte;
  require(int4 || codes.scalar_type() == ScalarType::Char, name, "(codes) must be uint8 or int8");
  require(codes.dim() == 3 && is_contiguous(codes), name, "(codes) must be [N/16, K, 8 or 16]");
  require(codes.const_data_ptr() != nullptr, name, "(codes) has no data");
  const Tensor* scale = tensor(name, ScalarType::Half);
  const Tensor* offset = tensor(name, ScalarType::Half, true);
  if (!ok_) return {};

  QuantizedMatrix w;
  w.bits = int4 ? 4 : 8;
  w.rows = codes.size(0) * kPanel;
  w.depth = codes.size(1);
  require(codes.size(2) == 2 * w.bits, name, "(codes) must be [N/16, K, 8 or 16]");
  require(w.rows > 0 && w.depth > 0 && w.depth % kQuantGroup == 0, name,
          "(codes) must have K a multiple of 32");
  const int64_t parameters = w.rows * (w.depth / kQuantGroup);
  require(scale->numel() == parameters, name, "(scale) must be [N/16, K/32, 16]");
  w.codes = static_cast<const uint8_t*>(codes.const_data_ptr());
  w.scale = static_cast<const uint16_t*>(scale->const_data_ptr());
  if (offset != nullptr) {
    require(int4, name, "(offset) is for int4 only");
    require(offset->numel() == parameters, name, "(offset) must be [N/16, K/32, 16]");
    w.offset = static_cast<const uint16_t*>(offset->const_data_ptr());
  }
  if (DryRun* dry = DryRun::current()) tell_read(*dry, w, at_once);
  return w;
}

Adapter Arguments::adapter(const char* name, int64_t rows, int64_t depth, bool optional,
                           Rank allowed) {
  const Tensor* a = tensor(name, ScalarType::Float, optional);
  const Tensor* b = tensor(name, ScalarType::Float, optional);
  if (!require((a == nullptr) == (b == nullptr), name, "needs both a and b or neither")) return {};
  if (a == nullptr) return {};
  if (!require(a->dim() == 2 && a->size(1) == depth, name, "(a) must be [R, K]")) return {};
  const int64_t rank = a->size(0);
  if (!require(rank > 0 || allowed == Rank::any, name, "must not have a rank of 0")) return {};
  if (!require(b->dim() == 2 && b->size(0) == rows && b->size(1) == rank, name,
               "(b) must be [N, R]")) {
    return {};
  }
  if (rank == 0) return {};
  return {a->const_data_ptr<float>(), b->const_data_ptr<float>(), rank};
}

double Arguments::real(const char* name) {
  EValue* value = next(name);
  if (value == nullptr || !require(value->isDouble() || value->isInt(), name, "must be a number"))
    return 0;
  return value->isDouble() ? value->toDouble() : static_cast<double>(value->toInt());
}

int64_t Arguments::integer(const char* name) {
  EValue* value = next(name);
  if (value == nullptr || !require(value->isInt(), name, "must be an int")) return 0;
  return value->toInt();
}

bool Arguments::boolean(const char* name) {
  EValue* value = next(name);
  if (value == nullptr || !require(value->isBool(), name, "must be a bool")) return false;
  return value->toBool();
}

Tensor* Arguments::resized(const char* name, ScalarType type, const int64_t* shape,
                           size_t dimensions, bool optional) {
  EValue* value = next(name);
  if (value == nullptr || !require(value->isTensor(), name, "must be a tensor")) return nullptr;
  Tensor& t = value->toTensor();
  if (!require(t.scalar_type() == type && is_contiguous(t), name,
               type == ScalarType::Float ? "must be a contiguous fp32 output"
               : type == ScalarType::Int ? "must be a contiguous int32 output"
                                         : "must be a contiguous uint8 output")) {
    return nullptr;
  }
  SizesType sizes[kMaxDimensions];
  int64_t count = 1;
  for (size_t i = 0; i < dimensions; ++i) {
    sizes[i] = static_cast<SizesType>(shape[i]);
    count *= shape[i];
  }
  const Error error = executorch::runtime::resize_tensor(t, {sizes, dimensions});
  if (!require(error == Error::Ok, name, "(output) has the wrong shape")) return nullptr;
  require(optional || count == 0 || t.mutable_data_ptr() != nullptr, name,
          "(output) has no memory");
  return &t;
}

float* Arguments::resized(const char* name, const int64_t* shape, size_t dimensions) {
  Tensor* t = resized(name, ScalarType::Float, shape, dimensions);
  return t != nullptr ? t->mutable_data_ptr<float>() : nullptr;
}

int32_t* Arguments::out_ints(const char* name, int64_t count) {
  Tensor* t = ok_ ? resized(name, ScalarType::Int, &count, 1) : nullptr;
  return t != nullptr ? t->mutable_data_ptr<int32_t>() : nullptr;
}

float* Arguments::out(const char* name, std::initializer_list<int64_t> shape) {
  if (!ok_) return nullptr;
  return resized(name, shape.begin(), shape.size());
}

float* Arguments::out_like(const char* name, const Rows& like, int64_t columns) {
  Tensor* t = resized_like(name, ScalarType::Float, like, columns);
  return t != nullptr ? t->mutable_data_ptr<float>() : nullptr;
}

uint8_t* Arguments::out_bytes(const char* name, const Rows& like, int64_t columns) {
  Tensor* t = resized_like(name, ScalarType::Byte, like, columns);
  return t != nullptr ? t->mutable_data_ptr<uint8_t>() : nullptr;
}

Tensor* Arguments::resized_like(const char* name, ScalarType type, const Rows& like,
                                int64_t columns) {
  if (!ok_) return nullptr;
  int64_t shape[kMaxDimensions];
  const size_t dimensions = like.tensor->dim();
  if (!require(dimensions <= kMaxDimensions, name, "has too many dimensions")) return nullptr;
  for (size_t i = 0; i + 1 < dimensions; ++i) shape[i] = like.tensor->size(i);
  shape[dimensions - 1] = columns;
  return resized(name, type, shape, dimensions);
}

AdapterGradient Arguments::out_adapter(const char* name, const Adapter& lora, int64_t rows,
                                       int64_t depth) {
  if (lora.a == nullptr) {
    out(name, {0});
    out(name, {0});
    return {};
  }
  const int64_t shape[] = {lora.rank, depth};
  Tensor* a = ok_ ? resized(name, ScalarType::Float, shape, 2, true) : nullptr;
  float* b = out(name, {rows, lora.rank});
  return {a != nullptr ? a->mutable_data_ptr<float>() : nullptr, b};
}

}  // namespace toolkit
