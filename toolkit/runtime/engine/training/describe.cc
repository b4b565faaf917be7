#include "engine/training/describe.h"

#include <algorithm>
#include <cstdlib>

#include "engine/device_info.h"
#include "engine/error.h"
#include "engine/files/json.h"
#include "engine/training/methods/method.h"
#include "engine/training/optimizers/optimizer.h"
#include "kernels/kernels.h"
#include "kernels/tiles.h"

namespace toolkit {
namespace {

template <typename Items, typename TextOf>
std::string array_of(const Items& items, TextOf text_of) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : ",") + text_of(item);
  return "[" + text + "]";
}

Shape shape_from(const std::string& text) {
  char *end = nullptr, *last = nullptr;
  const Shape shape = {strtoll(text.c_str(), &end, 10),
                       *end == 'x' ? strtoll(end + 1, &last, 10) : 0};
  constexpr int64_t kMost = int64_t(1) << 40;  // elements
  const bool sane = shape.rows > 0 && shape.columns > 0 && shape.columns <= kMost / shape.rows;
  if (last == nullptr || *last != 0 || !sane) {
    fail_usage("--shape %s: expected rows x columns, like 8x896. See trainer describe --help",
               text.c_str());
  }
  return shape;
}

std::vector<Shape> shapes_from(const std::string& text) {
  std::vector<Shape> shapes;
  for (size_t begin = 0; !text.empty() && begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    shapes.push_back(shape_from(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return shapes;
}

/// As JSON in the option's type.
std::string json_default(const OptionRow& row, const std::string& text) {
  const bool words = std::holds_alternative<std::string Options::*>(row.member);
  return words ? json_quote(text) : text;
}

const char* type_of(const OptionRow& row) {
  static const char* const names[] = {"text", "whole", "number", "switch"};
  return row.choices.empty() ? names[row.member.index()] : "choice";
}

std::string commands_of(const OptionRow& row, bool (OptionRow::*has)(Command) const) {
  std::vector<std::string> names;
  for (int i = 0; i < kCommands; ++i) {
    if ((row.*has)(Command(i))) names.push_back(command_name(Command(i)));
  }
  return array_of(names, json_quote);
}

std::string option_json(const OptionRow& row) {
  Json json;
  json.field("name", row.name).field("type", type_of(row)).field("unit", row.unit);
  if (row.required != 0) json.null("default");
  if (row.required == 0) json.raw("default", json_default(row, row.text_in(Options())));
  if (!row.choices.empty()) json.raw("choices", array_of(row.choices, json_quote));
  if (row.minimum != row.maximum) {
    json.field("minimum", row.minimum).field("maximum", row.maximum);
  }
  json.raw("commands", commands_of(row, &OptionRow::in));
  json.raw("required_by", commands_of(row, &OptionRow::required_by));
  return json.field("help", row.help).str();
}

/// The options that a method or optimizer reads, with their defaults there.
std::string uses_json(const std::vector<OptionUse>& uses) {
  Json json;
  for (const OptionUse& use : uses) {
    for (const OptionRow& row : option_rows()) {
      if (row.name != use.name) continue;
      const std::string text = use.fallback != nullptr ? use.fallback : row.text_in(Options());
      json.raw(use.name, json_default(row, text));
    }
  }
  return json.str();
}

std::string states_json(const Optimizer& optimizer, Shape shape) {
  const auto state_json = [](const StateSpec& spec) {
    Json json;
    json.field("name", spec.name).field("type", spec.type).field("count", spec.count);
    return json.field("bytes", held_bytes(spec)).str();
  };
  Json json;
  json.raw("shape", format("[%lld,%lld]", (long long)shape.rows, (long long)shape.columns));
  return json.raw("states", array_of(optimizer.states(shape), state_json)).str();
}

std::string optimizer_json(const OptimizerRow& row, const Options& options) {
  const auto optimizer = row.make(with_defaults_of(row, options));
  Json json;
  json.field("name", row.name).field("help", row.help).raw("options", uses_json(row.options));
  json.raw("states", array_of(shapes_from(options.shape),
                              [&](Shape shape) { return states_json(*optimizer, shape); }));
  return json.str();
}

std::string method_json(const MethodRow& row) {
  Json json;
  json.field("name", row.name).field("help", row.help).raw("options", uses_json(row.options));
  json.field("backward", row.backward).field("checkpoints", row.checkpoints);
  json.field("gradients", row.gradients);
  return json.field("updates", row.updates).str();
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names = {kernels().isa};
  for (const Tiles* tiles : kAllTiles) {
    const char* name = tiles->isa;
    if (kernels_for(name) != nullptr && names[0] != name) names.push_back(name);
  }
  return names;
}

template <typename Rows>
void print_rows(const char* title, const Rows& rows, PrintLine print, void* user) {
  print(title, user);
  for (const auto& row : rows) {
    std::string line = std::string("  ") + row.name;
    line.resize(std::max<size_t>(16, line.size() + 1), ' ');
    line += row.help;
    for (const OptionUse& use : row.options) {
      line += std::string(&use == &row.options.front() ? " (" : " ") + "--" + use.name;
    }
    print((line + (row.options.empty() ? "" : ")")).c_str(), user);
  }
}

}  // namespace

void run_describe(const Options& options, PrintLine print, void* user) {
  if (!options.json) {
    if (options.given("shape")) {
      fail_usage("--shape needs --json. See trainer describe --help");
    }
    print_rows("methods (--method):", methods(), print, user);
    print_rows("optimizers (--optimizer):", optimizers(), print, user);
    return;
  }
  Json json;
  json.field("version", kVersion).raw("options", array_of(option_rows(), option_json));
  json.raw("optimizers", array_of(optimizers(), [&](const OptimizerRow& row) {
             return optimizer_json(row, options);
           }));
  json.raw("methods", array_of(methods(), method_json));
  json.raw("instruction_sets", array_of(instruction_sets(), json_quote));
  json.raw("arithmetic", array_of(kArithmetics, json_quote));
  print(json.str().c_str(), user);
}

}  // namespace toolkit
