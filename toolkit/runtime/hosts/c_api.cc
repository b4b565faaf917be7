#include <memory>
#include <string>

#include "engine/device_info.h"
#include "engine/runtime.h"
#include "engine/training/options.h"
#include "engine/training/trainer.h"
#include "hosts/guarded.h"

struct toolkit_trainer {
  std::unique_ptr<toolkit::Runtime> runtime;  // goes after what lives in it
  std::unique_ptr<toolkit::Trainer> trainer;
  std::string error, notices;
  bool running = true;
};

using toolkit::guarded;
using toolkit::read_options;
using toolkit::thread_error;

namespace {

using Run = void (*)(toolkit::Runtime&, const toolkit::Options&, toolkit::PrintLine, void*);

int run_command(toolkit::Command command, Run run, const toolkit_option* options, size_t count,
                toolkit_line_callback print, void* user) {
  return guarded(thread_error, [&] {
    const toolkit::Options read = read_options(command, options, count);
    toolkit::Runtime runtime(read.threads, read.arithmetic);
    run(runtime, read, print, user);
  });
}

}  // namespace

extern "C" {

int toolkit_trainer_create(const toolkit_option* options, size_t count, toolkit_trainer** trainer) {
  *trainer = nullptr;
  return guarded(thread_error, [&] {
    const toolkit::Options read = read_options(toolkit::Command::train, options, count);
    auto handle = std::make_unique<toolkit_trainer>();
    handle->runtime = std::make_unique<toolkit::Runtime>(read.threads, read.arithmetic);
    handle->trainer = std::make_unique<toolkit::Trainer>(*handle->runtime, read);
    handle->notices = handle->trainer->notices();
    *trainer = handle.release();
  });
}

const char* toolkit_trainer_notices(const toolkit_trainer* trainer) {
  return trainer->notices.c_str();
}

int toolkit_trainer_step(toolkit_trainer* trainer, int32_t* more) {
  const int status = guarded(trainer->error, [&] { trainer->running = trainer->trainer->step(); });
  if (status != 0) trainer->running = false;
  *more = trainer->running;
  return status;
}

void toolkit_trainer_tell_waiting(toolkit_trainer* trainer, toolkit_line_callback waiting,
                                  void* user) {
  if (waiting == nullptr) return trainer->trainer->tell_waiting(nullptr);
  trainer->trainer->tell_waiting(
      [waiting, user](const std::string& cause) { waiting(cause.c_str(), user); });
}

int toolkit_trainer_run(toolkit_trainer* trainer, toolkit_progress_callback callback, void* user) {
  for (int32_t more = 1; more != 0;) {
    const int status = toolkit_trainer_step(trainer, &more);
    if (status != 0) return status;
    if (more == 0 || callback == nullptr) continue;
    toolkit_progress progress;
    toolkit_trainer_progress(trainer, &progress);
    callback(&progress, user);
  }
  return 0;
}

void toolkit_trainer_request_stop(toolkit_trainer* trainer) { trainer->trainer->request_stop(); }

void toolkit_trainer_note(toolkit_trainer* trainer, const char* event, const char* detail) {
  std::string ignored;  // not the trainer's, which belongs to the thread that runs
  guarded(ignored, [&] { trainer->trainer->note(event, detail); });
}

void toolkit_trainer_progress(const toolkit_trainer* trainer, toolkit_progress* progress) {
  const toolkit::StepReport& report = trainer->trainer->report();
  *progress = {
      report.step, report.steps,     report.tokens,  report.peak_kib,  report.loss,
      report.lr,   report.grad_norm, report.seconds, trainer->running, trainer->trainer->stopped()};
}

void toolkit_trainer_close(toolkit_trainer* trainer) { delete trainer; }

const char* toolkit_trainer_last_error(const toolkit_trainer* trainer) {
  return trainer == nullptr ? thread_error.c_str() : trainer->error.c_str();
}

int toolkit_gradients(const toolkit_option* options, size_t count, toolkit_line_callback print,
                      void* user) {
  return run_command(toolkit::Command::gradients, toolkit::run_gradients, options, count, print,
                     user);
}

int toolkit_evaluate(const toolkit_option* options, size_t count, toolkit_line_callback print,
                     void* user) {
  return run_command(toolkit::Command::evaluate, toolkit::run_evaluate, options, count, print,
                     user);
}

int toolkit_replay(const toolkit_option* options, size_t count, toolkit_line_callback print,
                   void* user) {
  return run_command(toolkit::Command::replay, toolkit::run_replay, options, count, print, user);
}

int toolkit_dry_run(const toolkit_option* options, size_t count, toolkit_line_callback print,
                    void* user) {
  return guarded(thread_error, [&] {
    const toolkit::Options read = read_options(toolkit::Command::train, options, count);
    toolkit::Runtime runtime(1, read.arithmetic);  // nothing is computed
    toolkit::run_dry(runtime, read, print, user);
  });
}

int toolkit_describe(const toolkit_option* options, size_t count, toolkit_line_callback print,
                     void* user) {
  return guarded(thread_error, [&] {
    toolkit::run_describe(read_options(toolkit::Command::describe, options, count), print, user);
  });
}

const char* toolkit_info(void) {
  const char* line = nullptr;
  guarded(thread_error, [&] {
    static const std::string text = toolkit::info_json();
    line = text.c_str();
  });
  return line;
}

}  // extern "C"
