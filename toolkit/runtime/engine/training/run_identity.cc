#include "engine/training/run_identity.h"

#include "engine/error.h"
#include "engine/files/json.h"
#include "engine/training/methods/method.h"

namespace toolkit {
namespace {

struct Word {
  const char* name;
  const char* what;  // "was saved with WHAT"; null: with VALUE, not VALUE
  const char* remedy;
  const char* before = nullptr;  // its value in states from before it existed
};

// In the order in which they are compared: what is wrong first is named first.
constexpr Word kWords[] = {
    {"bundle.base", "the weights of another bundle", "Resume with the bundle it was started with"},
    {"bundle.programs", "the programs of another export",
     "Resume with the bundle as it was exported then"},
    {"seq_len", nullptr, "Resume with the data it was started with"},
    {"data", "other data", "Resume with the data it was started with"},
    {"method", nullptr, "Resume with the same --method"},
    {"optimizer", nullptr, "Resume with the same --optimizer"},
    {"sparsity", nullptr, "Resume with the same --sparsity"},
    {"cut", nullptr, "Resume with the same --cut"},
    {"layers", nullptr, "Resume with the same --layers", "all"},
    {"freeze", nullptr, "Resume with the same --freeze", "none"},
    {"arithmetic", nullptr, "Resume with the same --arithmetic", kArithmetics[0]},
    {"seed", nullptr, "Resume with the same --seed"},
    {"order", nullptr, "Resume with the same --order"},
    {"sequences_a_step", nullptr, "Resume with the same --batch-size and --grad-accum"},
};

}  // namespace

std::vector<Field> identity_of(const Options& options, const Bundle& bundle, const Dataset& data,
                               const TrainedLayers& trained) {
  std::vector<Field> fields = {
      {"bundle.base", hexadecimal(bundle.identity().base)},
      {"bundle.programs", hexadecimal(bundle.identity().programs)},
      {"seq_len", std::to_string(data.seq_len())},
      {"data", hexadecimal(data.sha256())},
      {"method", options.method},
      {"optimizer", options.optimizer},
      {"layers", trained.text()},
      {"freeze", options.freeze},
      {"arithmetic", options.arithmetic},
      {"seed", std::to_string(options.seed)},
      {"order", options.order},
      {"sequences_a_step", std::to_string(options.batch_size * options.grad_accum)}};
  // Its limits are those of the adapter that the run began with.
  if (reads(method_row(options.method).options, "sparsity")) {
    fields.push_back({"sparsity", json_number(options.sparsity)});
  }
  if (reads(method_row(options.method).options, "cut")) {
    fields.push_back({"cut", std::to_string(options.cut)});
  }
  return fields;
}

std::vector<Field> settings_of(const Options& options) {
  std::vector<Field> settings;
  for (const OptionValue& option : saved_options(options)) {
    settings.push_back({option.name, option.value});
  }
  return settings;
}

void check_identity(const std::string& path, const std::vector<Field>& saved,
                    const std::vector<Field>& present) {
  for (const Word& word : kWords) {
    const std::string* now = find_field(present, word.name);
    const std::string* found = find_field(saved, word.name);
    const std::string then = found != nullptr ? *found : word.before != nullptr ? word.before : "";
    if (now == nullptr || then == *now) continue;
    std::string what = word.what != nullptr ? word.what : "";
    if (what.empty()) {
      what = std::string(word.name) + " " + (then.empty() ? "unknown" : then) + ", not " + *now;
    }
    fail("%s was saved with %s. %s, or start a new run", path.c_str(), what.c_str(), word.remedy);
  }
}

std::string changed_settings(const std::vector<Field>& saved, const std::vector<Field>& present) {
  std::string changes;
  for (const Field& now : present) {
    const std::string* then = find_field(saved, now.name);
    if (then == nullptr || *then == now.value) continue;
    changes += (changes.empty() ? "" : ", ") + now.name + " " + *then + " -> " + now.value;
  }
  return changes;
}

}  // namespace toolkit
