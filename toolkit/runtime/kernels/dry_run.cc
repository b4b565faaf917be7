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

/// Products that do nothing, with packed operands of their true sizes.
Arithmetic no_products(const std::string& name) {
  Arithmetic result{};
  result.name = name == "float32" ? "float32" : "fixed16";
  if (name == "float32") {
    result.step = kQuantGroup;
    result.left_bytes = float32::left_bytes;
    result.right_bytes = float32::right_bytes;
    result.buffer_bytes = float32::buffer_bytes;
  } else if (name == "fixed16") {
    result.step = fixed16::kStretch * kQuantGroup;
    result.left_bytes = fixed16::left_bytes;
    result.right_bytes = fixed16::right_bytes;
    result.buffer_bytes = fixed16::buffer_bytes;
  } else {
    throw UsageError("no arithmetic is named '" + name + "'. Name float32 or fixed16");
  }
  result.pack_left = Nothing<decltype(result.pack_left)>::call;
  result.pack_ones = Nothing<decltype(result.pack_ones)>::call;
  result.pack_right = Nothing<decltype(result.pack_right)>::call;
  result.multiply_groups = Nothing<decltype(result.multiply_groups)>::call;
  return result;
}

Primitives nothing(const std::string& isa, const std::string& arithmetic) {
  const Tiles* tiles = tiles_of(isa.c_str());
  if (tiles == nullptr) {
    std::string names;
    for (const Tiles* known : kAllTiles)
      names += (names.empty() ? "" : ", ") + std::string(known->isa);
    throw UsageError("no instruction set is named '" + isa + "'. Name one of " + names);
  }
  Primitives result{};
  result.tiles = *tiles;
  result.float32 = no_products("float32");
  const bool floats = arithmetic == "float32";
  const int64_t most = floats ? few_rows::kMostFloat32 : tiles->few_rows;
  result.few_rows = {most, Nothing<decltype(RowProducts::pack_row)>::call,
                     Nothing<decltype(RowProducts::multiply_panel)>::call};
#define TOOLKIT_NOTHING(name, parameters) result.name = Nothing<decltype(result.name)>::call;
  TOOLKIT_ROW_PRIMITIVES(TOOLKIT_NOTHING)
#undef TOOLKIT_NOTHING
  return result;
}

}  // namespace

DryRun::DryRun(const std::string& isa, int threads, const std::string& arithmetic)
    : primitives_(nothing(isa, arithmetic)),
      arithmetic_(no_products(arithmetic)),
      kernels_(primitives_.tiles.isa, primitives_,
               arithmetic == "float32" ? primitives_.float32 : arithmetic_, primitives_.few_rows),
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

size_t DryRun::take_read() { return std::exchange(most_read_, 0); }

void DryRun::read(size_t bytes) {
  read_ += bytes;
  most_read_ = std::max(most_read_, read_);
}

}  // namespace toolkit
