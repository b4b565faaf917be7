#include "hosts/jni/session.h"

namespace toolkit::jni {
namespace {

std::mutex table;
int64_t open_number = 0, last_number = 0;
std::shared_ptr<Session> open_one;
std::weak_ptr<Session> latest;  // outlives `open_one` while a call is in it

}  // namespace

int Session::step(bool* more, std::string* error, toolkit_line_callback waiting, void* user) {
  std::lock_guard<std::mutex> lock(steps_);
  toolkit_trainer_tell_waiting(trainer_, waiting, user);
  int32_t running = 0;
  const int status = toolkit_trainer_step(trainer_, &running);
  toolkit_trainer_tell_waiting(trainer_, nullptr, nullptr);
  if (status != 0) *error = toolkit_trainer_last_error(trainer_);
  *more = running != 0;
  copy_progress();
  return status;
}

void Session::note(const char* event, const char* detail) {
  toolkit_trainer_note(trainer_, event, detail);
}

void Session::copy_progress() {
  toolkit_progress now;
  toolkit_trainer_progress(trainer_, &now);
  std::lock_guard<std::mutex> lock(copies_);
  progress_ = now;
}

toolkit_progress Session::progress() const {
  std::lock_guard<std::mutex> lock(copies_);
  return progress_;
}

int64_t open_session(const toolkit_option* options, size_t count, int* status, std::string* error) {
  std::lock_guard<std::mutex> lock(table);
  if (!latest.expired()) {
    *status = 1;
    *error = "another run is open in this app. Stop it first";
    return 0;
  }
  toolkit_trainer* trainer = nullptr;
  *status = toolkit_trainer_create(options, count, &trainer);
  if (*status != 0) {
    *error = toolkit_trainer_last_error(nullptr);
    return 0;
  }
  open_one = std::make_shared<Session>(trainer);
  latest = open_one;
  return open_number = ++last_number;
}

std::shared_ptr<Session> find_session(int64_t number) {
  std::lock_guard<std::mutex> lock(table);
  return number != 0 && number == open_number ? open_one : nullptr;
}

void close_session(int64_t number) {
  // Declared before the lock, so that the trainer is freed after the table is unlocked.
  std::shared_ptr<Session> closed;
  std::lock_guard<std::mutex> lock(table);
  if (number == 0 || number != open_number) return;
  open_number = 0;
  closed.swap(open_one);
}

}  // namespace toolkit::jni
