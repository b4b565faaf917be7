// Trainers as the app knows them: by number, safe to use from any thread and after they were
// closed.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "hosts/toolkit_trainer.h"

namespace toolkit::jni {

// One trainer. Steps exclude each other; a request to stop never waits for one.
class Session {
 public:
  explicit Session(toolkit_trainer* trainer) : trainer_(trainer) { copy_progress(); }
  ~Session() { toolkit_trainer_close(trainer_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Returns the engine's status; `error` is set when it is not 0. `waiting` is told what
  // toolkit_trainer_tell_waiting() says, on this thread.
  int step(bool* more, std::string* error, toolkit_line_callback waiting, void* user);
  void request_stop() { toolkit_trainer_request_stop(trainer_); }
  void note(const char* event, const char* detail);
  toolkit_progress progress() const;

 private:
  void copy_progress();

  toolkit_trainer* const trainer_;
  std::mutex steps_;
  mutable std::mutex copies_;
  toolkit_progress progress_ = {};
};

// Opens a trainer and returns its number, or 0 with status and error. A second one at a time is
// refused, also while a step of a closed one is still running.
int64_t open_session(const toolkit_option* options, size_t count, int* status, std::string* error);
// Null when there is none of this number (any more).
std::shared_ptr<Session> find_session(int64_t number);
// Lets go of a session; it ends once the calls in it have returned. Closing twice does nothing.
void close_session(int64_t number);

}  // namespace toolkit::jni
