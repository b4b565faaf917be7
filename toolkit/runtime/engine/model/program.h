// An ExecuTorch program, its constant methods, and methods whose inputs and outputs belong to the
// caller.
#pragma once

#include <executorch/extension/data_loader/mmap_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/runtime/executor/program.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/files/flat_tensor.h"
#include "engine/memory/memory.h"

namespace toolkit {

class Program {
 public:
  explicit Program(const std::string& path);  // throws Error when missing or corrupt

  bool has_method(const std::string& name) const;
  // Values of constant methods; a missing one or one of another type throws Error.
  int64_t integer(const char* name) const;
  double number(const char* name) const;
  std::string text(const char* name) const;
  std::vector<int64_t> integers(const char* name) const;
  std::vector<std::string> texts(const std::string& name) const;

  const executorch::runtime::Program& get() const { return *program_; }
  const std::string& path() const { return path_; }

 private:
  template <typename Visit>
  void constants(const std::string& name, Visit visit) const;

  std::string path_;
  std::unique_ptr<executorch::extension::MmapDataLoader> loader_;
  std::unique_ptr<executorch::runtime::Program> program_;
};

// The planned memory of methods that never run at the same time.
class Arena {
 public:
  void reserve(size_t bytes);  // before any method is loaded
  void allocate();
  uint8_t* data() const { return static_cast<uint8_t*>(buffer_.data()); }
  size_t bytes() const { return bytes_; }
  // Gives back what a method of `bytes`, the next to run, does not use.
  void prepare(size_t bytes);

 private:
  size_t bytes_ = 0, in_use_ = 0;
  Buffer buffer_;
};

// Planned bytes of a method; throws Error when it does not exist.
size_t planned_bytes(const Program& program, const std::string& method);

// ExecuTorch's own, whose callers do not all look whether there was memory: this one throws
// std::bad_alloc.
class HeapAllocator : public executorch::extension::MallocMemoryAllocator {
 public:
  void* allocate(size_t size, size_t alignment = kDefaultAlignment) override;
};

class Method {
 public:
  // Names label inputs and outputs in binding order; throws Error when their number differs. The
  // planned memory is that of the arena from `place`, a multiple of 64, on.
  Method(const Program& program, const std::string& name, const std::vector<std::string>& inputs,
         const std::vector<std::string>& outputs, Arena& arena, size_t place = 0);
  ~Method();
  Method(const Method&) = delete;
  Method& operator=(const Method&) = delete;

  struct Port {
    std::string name;
    ScalarType type;
    std::vector<int32_t> sizes;
    int64_t bytes;
  };
  const std::vector<Port>& inputs() const { return inputs_; }
  const std::vector<Port>& outputs() const { return outputs_; }
  size_t planned() const { return planned_; }

  // Memory stays the caller's and must hold the port's bytes until execute() returns.
  void set_input(size_t index, const void* data);
  // The same of an input that is smaller than the port in one dimension, in a method that allows
  // that; from then on.
  void resize_input(size_t index, size_t dimension, int64_t size);
  void set_output(size_t index, void* data);
  void execute();  // throws Error
  // Executes the next instruction; false, and ready for the first again, when there was none left.
  // Throws Error.
  bool step();

 private:
  struct Input;
  void check(executorch::runtime::Error error) const;
  [[noreturn]] void failed(const char* what) const;

  std::string name_;
  std::string path_;
  std::vector<Port> inputs_, outputs_;
  std::vector<std::unique_ptr<Input>> tensors_;
  size_t planned_ = 0;
  HeapAllocator allocator_;
  std::vector<executorch::runtime::Span<uint8_t>> planned_spans_;
  std::unique_ptr<executorch::runtime::HierarchicalAllocator> planned_memory_;
  std::unique_ptr<executorch::runtime::MemoryManager> manager_;
  std::unique_ptr<executorch::runtime::Method> method_;
};

}  // namespace toolkit
