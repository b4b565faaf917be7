// When a run saves, how it waits for storage that is full, and how it is asked to stop.
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "engine/error.h"
#include "engine/files/files.h"
#include "engine/training/trainer.h"

namespace toolkit {
namespace {

constexpr std::chrono::milliseconds kRetry(3000), kGlance(100);

}  // namespace

bool Trainer::stop_requested() {
  struct stat status;
  const std::string file = path("stop");
  if (stat(file.c_str(), &status) == 0) {
    remove_file(file);
    stop_ = true;
  }
  return stop_;
}

void Trainer::save_if_due() {
  if (saves_->due(report_.step, 1e-9 * double(trace_->now()))) save();
  if (!saves_->stretched() || stretch_told_) return;
  stretch_told_ = true;
  trace_->event("saves_apart", format("saves are %.1f minutes apart, so that they write no more "
                                      "than 1 GB an hour",
                                      saves_->least_interval() / 60));
}

std::string Trainer::kept() const {
  if (saved_step_ >= 0) {
    return format(" (the state of step %lld is kept)", (long long)saved_step_);
  }
  if (file_exists(path("state.bin"))) return " (the saved state is kept)";
  return report_.step > 0 ? " (nothing was saved yet)" : "";
}

void Trainer::save() {
  trace_->flush();  // The trace of a run that is killed has every step that its state counts on.
  if (spill_ != nullptr) spill_->check();
  when_there_is_room([this] { write_save(); });
}

void Trainer::when_there_is_room(const std::function<void()>& write) {
  for (bool told = false;; told = true) {
    try {
      write();
      if (told && waiting_) waiting_("");
      return;
    } catch (const StorageFull& full) {
      if (!told && waiting_) waiting_(full.cause());  // Also of a stop that will not wait.
      if (stop_requested()) throw;
      if (!told) trace_->event("waiting_for_storage", full.cause());
      trace_->flush();  // What was written in part is gone again and leaves room for this.
    }
    wait_for_storage();
  }
}

void Trainer::wait_for_storage() {
  const auto end = std::chrono::steady_clock::now() + kRetry;
  while (std::chrono::steady_clock::now() < end && !stop_requested()) {
    std::this_thread::sleep_for(kGlance);
  }
}

void Trainer::write_save() {
  Phase phase(*trace_, "save");
  const int64_t before = trace_->written_bytes();
  const std::vector<NamedTensor> adapter = adapter_tensors();
  method_->saving();
  if (options_.keep_checkpoints > 0) checkpoints_.write(report_.step, adapter, put_away());
  write_safetensors(path("adapter_model.safetensors"), adapter, put_away());
  save_state(path("state.bin"), run_state(), state_arrays(), put_away());
  saved_held_out_ = held_out_;
  if (keeps_best()) best_.keep([&](int64_t step) { return step == held_out_.best_step; });
  if (options_.keep_checkpoints > 0) checkpoints_.keep_last(options_.keep_checkpoints);
  const int64_t written = trace_->written_bytes() - before;
  counted_bytes_ += written;
  saved_step_ = report_.step;
  phase.end();
  saves_->saved(1e-9 * double(trace_->now()));
  trace_->record("event", Json()
                              .field("t", trace_->now())
                              .field("event", "saved")
                              .field("detail", format("step %lld", (long long)report_.step))
                              .field("step", report_.step)
                              .field("written_bytes", written));
}

std::vector<NamedTensor> Trainer::adapter_tensors() const {
  const AdapterLayout& layout = network_->adapter();
  return named_tensors(layout, all_layers(layout), values_->floats(),
                       bundle_->identity().adapter_prefix);
}

}  // namespace toolkit
