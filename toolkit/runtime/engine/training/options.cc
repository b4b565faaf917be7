#include "engine/training/options.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <set>
#include <variant>

#include "engine/error.h"
#include "engine/files/json.h"

namespace toolkit {
namespace {

constexpr unsigned kTrain = 1, kGradients = 2, kEvaluate = 4, kAll = 7;

using Member =
    std::variant<std::string Options::*, int64_t Options::*, double Options::*, bool Options::*>;

struct Row {
  const char* name;
  const char* value;  // how help shows it
  Member member;
  unsigned commands;
  unsigned required;
  double minimum, maximum;  // numbers only
  const char* help;
};

constexpr double kMany = 9e15;

const Row kRows[] = {
    {"bundle", "DIR", &Options::bundle, kAll, kAll, 0, 0, "bundle written by toolkit export"},
    {"data", "FILE.ptd", &Options::data, kAll, kAll, 0, 0, "token data written by toolkit data"},
    {"out", "PATH", &Options::out, kTrain | kGradients, kTrain | kGradients, 0, 0,
     "run directory (train) or safetensors file (gradients)"},
    {"steps", "N", &Options::steps, kTrain, kTrain, 1, kMany, "optimizer steps in all"},
    {"lr", "F", &Options::lr, kTrain, 0, 0, 1e3, "learning rate"},
    {"optimizer", "sgd|adamw", &Options::optimizer, kTrain, 0, 0, 0, "update rule"},
    {"batch-size", "N", &Options::batch_size, kTrain | kGradients, 0, 1, 1e4,
     "sequences computed together, by programs for as many tokens as they have in all"},
    {"grad-accum", "N", &Options::grad_accum, kTrain, 0, 1, 1e6,
     "batches per step, one after the other"},
    {"weight-decay", "F", &Options::weight_decay, kTrain, 0, 0, 1e3, "decoupled for adamw"},
    {"beta1", "F", &Options::beta1, kTrain, 0, 0, 0.9999999, "adamw: decay of the first moment"},
    {"beta2", "F", &Options::beta2, kTrain, 0, 0, 0.9999999, "adamw: decay of the second moment"},
    {"eps", "F", &Options::eps, kTrain, 0, 1e-30, 1, "adamw: term in the denominator"},
    {"momentum", "F", &Options::momentum, kTrain, 0, 0, 1, "sgd: momentum, 0 keeps no state"},
    {"max-grad-norm", "F", &Options::max_grad_norm, kTrain, 0, 0, 1e30,
     "clip to this global norm; 0: off, which keeps one block's gradients in memory, not all"},
    {"warmup-steps", "N", &Options::warmup_steps, kTrain, 0, 0, kMany, "steps of rising rate"},
    {"schedule", "constant|linear|cosine", &Options::schedule, kTrain, 0, 0, 0,
     "learning rate after the warm-up"},
    {"seed", "N", &Options::seed, kTrain, 0, 0, kMany, "of the sample order"},
    {"order", "shuffled|sequential", &Options::order, kTrain, 0, 0, 0, "sample order"},
    {"threads", "N", &Options::threads, kAll, 0, 0, 256, "0: the device's fast cores"},
    {"checkpoints", "auto|ram|spill", &Options::checkpoints, kTrain, 0, 0, 0,
     "where the blocks' inputs wait for the backward pass"},
    {"page-cache", "auto|keep|drop", &Options::page_cache, kAll, 0, 0, 0,
     "of weights that were used; auto keeps them if all fit into free memory"},
    {"save-every", "N", &Options::save_every, kTrain, 0, 0, kMany,
     "save every so many steps; 0: not by steps"},
    {"save-minutes", "F", &Options::save_minutes, kTrain, 0, 0, 1e6,
     "and every so many minutes; 0: not by time. Without --save-every saves are so far apart that "
     "they write at most 1 GB an hour"},
    {"resume", nullptr, &Options::resume, kTrain, 0, 0, 0, "continue the run in --out"},
    {"adapter", "FILE.ptd", &Options::adapter, kAll, 0, 0, 0,
     "start from this adapter instead of the bundle's"},
    {"samples", "I,J,..", &Options::samples, kGradients, kGradients, 0, 0, "samples of the step"},
    {"eval-data", "FILE.ptd", &Options::eval_data, kTrain, 0, 0, 0, "held-out token data"},
    {"eval-every", "N", &Options::eval_every, kTrain, 0, 0, kMany,
     "steps; 0: before the first and after the last step"},
    {"max-samples", "N", &Options::max_samples, kTrain | kEvaluate, 0, 0, kMany,
     "evaluate on the first N samples; 0: all"},
    {"trace", "full|steps|off", &Options::trace, kTrain, 0, 0, 0, "detail of trace.jsonl"},
};

unsigned bit(Command command) { return 1u << int(command); }

const Row* find_row(Command command, const std::string& name) {
  for (const Row& row : kRows) {
    if (name == row.name && (row.commands & bit(command)) != 0) return &row;
  }
  return nullptr;
}

[[noreturn]] void fail_unknown(Command command, const std::string& name) {
  fail_usage("trainer %s has no option --%s. See trainer %s --help", command_name(command),
             name.c_str(), command_name(command));
}

bool in_choices(const std::string& choices, const std::string& value) {
  return ("|" + choices + "|").find("|" + value + "|") != std::string::npos;
}

void assign(Options& options, const Row& row, const std::string& text) {
  const auto wrong = [&](const char* expected) {
    fail_usage("--%s %s: expected %s. See --help", row.name, text.c_str(), expected);
  };
  if (auto member = std::get_if<std::string Options::*>(&row.member)) {
    const std::string choices = row.value;
    if (choices.find('|') != std::string::npos && !in_choices(choices, text)) wrong(row.value);
    if (text.empty()) wrong(row.value);
    options.*(*member) = text;
  } else if (auto flag = std::get_if<bool Options::*>(&row.member)) {
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
      wrong(format("%.10g to %.10g", row.minimum, row.maximum).c_str());
    }
    if (whole) options.*std::get<int64_t Options::*>(row.member) = integer;
    if (!whole) options.*std::get<double Options::*>(row.member) = number;
  }
}

}  // namespace

const char* command_name(Command command) {
  static const char* const names[] = {"train", "gradients", "evaluate"};
  return names[int(command)];
}

Options parse_options(Command command, const std::vector<OptionValue>& values) {
  Options options;
  std::set<std::string> seen;
  for (const OptionValue& option : values) {
    const Row* row = find_row(command, option.name);
    if (row == nullptr) fail_unknown(command, option.name);
    assign(options, *row, option.value);
    seen.insert(option.name);
  }
  options.save_every_given = seen.count("save-every") > 0;
  for (const Row& row : kRows) {
    if ((row.required & bit(command)) != 0 && seen.count(row.name) == 0) {
      fail_usage("trainer %s needs --%s %s. See trainer %s --help", command_name(command), row.name,
                 row.value, command_name(command));
    }
  }
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
    const Row* row = find_row(command, name);
    if (row == nullptr) fail_unknown(command, name);
    if (row->value == nullptr) {
      values.push_back({name, "true"});
    } else if (equals != std::string::npos) {
      values.push_back({name, words[i].substr(equals + 1)});
    } else if (i + 1 == words.size()) {
      fail_usage("--%s needs a value: %s. See trainer %s --help", name.c_str(), row->value,
                 command_name(command));
    } else {
      values.push_back({name, words[++i]});
    }
  }
  return values;
}

std::string settings_json(const Options& options) {
  Json json;
  for (const Row& row : kRows) {
    if ((row.commands & kTrain) == 0) continue;
    std::string name = row.name;
    for (char& c : name) c = c == '-' ? '_' : c;
    std::visit([&](auto member) { json.field(name.c_str(), options.*member); }, row.member);
  }
  return json.str();
}

std::string option_text(const Options& options, const std::string& name) {
  const Row* row = find_row(Command::train, name);
  if (row == nullptr) fail_unknown(Command::train, name);
  if (auto word = std::get_if<std::string Options::*>(&row->member)) return options.*(*word);
  if (auto integer = std::get_if<int64_t Options::*>(&row->member)) {
    return std::to_string(options.*(*integer));
  }
  if (auto number = std::get_if<double Options::*>(&row->member)) {
    return json_number(options.*(*number));
  }
  return options.*std::get<bool Options::*>(row->member) ? "true" : "false";
}

std::string help_text(Command command) {
  static const char* const summaries[] = {
      "Train a bundle's adapter; trace, adapter and resume state go to the run directory.",
      "Compute one step's loss and gradients without changing anything; prints a JSON line.",
      "Compute loss and perplexity of an adapter; prints JSON lines.",
  };
  static const char* const examples[] = {
      "trainer train --bundle bundles/smol --data data/chat/train.ptd --out runs/a --steps 50",
      ("trainer gradients --bundle bundles/smol --data data/chat/train.ptd --samples 0,1 --out "
       "g.safetensors"),
      "trainer evaluate --bundle bundles/smol --data data/chat/validation.ptd",
  };
  const Options defaults;
  std::string text = std::string("usage: trainer ") + command_name(command) + " [options]\n\n" +
                     summaries[int(command)] + "\n\noptions:\n";
  for (const Row& row : kRows) {
    if ((row.commands & bit(command)) == 0) continue;
    std::string left = std::string("  --") + row.name;
    if (row.value != nullptr) left += std::string(" ") + row.value;
    left.resize(left.size() < 36 ? 36 : left.size() + 1, ' ');
    text += left + row.help;
    if ((row.required & bit(command)) != 0) {
      text += " (required)";
    } else if (auto word = std::get_if<std::string Options::*>(&row.member)) {
      if (!(defaults.*(*word)).empty()) text += " (default " + defaults.*(*word) + ")";
    } else if (auto integer = std::get_if<int64_t Options::*>(&row.member)) {
      text += " (default " + std::to_string(defaults.*(*integer)) + ")";
    } else if (auto number = std::get_if<double Options::*>(&row.member)) {
      text += " (default " + json_number(defaults.*(*number)) + ")";
    }
    text += "\n";
  }
  return text + "\nexample:\n  " + examples[int(command)] + "\n";
}

std::vector<int64_t> parse_indices(const std::string& text, int64_t limit) {
  std::vector<int64_t> indices;
  for (size_t begin = 0; begin <= text.size();) {
    size_t comma = text.find(',', begin);
    if (comma == std::string::npos) comma = text.size();
    const std::string word = text.substr(begin, comma - begin);
    char* end = nullptr;
    const int64_t index = strtoll(word.c_str(), &end, 10);
    if (word.empty() || *end != 0 || index < 0 || index >= limit) {
      fail_usage("--samples %s: expected numbers from 0 to %lld. See --help", text.c_str(),
                 (long long)(limit - 1));
    }
    indices.push_back(index);
    begin = comma + 1;
  }
  return indices;
}

}  // namespace toolkit
