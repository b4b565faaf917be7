#include "engine/training/options.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "engine/error.h"
#include "engine/files/json.h"
#include "engine/training/methods/method.h"
#include "engine/training/optimizers/optimizer.h"

namespace toolkit {
namespace {

constexpr unsigned kTrain = 1, kGradients = 2, kEvaluate = 4, kDescribe = 8, kGenerate = 16;
constexpr unsigned kReplay = 32;
constexpr unsigned kSaved = 1 << 8;
constexpr unsigned kRuns = kTrain | kGradients | kEvaluate, kEvery = kRuns | kGenerate | kReplay;
constexpr double kMany = 9e15;

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> result;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('|', begin), text.size());
    result.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return result;
}

template <size_t count>
std::vector<std::string> words_of(const char* const (&names)[count]) {
  return {names, names + count};
}

template <typename Rows>
std::vector<std::string> names_of(const Rows& rows) {
  std::vector<std::string> names;
  for (const auto& row : rows) names.push_back(row.name);
  return names;
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : "|") + item;
  return text;
}

std::string dashed(std::string name) {
  for (char& c : name) c = c == '_' ? '-' : c;
  return name;
}

const OptionRow* find_row(Command command, const std::string& name) {
  for (const OptionRow& row : option_rows()) {
    if (name == row.name && row.in(command)) return &row;
  }
  return nullptr;
}

[[noreturn]] void fail_unknown(Command command, const std::string& name) {
  fail_usage("trainer %s has no option --%s. See trainer %s --help", command_name(command),
             name.c_str(), command_name(command));
}

/// The option of `train` that a method or an optimizer reads.
const OptionRow& row_of(const OptionUse& use) {
  if (const OptionRow* row = find_row(Command::train, use.name)) return *row;
  fail("trainer train has no option --%s. Report this as a bug", use.name);
}

void assign(Options& options, const OptionRow& row, const std::string& text) {
  const auto wrong = [&](const std::string& expected) {
    fail_usage("--%s %s: expected %s. See --help", row.name.c_str(), text.c_str(),
               expected.c_str());
  };
  if (auto member = std::get_if<std::string Options::*>(&row.member)) {
    bool known = row.choices.empty();
    for (const std::string& choice : row.choices) known = known || choice == text;
    if (!known || text.empty()) wrong(row.value);
    options.*(*member) = text;
  } else if (auto flag = std::get_if<bool Options::*>(&row.member)) {
    if (text != "true" && text != "false") wrong("true or false");
    options.*(*flag) = text == "true";
  } else {
    char* end = nullptr;
    errno = 0;
    const bool whole = std::holds_alternative<int64_t Options::*>(row.member);
    const int64_t integer = whole ? strtoll(text.c_str(), &end, 10) : 0;
    const double number = whole ? double(integer) : strtod(text.c_str(), &end);
    if (end == text.c_str() || *end != 0 || errno == ERANGE || !std::isfinite(number)) {
      wrong(whole ? "a whole number" : "a number");
    }
    if (number < row.minimum || number > row.maximum) {
      wrong(format("%.10g to %.10g", row.minimum, row.maximum));
    }
    if (whole) options.*std::get<int64_t Options::*>(row.member) = integer;
    if (!whole) options.*std::get<double Options::*>(row.member) = number;
  }
}

void fill_in(Options& options, const std::vector<OptionUse>& uses) {
  for (const OptionUse& use : uses) {
    if (use.fallback == nullptr || options.given(use.name)) continue;
    assign(options, row_of(use), use.fallback);
  }
}

/// Gives options that only some methods or optimizers read the defaults of the chosen one, and
/// refuses those that it does not read.
template <typename Row>
void settle(Options& options, const char* kind, const Row& chosen, const std::vector<Row>& rows) {
  fill_in(options, chosen.options);
  for (const Row& row : rows) {
    for (const OptionUse& use : row.options) {
      if (reads(chosen.options, use.name)) continue;
      const OptionRow& option = row_of(use);
      if (option.text_in(options) == option.text_in(Options())) continue;
      fail_usage("--%s is an option of --%s %s, and %s does not read it. Leave it away", use.name,
                 kind, row.name, chosen.name);
    }
  }
}

/// Methods that change the adapter themselves do what sgd does with their estimate.
void settle_optimizer(Options& options) {
  if (!method_row(options.method).updates) return;
  if (options.given("optimizer") && options.optimizer != "sgd") {
    fail_usage(
        "--method %s changes the adapter itself, as --optimizer sgd would, not %s. Leave "
        "--optimizer away",
        options.method.c_str(), options.optimizer.c_str());
  }
  if (options.momentum != 0) {
    fail_usage("--method %s keeps no momentum. Leave --momentum away", options.method.c_str());
  }
  options.optimizer = "sgd";
}

}  // namespace

const std::vector<OptionRow>& option_rows() {
#define TEXT(member, fallback, shown, commands, required, help) \
  {dashed(#member), &Options::member, shown, {}, "", commands, required, 0, 0, help},
#define CHOICE(member, fallback, choices, commands, help) \
  {dashed(#member), &Options::member, joined(choices), choices, "", commands, 0, 0, 0, help},
#define WHOLE(member, fallback, unit, commands, required, minimum, maximum, help) \
  {dashed(#member), &Options::member, "N", {}, unit, commands, required, minimum, maximum, help},
#define NUMBER(member, fallback, unit, commands, required, minimum, maximum, help) \
  {dashed(#member), &Options::member, "F", {}, unit, commands, required, minimum, maximum, help},
#define SWITCH(member, commands, help) \
  {dashed(#member), &Options::member, "", {}, "", commands, 0, 0, 0, help},
  static const std::vector<OptionRow> rows = {
#include "engine/training/options.def"
  };
  return rows;
}

Options with_options(Command command, Options options, const std::vector<OptionValue>& values) {
  for (const OptionValue& option : values) {
    const OptionRow* row = find_row(command, option.name);
    if (row == nullptr) fail_unknown(command, option.name);
    assign(options, *row, option.value);
    options.names.insert(option.name);
  }
  return options;
}

Options parse_options(Command command, const std::vector<OptionValue>& values) {
  Options options = with_options(command, {}, values);
  for (const OptionRow& row : option_rows()) {
    if (row.required_by(command) && !options.given(row.name.c_str())) {
      fail_usage("trainer %s needs --%s %s. See trainer %s --help", command_name(command),
                 row.name.c_str(), row.value.c_str(), command_name(command));
    }
  }
  if (command == Command::train) {
    settle_optimizer(options);
    settle(options, "optimizer", optimizer_row(options.optimizer), optimizers());
    settle(options, "method", method_row(options.method), methods());
  }
  return options;
}

Options with_defaults_of(const OptimizerRow& optimizer, Options options) {
  fill_in(options, optimizer.options);
  return options;
}

std::vector<OptionValue> split_arguments(Command command, const std::vector<std::string>& words) {
  std::vector<OptionValue> values;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].size() < 3 || words[i].compare(0, 2, "--") != 0) {
      fail_usage("'%s' is not an option. See trainer %s --help", words[i].c_str(),
                 command_name(command));
    }
    const size_t equals = words[i].find('=');
    const std::string name = words[i].substr(2, equals == std::string::npos ? equals : equals - 2);
    const OptionRow* row = find_row(command, name);
    if (row == nullptr) fail_unknown(command, name);
    if (equals != std::string::npos) {
      values.push_back({name, words[i].substr(equals + 1)});
    } else if (row->value.empty()) {
      values.push_back({name, "true"});
    } else if (i + 1 == words.size()) {
      fail_usage("--%s needs a value: %s. See trainer %s --help", name.c_str(), row->value.c_str(),
                 command_name(command));
    } else {
      values.push_back({name, words[++i]});
    }
  }
  return values;
}

std::string settings_json(const Options& options) {
  Json json;
  for (const OptionRow& row : option_rows()) {
    if (!row.in(Command::train)) continue;
    std::string name = row.name;
    for (char& c : name) c = c == '-' ? '_' : c;
    std::visit([&](auto member) { json.field(name.c_str(), options.*member); }, row.member);
  }
  return json.str();
}

std::vector<OptionValue> saved_options(const Options& options) {
  std::vector<OptionValue> saved;
  for (const OptionRow& row : option_rows()) {
    if ((row.commands & kSaved) != 0) saved.push_back({row.name, row.text_in(options)});
  }
  return saved;
}

std::string OptionRow::text_in(const Options& options) const {
  if (auto word = std::get_if<std::string Options::*>(&member)) return options.*(*word);
  if (auto integer = std::get_if<int64_t Options::*>(&member)) {
    return std::to_string(options.*(*integer));
  }
  if (auto number = std::get_if<double Options::*>(&member)) return json_number(options.*(*number));
  return options.*std::get<bool Options::*>(member) ? "true" : "false";
}

std::vector<int64_t> parse_indices(const char* option, const std::string& text, int64_t limit) {
  std::vector<int64_t> indices;
  for (size_t begin = 0; begin <= text.size();) {
    size_t comma = text.find(',', begin);
    if (comma == std::string::npos) comma = text.size();
    const std::string word = text.substr(begin, comma - begin);
    char* end = nullptr;
    const int64_t index = strtoll(word.c_str(), &end, 10);
    if (word.empty() || *end != 0 || index < 0 || index >= limit) {
      fail_usage("--%s %s: expected numbers from 0 to %lld. See --help", option, text.c_str(),
                 (long long)(limit - 1));
    }
    indices.push_back(index);
    begin = comma + 1;
  }
  return indices;
}

}  // namespace toolkit
