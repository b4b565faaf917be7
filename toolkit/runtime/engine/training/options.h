// Options of the trainer's commands: one table gives parsing, help and the trace's settings.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace toolkit {

struct Options {
  std::string bundle, data, out, adapter, eval_data;
  std::string optimizer = "adamw", schedule = "constant", order = "shuffled";
  std::string checkpoints = "auto", page_cache = "auto", trace = "full", samples;
  int64_t steps = 0, batch_size = 1, grad_accum = 1, warmup_steps = 0, seed = 0, threads = 0;
  int64_t save_every = 50, eval_every = 0, max_samples = 0;
  double lr = 1e-4, weight_decay = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, momentum = 0;
  double max_grad_norm = 0, save_minutes = 2;
  bool resume = false;
  bool save_every_given = false;  // not the default
};

enum class Command { train, gradients, evaluate };

// One option as "name" (without dashes) and its value; a switch like `resume` has the value "true".
struct OptionValue {
  std::string name, value;
};

// Throws UsageError for unknown names, values that do not parse or are out of range, and missing
// ones.
Options parse_options(Command command, const std::vector<OptionValue>& values);

// "--name value" and "--name=value" words to pairs. Throws UsageError.
std::vector<OptionValue> split_arguments(Command command, const std::vector<std::string>& words);

// All options of `train` as a JSON object, names with underscores.
std::string settings_json(const Options& options);

// The value of an option of `train` as text.
std::string option_text(const Options& options, const std::string& name);

std::string help_text(Command command);
const char* command_name(Command command);

// "3,1,4" to numbers, each in [0, limit). Throws UsageError.
std::vector<int64_t> parse_indices(const std::string& text, int64_t limit);

}  // namespace toolkit
