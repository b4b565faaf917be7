// What the functions of the C API share: exceptions become status codes and messages.
#pragma once

#include <exception>
#include <string>
#include <vector>

#include "engine/error.h"
#include "engine/training/options.h"
#include "hosts/toolkit_trainer.h"

namespace toolkit {

// Of this thread's last call that had nothing to keep its message.
inline thread_local std::string thread_error;

// Where even the message finds no memory, this one does: it is stored in the string itself.
inline void tell(std::string& error, const std::exception* cause) noexcept {
  try {
    error = cause != nullptr ? message_of(*cause) : "unknown failure. Report this as a bug";
  } catch (const std::exception&) {
    error = "out of memory";
  }
}

// Runs a body; an exception becomes a status code and a message.
template <typename Body>
int guarded(std::string& error, Body body) noexcept {
  try {
    body();
    return 0;
  } catch (const UsageError& e) {
    tell(error, &e);
    return 2;
  } catch (const std::exception& e) {
    tell(error, &e);
  } catch (...) {
    tell(error, nullptr);
  }
  return 1;
}

inline std::vector<OptionValue> option_values(const toolkit_option* options, size_t count) {
  std::vector<OptionValue> values;
  for (size_t i = 0; i < count; ++i) values.push_back({options[i].name, options[i].value});
  return values;
}

inline Options read_options(Command command, const toolkit_option* options, size_t count) {
  return parse_options(command, option_values(options, count));
}

}  // namespace toolkit
