#include "kernels/error.h"

#include <utility>

namespace toolkit {
namespace {
thread_local std::exception_ptr kept;
}

void keep_operator_error(std::exception_ptr error) { kept = std::move(error); }

void throw_operator_error() {
  if (std::exception_ptr error = std::exchange(kept, nullptr)) std::rethrow_exception(error);
}

}  // namespace toolkit
