#include "engine/model/program.h"

#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>

#include <new>

#include "engine/error.h"
#include "engine/runtime.h"

namespace toolkit {
namespace et = executorch::runtime;
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kMostPlanned = size_t(1) << 40;

size_t align_up(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

void keep_message(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, size_t,
                  const char* message, size_t length) {
  Runtime* runtime = Runtime::current();
  if (runtime != nullptr && (level == kError || level == kFatal)) {
    runtime->keep_message(message, length);
  }
}

std::string last_runtime_message() {
  const Runtime* runtime = Runtime::current();
  return runtime != nullptr ? runtime->last_message() : "";
}

// ExecuTorch calls this on a broken invariant and must not get control back. An app that has loaded
// this library must not end with it, so the call is left by an exception.
void give_up() {
  fail("ExecuTorch gave up: %s. Export and deploy the bundle again",
       last_runtime_message().c_str());
}

void check_memory(et::Error error) {
  if (error == et::Error::MemoryAllocationFailed) throw std::bad_alloc();
}

[[noreturn]] void invalid(const std::string& path, et::Error error = et::Error::InvalidProgram) {
  check_memory(error);
  const std::string why = last_runtime_message();
  fail("%s is not a valid program%s%s. Export or copy the bundle again", path.c_str(),
       why.empty() ? "" : ": ", why.c_str());
}

size_t planned_of(const et::MethodMeta& meta, const std::string& path) {
  size_t total = 0;
  for (size_t i = 0; i < meta.num_memory_planned_buffers(); ++i) {
    auto size = meta.memory_planned_buffer_size(i);
    if (!size.ok() || *size < 0 || size_t(*size) > kMostPlanned) {
      fail("%s plans memory of no possible size. Export or copy the bundle again", path.c_str());
    }
    total += align_up(size_t(*size));
  }
  return total;
}

// Keeps ExecuTorch's messages off stderr; the last one explains a failure.
void capture_runtime_messages() {
  static const bool done = [] {
    et::register_pal(et::PalImpl::create(nullptr, give_up, nullptr, nullptr, keep_message, nullptr,
                                         nullptr, __FILE__));
    et::runtime_init();
    return true;
  }();
  (void)done;
}

}  // namespace

Program::Program(const std::string& path) : path_(path) {
  capture_runtime_messages();
  if (!file_exists(path))
    fail("%s does not exist. Export or deploy the bundle again", path.c_str());
  auto loader = executorch::extension::MmapDataLoader::from(
      path.c_str(), executorch::extension::MmapDataLoader::MlockConfig::NoMlock);
  if (!loader.ok()) invalid(path, loader.error());
  loader_ = std::make_unique<executorch::extension::MmapDataLoader>(std::move(*loader));
  auto program = et::Program::load(loader_.get(), et::Program::Verification::InternalConsistency);
  if (!program.ok()) invalid(path, program.error());
  program_ = std::make_unique<et::Program>(std::move(*program));
}

bool Program::has_method(const std::string& name) const {
  for (size_t i = 0; i < program_->num_methods(); ++i) {
    auto other = program_->get_method_name(i);
    if (other.ok() && name == *other) return true;
  }
  return false;
}

template <typename Visit>
void Program::constants(const std::string& name, Visit visit) const {
  if (!has_method(name)) {
    fail("%s says nothing about '%s'. Export the bundle with this version of toolkit",
         path_.c_str(), name.c_str());
  }
  const size_t bytes = planned_bytes(*this, name);
  Buffer planned(bytes, Category::runtime, "toolkit constants");
  et::Span<uint8_t> span(static_cast<uint8_t*>(planned.data()), bytes);
  et::HierarchicalAllocator memory({&span, 1});
  HeapAllocator allocator;
  et::MemoryManager manager(&allocator, &memory);
  auto method = program_->load_method(name.c_str(), &manager);
  if (!method.ok()) invalid(path_, method.error());
  if (const et::Error error = method->execute(); error != et::Error::Ok) invalid(path_, error);
  for (size_t i = 0; i < method->outputs_size(); ++i) visit(method->get_output(i));
}

std::vector<int64_t> Program::integers(const char* name) const {
  std::vector<int64_t> values;
  constants(name, [&](const et::EValue& value) {
    if (!value.isInt()) fail("%s: '%s' is not a number. Export again", path_.c_str(), name);
    values.push_back(value.toInt());
  });
  return values;
}

int64_t Program::integer(const char* name) const {
  const std::vector<int64_t> values = integers(name);
  if (values.size() != 1) fail("%s: '%s' is not one number. Export again", path_.c_str(), name);
  return values[0];
}

double Program::number(const char* name) const {
  double result = 0;
  constants(name, [&](const et::EValue& value) {
    if (value.isDouble()) {
      result = value.toDouble();
    } else if (value.isInt()) {
      result = double(value.toInt());
    } else {
      fail("%s: '%s' is not a number. Export again", path_.c_str(), name);
    }
  });
  return result;
}

std::vector<std::string> Program::texts(const std::string& name) const {
  std::vector<std::string> values;
  constants(name, [&](const et::EValue& value) {
    if (!value.isString()) {
      fail("%s: '%s' is not a list of names. Export again", path_.c_str(), name.c_str());
    }
    const auto text = value.toString();
    values.emplace_back(text.data(), text.size());
  });
  return values;
}

std::string Program::text(const char* name) const {
  const std::vector<std::string> values = texts(name);
  if (values.size() != 1) fail("%s: '%s' is not one text. Export again", path_.c_str(), name);
  return values[0];
}

void* HeapAllocator::allocate(size_t size, size_t alignment) {
  void* memory = MallocMemoryAllocator::allocate(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void Arena::reserve(size_t bytes) {
  if (bytes > bytes_) bytes_ = bytes;
}

void Arena::allocate() {
  buffer_ = Buffer(bytes_, Category::arena, "toolkit arena");
  buffer_.account(0);
}

void Arena::prepare(size_t bytes) {
  if (bytes == in_use_) return;
  if (bytes < in_use_) buffer_.release_from(bytes);
  buffer_.account(bytes);
  in_use_ = bytes;
}

size_t planned_bytes(const Program& program, const std::string& method) {
  auto meta = program.get().method_meta(method.c_str());
  if (!meta.ok()) {
    fail("%s has no method %s. Export the bundle again", program.path().c_str(), method.c_str());
  }
  return planned_of(*meta, program.path());
}

// What ExecuTorch needs to be told where an input lies.
struct Method::Input {
  std::vector<int32_t> sizes, strides;
  std::vector<uint8_t> order;
  std::unique_ptr<et::etensor::TensorImpl> tensor;

  void lay_out() {
    const size_t rank = sizes.size();
    strides.assign(rank, 1);
    for (size_t d = rank; d-- > 1;) strides[d - 1] = strides[d] * sizes[d];
  }
};

Method::Method(const Program& program, const std::string& name,
               const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
               Arena& arena, size_t place)
    : name_(name), path_(program.path()) {
  auto meta = program.get().method_meta(name.c_str());
  if (!meta.ok()) failed("is missing");
  if (meta->num_inputs() != inputs.size() || meta->num_outputs() != outputs.size()) {
    failed("has another number of inputs or outputs than its list of names");
  }
  planned_ = planned_of(*meta, path_);
  uint8_t* at = arena.data() + place;
  for (size_t i = 0; i < meta->num_memory_planned_buffers(); ++i) {
    const size_t size = *meta->memory_planned_buffer_size(i);
    planned_spans_.push_back({at, size});
    at += align_up(size);
  }
  planned_memory_ = std::make_unique<et::HierarchicalAllocator>(
      et::Span<et::Span<uint8_t>>(planned_spans_.data(), planned_spans_.size()));
  manager_ = std::make_unique<et::MemoryManager>(&allocator_, planned_memory_.get());

  const auto port = [&](const std::string& label, et::Result<et::TensorInfo> info) {
    if (!info.ok() || info->is_memory_planned()) failed("does not leave its inputs to the caller");
    const auto sizes = info->sizes();
    return Port{label, info->scalar_type(), {sizes.begin(), sizes.end()}, int64_t(info->nbytes())};
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    inputs_.push_back(port(inputs[i], meta->input_tensor_meta(i)));
    auto input = std::make_unique<Input>();
    input->sizes = inputs_.back().sizes;
    input->lay_out();
    for (size_t d = 0; d < input->sizes.size(); ++d) input->order.push_back(uint8_t(d));
    tensors_.push_back(std::move(input));
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    outputs_.push_back(port(outputs[i], meta->output_tensor_meta(i)));
  }

  auto method = program.get().load_method(name.c_str(), manager_.get());
  if (!method.ok()) {
    check_memory(method.error());
    failed("cannot be loaded");
  }
  method_ = std::make_unique<et::Method>(std::move(*method));
}

Method::~Method() = default;

void Method::failed(const char* what) const {
  const std::string why = last_runtime_message();
  fail("method %s of %s %s%s%s. Export the bundle and deploy the runtime again", name_.c_str(),
       path_.c_str(), what, why.empty() ? "" : ": ", why.c_str());
}

void Method::set_input(size_t index, const void* data) {
  Input& input = *tensors_[index];
  void* address = const_cast<void*>(data);  // ExecuTorch has no type for constant inputs
  if (input.tensor == nullptr) {
    input.tensor = std::make_unique<et::etensor::TensorImpl>(
        inputs_[index].type, ssize_t(input.sizes.size()), input.sizes.data(), address,
        input.order.data(), input.strides.data());
  } else {
    input.tensor->set_data(address);
  }
  const et::EValue value{et::etensor::Tensor(input.tensor.get())};
  if (method_->set_input(value, index) != et::Error::Ok) failed("refused an input");
}

void Method::resize_input(size_t index, size_t dimension, int64_t size) {
  Input& input = *tensors_[index];
  if (input.sizes[dimension] == size) return;
  input.sizes[dimension] = int32_t(size);
  input.lay_out();
  input.tensor.reset();
}

void Method::set_output(size_t index, void* data) {
  const et::Error error = method_->set_output_data_ptr(data, outputs_[index].bytes, index);
  if (error != et::Error::Ok) failed("refused an output");
}

void Method::check(et::Error error) const {
  if (error == et::Error::Ok) return;
  throw_operator_error();
  check_memory(error);
  failed("failed");
}

void Method::execute() { check(method_->execute()); }

}  // namespace toolkit
