// A method's instructions one by one.
#include "engine/model/program.h"

// ExecuTorch marks what this needs as experimental, by an attribute that compilers warn of.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace toolkit {

using executorch::runtime::Error;

bool Method::step() {
  const Error error = method_->step();
  check(error == Error::EndOfMethod ? method_->reset_execution() : error);
  return error == Error::Ok;
}

}  // namespace toolkit
