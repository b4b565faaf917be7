#include "hosts/generate.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "engine/error.h"
#include "engine/files/json.h"
#include "engine/memory/memory_stats.h"
#include "hosts/reply_json.h"

namespace toolkit {
namespace {

// A file is looked at again after so long, the longer it has had nothing new.
constexpr int kLeastMilliseconds = 5, kMostMilliseconds = 100;

struct Request {
  int64_t number = 0;      // from 1 on, those to cancel left out; every answer has it
  std::string word, rest;  // what is to be done, and with what
};

// Lines that a thread reads, so that `cancel` is heard while a reply is made. It takes back all
// requests before it and none behind it.
class Requests {
 public:
  // `file` is a descriptor; `grows`: there may be more after its end.
  Requests(int file, bool grows) : file_(file), grows_(grows) {
    std::thread([this] { read_all(); }).detach();
  }

  // False once there are no more.
  bool next(Request* request) {
    std::unique_lock<std::mutex> lock(mutex_);
    filled_.wait(lock, [this] { return ended_ || !requests_.empty(); });
    if (requests_.empty()) return false;
    *request = std::move(requests_.front());
    requests_.pop_front();
    return true;
  }
  bool cancelled(const Request& request) {
    std::lock_guard<std::mutex> lock(mutex_);
    return request.number <= cancelled_;
  }

 private:
  void read_all() {
    std::string line;
    char bytes[4096];
    int pause = kLeastMilliseconds;
    while (true) {
      const ssize_t count = read(file_, bytes, sizeof(bytes));
      if (count < 0 && errno == EINTR) continue;
      if (count == 0 && grows_) {
        poll(nullptr, 0, pause);
        pause = std::min(pause + 1, kMostMilliseconds);
        continue;
      }
      if (count <= 0) break;
      pause = kLeastMilliseconds;
      for (ssize_t i = 0; i < count; ++i) {
        if (bytes[i] != '\n') {
          line += bytes[i];
          continue;
        }
        take(line);
        line.clear();
      }
    }
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    filled_.notify_one();
  }

  void take(const std::string& line) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (line == "cancel") {
      cancelled_ = last_;
      return;
    }
    const size_t space = std::min(line.find(' '), line.size());
    const std::string rest = space < line.size() ? line.substr(space + 1) : "";
    requests_.push_back({++last_, line.substr(0, space), rest});
    filled_.notify_one();
  }

  const int file_;
  const bool grows_;
  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<Request> requests_;
  int64_t last_ = 0, cancelled_ = 0;
  bool ended_ = false;
};

// A line that nobody reads ends the command: nothing is kept that would have to be put away.
void print(const Json& json) {
  if (printf("%s\n", json.str().c_str()) < 0 || fflush(stdout) != 0) {
    fprintf(stderr, "error: nobody reads what this command prints. Start it again\n");
    _exit(130);
  }
}

Json answer_of(const char* type, const Request& request) {
  Json json;
  json.field("type", type).field("request", request.number);
  return json;
}

void fail_request(const Request& request, int status, const std::string& message) {
  print(answer_of("failed", request).field("status", status).field("message", message));
}

// False where a word is no number of a token.
bool read_tokens(const std::string& text, std::vector<int32_t>* tokens) {
  const char* at = text.c_str();
  while (*at != 0) {
    char* end = nullptr;
    const long token = strtol(at, &end, 10);
    if (end == at || (*end != 0 && *end != ' ') || token < 0 || token > INT32_MAX) return false;
    tokens->push_back(int32_t(token));
    at = *end == ' ' ? end + 1 : end;
  }
  return true;
}

class Session {
 public:
  Session(toolkit_generator* generator, Requests& requests)
      : generator_(generator), requests_(requests) {}

  void answer(const Request& request) {
    if (request.word == "set") return set(request);
    const bool reply = request.word == "reply";
    if (!reply && request.word != "score") {
      return fail_request(request, 2,
                          "'" + request.word + "' is no request. Use set, reply, score or cancel");
    }
    std::vector<int32_t> tokens;
    if (!read_tokens(request.rest, &tokens)) {
      return fail_request(request, 2,
                          request.word + " takes numbers of tokens. See trainer generate --help");
    }
    if (reply) {
      make_reply(request, tokens);
    } else {
      score(request, tokens);
    }
  }

 private:
  void set(const Request& request) {
    const std::string& text = request.rest;
    const size_t space = std::min(text.find(' '), text.size());
    const std::string name = text.substr(0, space);
    const std::string value = space < text.size() ? text.substr(space + 1) : "";
    const toolkit_option option{name.c_str(), value.c_str()};
    check(request, toolkit_generator_set(generator_, &option, 1));
  }

  void make_reply(const Request& request, const std::vector<int32_t>& tokens) {
    struct Context {
      Requests& requests;
      const Request& request;
    } context{requests_, request};
    const auto tell = [](const toolkit_reply_event* event, void* user) -> int32_t {
      const auto* context = static_cast<Context*>(user);
      Json json = answer_of(event->token >= 0 ? "token" : "prompt", context->request);
      if (event->token >= 0) {
        json.field("token", event->token);
      } else {
        json.field("done", event->prompt_done).field("total", event->prompt_tokens);
      }
      print(json);
      return !context->requests.cancelled(context->request);
    };
    toolkit_reply r;
    if (!check(request, toolkit_generator_reply(generator_, tokens.data(), tokens.size(), tell,
                                                &context, &r))) {
      return;
    }
    Json json = answer_of("reply", request);
    add_reply(r, &json);
    print(json);
  }

  void score(const Request& request, const std::vector<int32_t>& numbers) {
    const size_t count = numbers.size() - std::min<size_t>(numbers.size(), 1);
    const size_t given = count > 0 ? size_t(numbers[0]) : 0;
    if (count == 0 || given > count) {
      return fail_request(request, 2,
                          "score takes how many tokens are given, and as many or more tokens");
    }
    std::vector<double> found(count - given);
    if (!check(request, toolkit_generator_score(generator_, numbers.data() + 1, count, given,
                                                found.data()))) {
      return;
    }
    std::string list;
    for (const double value : found) list += (list.empty() ? "" : ",") + json_number(value);
    print(answer_of("score", request).raw("log_probabilities", "[" + list + "]"));
  }

  bool check(const Request& request, int status) {
    if (status == 0) return true;
    fail_request(request, status, toolkit_generator_last_error(generator_));
    return false;
  }

  toolkit_generator* const generator_;
  Requests& requests_;
};

}  // namespace

int run_generate(const std::vector<OptionValue>& values,
                 const std::vector<toolkit_option>& options) {
  const char* requests = nullptr;
  for (const OptionValue& option : values) {
    if (option.name == "requests") requests = option.value.c_str();
  }
  const int file = requests == nullptr ? STDIN_FILENO : open(requests, O_RDONLY | O_CLOEXEC);
  if (file < 0) fail_errno("read", requests);
  toolkit_generator* generator = nullptr;
  const int status = toolkit_generator_create(options.data(), options.size(), &generator);
  if (status != 0) {
    fprintf(stderr, "error: %s\n", toolkit_generator_last_error(nullptr));
    return status;
  }
  give_back_code();
  Json ready;
  ready.field("type", "ready").field("context", toolkit_generator_context(generator));
  print(ready);
  Requests& lines = *new Requests(file, requests != nullptr);  // outlives the thread that reads
  Session session(generator, lines);
  for (Request request; lines.next(&request);) session.answer(request);
  toolkit_generator_close(generator);
  return 0;
}

}  // namespace toolkit
