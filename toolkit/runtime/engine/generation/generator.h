// Replies to prompts, token by token, and the probabilities of texts. What a prompt has in common
// with the text before it is not computed again, for every adapter apart.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/generation/model.h"
#include "engine/generation/sampler.h"
#include "engine/memory/memory_stats.h"
#include "engine/training/options.h"

namespace toolkit {

// What happened: so much of a prompt was computed, or, where `token` is not negative, one was
// chosen. A long text may have to be computed once more in the middle of a reply, as a prompt is.
struct ReplyEvent {
  int32_t token = -1;
  int64_t prompt_done = 0, prompt_tokens = 0;
};

struct ReplyReport {
  const char* reason = "";  // stop, length, context or cancel
  int64_t prompt_tokens = 0, reused_tokens = 0, tokens = 0;
  int64_t computed_tokens = 0;  // of the prompt, in prompt_seconds; fewer where that was cancelled
  double prompt_seconds = 0, seconds = 0;  // to the first choice, and from there on
  int64_t cache_bytes = 0, adapter_bytes = 0;
  MemoryReading memory;  // at the end, and the peak of the reply
};

class Generator {
 public:
  // With the options of `trainer generate`. The open Runtime must outlive it. Throws Error.
  explicit Generator(const Options& options);

  const Bundle& bundle() const { return model_.bundle(); }
  int64_t context() const { return context_; }

  // Called on the thread that asked; false ends the reply.
  using OnEvent = std::function<bool(const ReplyEvent&)>;
  // `options` may differ from the constructor's in all but bundle, threads, context and
  // arithmetic. Throws Error, after which another reply may be asked for.
  ReplyReport reply(const Options& options, const std::vector<int32_t>& prompt,
                    const OnEvent& event);
  // The log probability of every token from place `first` on, 1 at least, given those before it.
  std::vector<double> score(const Options& options, const std::vector<int32_t>& tokens,
                            int64_t first);

 private:
  // Tells whether a file is the one that was read.
  struct FileState {
    uint64_t device = 0, inode = 0;
    int64_t bytes = 0, seconds = 0, nanoseconds = 0;
    bool operator==(const FileState& other) const;
  };
  // A text that was computed with one adapter.
  struct Text {
    Buffer values;  // none without an adapter
    FileState file;
    std::unique_ptr<KvCache> cache;
    std::vector<int32_t> tokens;  // of the cache
    bool is_long = false;
    int64_t used = 0;  // the later the larger
  };
  using Computed = std::function<bool(int64_t first, int64_t count)>;

  static FileState state_of(const std::string& adapter);
  Text& text_of(const std::string& adapter);
  void forget_oldest();
  void check_tokens(const std::vector<int32_t>& tokens) const;
  int64_t reuse(Text& text, const std::vector<int32_t>& tokens, int64_t most);
  bool feed(Text& text, const std::vector<int32_t>& tokens, int64_t part, const Computed& computed);
  int64_t part_of(const Options& options) const;

  GenerationModel model_;
  int64_t context_;
  std::map<std::string, Text> texts_;  // by the adapter's path, the last ones used
  int64_t uses_ = 0;
  TokenSampler sampler_;
  ProcReader memory_;
};

}  // namespace toolkit
