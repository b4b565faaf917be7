// Parts of trainer_probe. Each runs on words of the command line and throws Error.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace toolkit::probe {

using Words = std::vector<std::string>;

struct Part {
  const char* name;
  size_t words;  // at the least
  void (*run)(const Words&);
};

int64_t integer(const std::string& word);
double number(const std::string& word);

// How whole runs hold on to and let go of what they need of the process.
std::vector<Part> run_parts();
// Programs that run side by side.
std::vector<Part> together_parts();

}  // namespace toolkit::probe
