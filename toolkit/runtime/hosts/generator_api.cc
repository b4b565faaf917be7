// The functions of the C API that generate.
#include <algorithm>
#include <memory>
#include <tuple>

#include "engine/generation/generator.h"
#include "engine/runtime.h"
#include "hosts/guarded.h"

struct toolkit_generator {
  toolkit::Options options;
  std::unique_ptr<toolkit::Runtime> runtime;  // goes after what lives in it
  std::unique_ptr<toolkit::Generator> generator;
  std::string error;
};

using toolkit::Command;
using toolkit::guarded;
using toolkit::thread_error;

extern "C" {

int toolkit_generator_create(const toolkit_option* options, size_t count,
                             toolkit_generator** generator) {
  *generator = nullptr;
  return guarded(thread_error, [&] {
    auto handle = std::make_unique<toolkit_generator>();
    handle->options = toolkit::read_options(Command::generate, options, count);
    const toolkit::Options& read = handle->options;
    handle->runtime = std::make_unique<toolkit::Runtime>(read.threads, read.arithmetic);
    handle->generator = std::make_unique<toolkit::Generator>(handle->options);
    *generator = handle.release();
  });
}

int toolkit_generator_set(toolkit_generator* generator, const toolkit_option* options,
                          size_t count) {
  return guarded(generator->error, [&] {
    const toolkit::Options& old = generator->options;
    const toolkit::Options set =
        toolkit::with_options(Command::generate, old, toolkit::option_values(options, count));
    const auto fixed = [](const toolkit::Options& o) {
      return std::tie(o.bundle, o.threads, o.context, o.arithmetic);
    };
    if (fixed(set) != fixed(old)) {
      toolkit::fail_usage(
          "bundle, threads, context and arithmetic stay as they are. Open another generator");
    }
    generator->options = set;
  });
}

int toolkit_generator_reply(toolkit_generator* generator, const int32_t* tokens, size_t count,
                            toolkit_reply_callback callback, void* user, toolkit_reply* reply) {
  *reply = {};
  return guarded(generator->error, [&] {
    const toolkit::ReplyReport found = generator->generator->reply(
        generator->options, {tokens, tokens + count}, [&](const toolkit::ReplyEvent& event) {
          const toolkit_reply_event told{event.token, event.prompt_done, event.prompt_tokens};
          return callback == nullptr || callback(&told, user) != 0;
        });
    *reply = {found.reason,          found.prompt_tokens,   found.reused_tokens,
              found.computed_tokens, found.tokens,          found.prompt_seconds,
              found.seconds,         found.cache_bytes,     found.adapter_bytes,
              found.memory.rss_anon, found.memory.rss_file, found.memory.hwm};
  });
}

int toolkit_generator_score(toolkit_generator* generator, const int32_t* tokens, size_t count,
                            size_t first, double* log_probabilities) {
  return guarded(generator->error, [&] {
    const std::vector<double> found =
        generator->generator->score(generator->options, {tokens, tokens + count}, int64_t(first));
    std::copy(found.begin(), found.end(), log_probabilities);
  });
}

int64_t toolkit_generator_context(const toolkit_generator* generator) {
  return generator->generator->context();
}

void toolkit_generator_close(toolkit_generator* generator) { delete generator; }

const char* toolkit_generator_last_error(const toolkit_generator* generator) {
  return generator == nullptr ? thread_error.c_str() : generator->error.c_str();
}

}  // extern "C"
