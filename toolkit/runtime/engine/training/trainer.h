// One training run, step by step.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/dataset.h"
#include "engine/model/network.h"
#include "engine/runtime.h"
#include "engine/trace/trace.h"
#include "engine/training/describe.h"
#include "engine/training/kept_adapters.h"
#include "engine/training/methods/method.h"
#include "engine/training/options.h"
#include "engine/training/passes.h"
#include "engine/training/run_identity.h"
#include "engine/training/sampler.h"
#include "engine/training/save_schedule.h"
#include "engine/training/schedule.h"
#include "engine/training/state.h"
#include "engine/training/updater.h"

namespace toolkit {

struct StepReport {
  int64_t step = 0, steps = 0;  // done, in all
  double loss = 0, lr = 0, grad_norm = 0, seconds = 0;
  int64_t tokens = 0;    // computed, prompts and padding included
  int64_t labelled = 0;  // that the loss is the mean of
  int64_t peak_kib = 0;  // of the step
};

class Trainer {
 public:
  // Opens everything and, with --resume, continues where the run was saved. A run that was
  // completed before is over at once and leaves its files as they are. The Runtime must outlive the
  // trainer. Throws Error.
  Trainer(Runtime& runtime, const Options& options);
  ~Trainer();

  // Runs one step with what belongs to it (evaluation, saving). Returns false once the run is over,
  // completed (before its last step where --patience ran out) or stopped; everything is saved then.
  // Where a save finds the storage full, it is tried again until there is room or a stop is
  // requested. Throws Error, after which the run is over as well.
  bool step();
  // The run ends at the next step boundary; a step that has changed nothing yet is dropped and
  // computed when the run goes on. Safe in signal handlers and other threads.
  void request_stop() { stop_ = true; }
  bool stopped() const { return stopped_; }
  // Has a step tell that a save waits for storage that is full, and why; and, with an empty text,
  // that it waits no more.
  void tell_waiting(std::function<void(const std::string& cause)> waiting) {
    waiting_ = std::move(waiting);
  }
  // Adds an event to the trace; safe in other threads.
  void note(const char* event, const std::string& detail) { trace_->event(event, detail); }
  const StepReport& report() const { return report_; }
  // What happened at the start, as the trace's events have it: a line each, "event: detail".
  std::string notices() const;

 private:
  void open_run();
  void open_model();
  void make_room_for_state();
  void start();
  void write_run_record();
  void restore();
  bool nothing_left() const;
  std::string kept() const;
  int64_t resume();
  void take_adapter(const RunState& saved);
  int64_t taken_step() const;
  int64_t session_end() const;
  std::vector<StateArray> state_arrays() const;
  RunState run_state() const;
  bool train_step();
  bool end_run(bool stop);
  int64_t spilled_bytes() const;
  int64_t changed_bytes() const { return spill_ != nullptr ? spill_->changed_bytes() : 0; }
  // Has what was read or filled leave memory, if it is in a file.
  Visited put_away() const;
  // What is made of losses on held-out data; trainer_held_out.cc.
  void check_held_out() const;
  void evaluate();
  void write_best();
  void tell_best(int64_t written);
  bool goes_by_held_out() const { return options_.patience > 0 || keeps_best(); }
  bool keeps_best() const { return options_.keep == "best"; }
  bool out_of_patience() const;
  bool was_not_evaluated() const;
  int64_t held_out_samples() const;
  std::string held_out_content() const;
  void recall_held_out(const RunState& saved);
  void remember_held_out(RunState& state) const;
  std::string why_early() const;
  void settle_kept();
  void save_if_due();
  void save();
  void write_save();
  void when_there_is_room(const std::function<void()>& write);
  std::vector<NamedTensor> adapter_tensors() const;
  void wait_for_storage();
  bool stop_requested();
  void finish(const char* status, const std::string& error);
  void write_step(const StepReport& report, const std::vector<int64_t>& samples,
                  int64_t spilled_bytes, int64_t state_bytes);
  std::string path(const char* name) const { return options_.out + "/" + name; }

  Runtime& runtime_;
  const Options options_;
  const KeptAdapters best_, checkpoints_;
  std::atomic<bool> stop_{false};
  bool stopped_ = false, over_ = false, started_ = false;
  double opened_at_ = 0;
  StepReport report_;
  int64_t sequences_per_step_ = 0;
  HeldOut held_out_, saved_held_out_;  // now, and as the state has it
  int64_t saved_step_ = -1, evaluated_step_ = -1, resumed_from_ = -1;
  std::unique_ptr<char[]> spare_;  // memory to tell with that there is none
  int64_t counted_bytes_ = 0;      // written up to the last step's record, and by saves since
  bool stretch_told_ = false;
  std::function<void(const std::string&)> waiting_;

  std::unique_ptr<Trace> trace_;
  std::unique_ptr<Bundle> bundle_;
  std::unique_ptr<Dataset> data_, eval_data_;
  std::unique_ptr<Network> network_, eval_network_;
  std::unique_ptr<SpillFile> spill_;  // of the state; null: that is in RAM
  std::unique_ptr<Prefetcher> prefetcher_;
  std::unique_ptr<Passes> passes_, eval_passes_;
  std::unique_ptr<TrainedLayers> trained_;
  std::unique_ptr<Updater> updater_;
  std::unique_ptr<StepMethod> method_;
  std::unique_ptr<Sampler> sampler_;
  std::unique_ptr<SaveSchedule> saves_;
  std::vector<Field> identity_;      // what --resume must find the same
  std::vector<Field> start_events_;  // event and detail
  std::string started_from_;         // SHA-256 of the adapter it began with or took last
  std::string taken_;                // "STEP SHA-256" of the adapter that it took; empty: none
  Schedule schedule_;
  double lr_floor_ = 0;  // share of the learning rate
  CheckpointChoice state_place_;
  std::unique_ptr<LayerMemory> values_;
};

// A choice of checkpoints.h as JSON: place, bytes, reason.
std::string choice_json(const CheckpointChoice& choice);

// The `gradients`, `evaluate` and `replay` commands; each result line is given to `print`.
void run_gradients(Runtime& runtime, const Options& options, PrintLine print, void* user);
void run_evaluate(Runtime& runtime, const Options& options, PrintLine print, void* user);
void run_replay(Runtime& runtime, const Options& options, PrintLine print, void* user);
// What a step of `train` with these options would hold and write, in a line of JSON; `runtime` may
// have fewer threads than the options say. Reads the bundle's programs and the data, computes and
// stores nothing. Throws Error, UsageError for --method split, which needs its computer.
void run_dry(Runtime& runtime, const Options& options, PrintLine print, void* user);

}  // namespace toolkit
