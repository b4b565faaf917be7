#include "kernels/dry_run.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/error.h"

namespace toolkit {
namespace {

thread_local DryRun* current_run = nullptr;

template <typename Function>
struct Nothing;
template <typename... Parameters>
struct Nothing<void (*)(Parameters...)> {
  static void call(Parameters...) {}
};

/// Primitives that do nothing, and packed operands of their true sizes.
Primitives nothing(const std::string& isa) {
  const Tiles* tiles = tiles_of(isa.c_str());
  if (tiles == nullptr) {
    throw UsageError("no instruction set is named '" + isa +
                     "'. Name one of plain, avx2, avx512, neon");
  }
  Primitives result{};
  result.tiles = *tiles;
  Arithmetic& products = result.float32;
  products.name = "float32";
  products.left_bytes = float32::left_bytes;
  products.right_bytes = float32::right_bytes;
  products.buffer_bytes = float32::buffer_bytes;
  products.pack_left = Nothing<decltype(products.pack_left)>::call;
  products.pack_ones = Nothing<decltype(products.pack_ones)>::call;
  products.pack_right = Nothing<decltype(products.pack_right)>::call;
  products.multiply_group = Nothing<decltype(products.multiply_group)>::call;
#define TOOLKIT_NOTHING(name, parameters) result.name = Nothing<decltype(result.name)>::call;
  TOOLKIT_ROW_PRIMITIVES(TOOLKIT_NOTHING)
#undef TOOLKIT_NOTHING
  return result;
}

}  // namespace

DryRun::DryRun(const std::string& isa, int threads)
    : primitives_(nothing(isa)),
      kernels_(primitives_, primitives_.float32),
      threads_(threads),
      outer_(current_run) {
  if (threads < 1) throw UsageError("a dry run needs at least one thread");
  current_run = this;
}

DryRun::~DryRun() { current_run = outer_; }

DryRun* DryRun::current() { return current_run; }

void* DryRun::take(size_t bytes) {
  constexpr uintptr_t kNowhere = uintptr_t{1} << 30;
  void* result = reinterpret_cast<void*>(kNowhere + in_use_);
  in_use_ += bytes;
  peak_ = std::max(peak_, in_use_);
  return result;
}

size_t DryRun::take_peak() { return std::exchange(peak_, in_use_); }

}  // namespace toolkit
