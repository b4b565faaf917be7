// Errors: one sentence of cause and one of remedy. They are thrown inside the runtime and turned
// into status codes where C or ExecuTorch's frames begin.
#pragma once

#include <exception>
#include <stdexcept>

namespace toolkit {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A wrong command line or environment; the executable exits with 2 instead of 1.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// ExecuTorch knows error numbers only and its frames may not unwind: an operator that fails keeps
/// the exception here, for the caller of the method on the same thread.
void keep_operator_error(std::exception_ptr error);

/// Throws what an operator kept since the last call, if anything.
void throw_operator_error();

}  // namespace toolkit
