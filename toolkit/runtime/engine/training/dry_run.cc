// What a run will hold and write: its first steps with everything in place and nothing computed.
#include <algorithm>
#include <numeric>

#include "engine/device_info.h"
#include "engine/error.h"
#include "engine/memory/dry_step.h"
#include "engine/training/trainer.h"

namespace toolkit {
namespace {

// With the second one all that grows has grown.
constexpr int64_t kSteps = 2;

int64_t labelled_sample(const Dataset& data) {
  int64_t sample = 0;
  while (data.labelled(sample) == 0) ++sample;  // a data set without any is refused
  return sample;
}

// A run's parts as a Trainer has them, without files.
class DryRunOfTraining {
 public:
  DryRunOfTraining(Runtime& runtime, const Options& options)
      : options_(options),
        method_row_(method_row(options.method)),
        bundle_(options.bundle),
        data_(options.data, bundle_),
        trace_(runtime.profile()),
        step_(options.threads > 0 ? int(options.threads) : fast_core_count()),
        network_(network_of(data_.seq_len(), method_row_.backward)),
        prefetcher_(bundle_.base().file(), PageCache::keep),
        passes_(*network_, data_, trace_, prefetcher_, options.batch_size) {
    runtime_bytes_ = resident_now().total_kib * 1024;
    const AdapterLayout& layout = network_->adapter();
    trained_ = std::make_unique<TrainedLayers>(options.layers, layout);
    const std::vector<size_t> parts = bytes_of_state(options, layout, *trained_);
    const size_t bytes = std::accumulate(parts.begin(), parts.end(), size_t(0));
    state_ = choose_place(checkpoints_from(options.state), int64_t(bytes), memory_available_kib());
    if (state_.spilled) spill_ = std::make_unique<SpillFile>(options.out, parts);
    values_ = std::make_unique<LayerMemory>(layout.begins_from(0), Category::adapters,
                                            "toolkit adapters", spill_.get());
    updater_ = std::make_unique<Updater>(options, layout, *trained_, *values_, spill_.get());
    passes_.put_away(*values_);
    method_ = method_row_.make(
        {options_, *network_, passes_, *trained_, *updater_, trace_, spill_.get()});
  }

  void run() {
    if (!options_.eval_data.empty()) evaluate();
    const std::vector<int64_t> samples(options_.batch_size * options_.grad_accum,
                                       labelled_sample(data_));
    for (int64_t step = 1; step <= kSteps; ++step) {
      const int64_t spilled = spilled_bytes(), changed = changed_bytes();
      method_->step(samples, {0, step});
      spilled_ = spilled_bytes() - spilled;
      changed_ = changed_bytes() - changed;
    }
  }

  std::string json() const;

 private:
  std::unique_ptr<Network> network_of(int64_t seq_len, bool backward) const {
    const int64_t tokens = row_tokens(bundle_, seq_len, options_.batch_size);
    const int64_t together =
        method_row_.together == nullptr ? 1 : method_row_.together(options_, tokens);
    return std::make_unique<Network>(bundle_, tokens, backward, options_.freeze == "a", together);
  }
  void evaluate();
  int64_t spilled_bytes() const {
    const HiddenStates* states = method_->checkpoints();
    return states != nullptr ? states->spilled_bytes() : 0;
  }
  int64_t changed_bytes() const { return spill_ != nullptr ? spill_->changed_bytes() : 0; }
  int64_t state_file_bytes() const;
  int64_t saved_bytes() const;
  int64_t storage_bytes() const;

  const Options& options_;
  const MethodRow& method_row_;
  const Bundle bundle_;
  const Dataset data_;
  Trace trace_;
  DryStep step_;
  const std::unique_ptr<Network> network_;
  Prefetcher prefetcher_;
  Passes passes_;
  CheckpointChoice state_;
  std::unique_ptr<SpillFile> spill_;
  std::unique_ptr<TrainedLayers> trained_;
  std::unique_ptr<LayerMemory> values_;
  std::unique_ptr<Updater> updater_;
  std::unique_ptr<StepMethod> method_;
  int64_t runtime_bytes_ = 0, spilled_ = 0, changed_ = 0;
};

void DryRunOfTraining::evaluate() {
  const Dataset data(options_.eval_data, bundle_);
  std::unique_ptr<Network> other;
  if (data.seq_len() != network_->seq_len()) {
    other = std::make_unique<Network>(bundle_, data.seq_len(), false);
  }
  Passes passes(other != nullptr ? *other : *network_, data, trace_, prefetcher_);
  passes.put_away(*values_);
  const int64_t limit = options_.max_samples;
  const int64_t samples = limit > 0 ? std::min(limit, data.samples()) : data.samples();
  const auto once = [](int64_t, const LossSum&) { return true; };
  passes.evaluate(samples, values_->floats(), kEvaluationMemory, once);
}

// Of the adapter with what else a resume needs.
int64_t DryRunOfTraining::state_file_bytes() const {
  std::vector<StateArray> arrays = updater_->arrays();
  for (StateArray& array : method_->arrays()) arrays.push_back(std::move(array));
  return bytes_of(arrays);
}

// The adapter for use, the state, and the adapter once more where it is kept (trainer_saving.cc).
int64_t DryRunOfTraining::saved_bytes() const {
  return (options_.keep_checkpoints > 0 ? 2 : 1) * int64_t(values_->bytes()) + state_file_bytes();
}

// What is there while a save is written: each file beside its next version, kept adapters and the
// next of them, and what is in files while the run goes on.
int64_t DryRunOfTraining::storage_bytes() const {
  const int64_t adapter = int64_t(values_->bytes());
  int64_t bytes = adapter + 2 * state_file_bytes();
  if (options_.keep_checkpoints > 0) bytes += (options_.keep_checkpoints + 1) * adapter;
  if (options_.keep == "best") bytes += 3 * adapter;
  const HiddenStates* states = method_->checkpoints();
  if (states != nullptr && states->spilled()) bytes += states->choice().bytes;
  return bytes + (state_.spilled ? state_.bytes : 0);
}

std::string DryRunOfTraining::json() const {
  Json memory;
  for (int i = 0; i < kCategories; ++i) {
    const Category category = Category(i);
    const int64_t more = category == Category::runtime ? runtime_bytes_ : 0;
    memory.field(category_name(category), step_.held(category) + more);
  }
  Json json;
  json.field("peak_bytes", step_.peak() + runtime_bytes_).field("phase", step_.phase());
  json.raw("memory", memory.str());
  const HiddenStates* states = method_->checkpoints();
  if (states != nullptr) json.raw("checkpoints", choice_json(states->choice()));
  json.raw("state", choice_json(state_));
  json.field("spilled_bytes", spilled_).field("state_bytes", changed_);
  json.field("saved_bytes", saved_bytes()).field("storage_bytes", storage_bytes());
  return json.str();
}

}  // namespace

void run_dry(Runtime& runtime, const Options& options, PrintLine print, void* user) {
  if (options.method == "split") {
    fail_usage("--method split has a part on a computer, which a dry run does not ask");
  }
  DryRunOfTraining run(runtime, options);
  run.run();
  print(run.json().c_str(), user);
}

}  // namespace toolkit
