// What a run writes into its trace about itself.
#include "engine/device_info.h"
#include "engine/training/trainer.h"
#include "kernels/parallel.h"

namespace toolkit {

std::string choice_json(const CheckpointChoice& choice) {
  return Json()
      .field("place", choice.spilled ? "spill" : "ram")
      .field("bytes", choice.bytes)
      .field("reason", choice.reason)
      .str();
}

void Trainer::write_run_record() {
  Json json;
  json.field("version", 1).field("toolkit", kVersion);
  if (bundle_ != nullptr)
    json.field("model", bundle_->model_name).field("lowering", bundle_->lowering);
  if (resumed_from_ >= 0) json.field("resumed_from", resumed_from_);
  if (resumed_from_ < 0) json.null("resumed_from");
  json.field("time_unix", opened_at_).raw("settings", settings_json(options_));
  if (network_ != nullptr) {
    json.raw("bundle", Json()
                           .field("layers", bundle_->layers)
                           .field("hidden_size", bundle_->hidden_size)
                           .field("vocab_size", bundle_->vocab_size)
                           .field("seq_len", data_->seq_len())
                           .field("rank", bundle_->rank)
                           .field("alpha", bundle_->alpha)
                           .field("base_bytes", bundle_->base().size())
                           .field("adapter_parameters", network_->adapter().parameters())
                           .field("programs_sha256", hexadecimal(bundle_->identity().programs))
                           .field("base_sha256", hexadecimal(bundle_->identity().base))
                           .field("adapter_sha256", started_from_)
                           .field("tokenizer", bundle_->identity().tokenizer.name)
                           .str());
    json.raw("data", Json()
                         .field("sequences", data_->samples())
                         .field("sha256", hexadecimal(data_->sha256()))
                         .field("tokenizer", data_->tokenizer())
                         .str());
  }
  if (values_ != nullptr) json.raw("state", choice_json(state_place_));
  const HiddenStates* states = method_ != nullptr ? method_->checkpoints() : nullptr;
  if (states != nullptr) json.raw("checkpoints", choice_json(states->choice()));
  json.raw("device", device_json(threads(), trace_->can_reset_peak()));
  trace_->record("run", json);
  started_ = true;
}

void Trainer::write_step(const StepReport& report, const std::vector<int64_t>& samples,
                         int64_t spilled_bytes, int64_t state_bytes) {
  // What became dirty since the last step, with its trace but without saves, which are counted
  // where they are recorded. Spilled states that overwrite pages not yet on storage cost nothing
  // there, and the kernel does not count them.
  const int64_t written = trace_->written_bytes() - counted_bytes_;
  counted_bytes_ += written;
  std::string list;
  for (int64_t sample : samples) list += (list.empty() ? "" : ",") + std::to_string(sample);
  trace_->record("step", Json()
                             .field("step", report.step)
                             .field("t", trace_->now())
                             .field("seconds", report.seconds)
                             .field("loss", report.loss)
                             .field("lr", report.lr)
                             .field("tokens", report.tokens)
                             .field("labelled", report.labelled)
                             .field("grad_norm", report.grad_norm)
                             .field("peak", report.peak_kib)
                             .raw("samples", "[" + list + "]")
                             .field("written_bytes", written)
                             .field("spilled_bytes", spilled_bytes)
                             .field("state_bytes", state_bytes));
}

}  // namespace toolkit
