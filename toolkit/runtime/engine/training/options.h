// Options of the trainer's commands: one table gives parsing, help, the trace's settings and
// `trainer describe`.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "kernels/kernels.h"

namespace toolkit {

struct Options {
#define TEXT(member, fallback, ...) std::string member = fallback;
#define CHOICE(member, fallback, ...) std::string member = fallback;
#define WHOLE(member, fallback, ...) int64_t member = fallback;
#define NUMBER(member, fallback, ...) double member = fallback;
#define SWITCH(member, ...) bool member = false;
#include "engine/training/options.def"
  // Names of those that were given, not left at their defaults.
  std::set<std::string> names;
  bool given(const char* name) const { return names.count(name) > 0; }
};

enum class Command { train, gradients, evaluate, describe, generate, replay };
constexpr int kCommands = 6;

// One option as "name" (without dashes) and its value; a switch like `resume` has the value "true".
struct OptionValue {
  std::string name, value;
};

// Throws UsageError for unknown names, values that do not parse or are out of range, missing ones,
// and those that the chosen method or optimizer does not read.
Options parse_options(Command command, const std::vector<OptionValue>& values);

struct OptimizerRow;
// The same options with the optimizer's own defaults for those that were not given.
Options with_defaults_of(const OptimizerRow& optimizer, Options options);

// "--name value" and "--name=value" words to pairs. Throws UsageError.
std::vector<OptionValue> split_arguments(Command command, const std::vector<std::string>& words);

// All options of `train` as a JSON object, names with underscores.
std::string settings_json(const Options& options);

// Those that change what a run computes and may change when it is resumed, as text.
std::vector<OptionValue> saved_options(const Options& options);

std::string help_text(Command command);
const char* command_name(Command command);

// `options` with others of the same command, which need not be complete. Throws as parse_options.
Options with_options(Command command, Options options, const std::vector<OptionValue>& values);

// "3,1,4", the value of an option, to numbers, each in [0, limit). Throws UsageError.
std::vector<int64_t> parse_indices(const char* option, const std::string& text, int64_t limit);

// The table.
struct OptionRow {
  using Member =
      std::variant<std::string Options::*, int64_t Options::*, double Options::*, bool Options::*>;
  std::string name;
  Member member;
  std::string value;                 // how help shows it; empty for a switch
  std::vector<std::string> choices;  // empty: any
  const char* unit;
  unsigned commands, required;  // bits
  double minimum, maximum;      // numbers only
  const char* help;

  bool in(Command command) const { return (commands & 1u << int(command)) != 0; }
  bool required_by(Command command) const { return (required & 1u << int(command)) != 0; }
  std::string text_in(const Options& options) const;
};
const std::vector<OptionRow>& option_rows();

}  // namespace toolkit
