#include "engine/generation/generator.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <tuple>

#include "engine/error.h"

namespace toolkit {
namespace {

constexpr char kNone[] = "none";
constexpr size_t kTexts = 2;  // that are kept: a comparison goes to and fro between two

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Sampling sampling_of(const Options& options) {
  Sampling sampling;
  sampling.temperature = options.temperature;
  sampling.top_k = options.top_k;
  sampling.top_p = options.top_p;
  sampling.min_p = options.min_p;
  sampling.repetition_penalty = options.repetition_penalty;
  sampling.seed = uint64_t(options.seed);
  return sampling;
}

// However a reply ends, what it took is given back.
struct Resting {
  GenerationModel& model;
  ~Resting() { model.rest(); }
};

std::vector<int32_t> stops_of(const Options& options, int64_t vocab) {
  if (options.stop_tokens.empty() || options.stop_tokens == kNone) return {};
  const std::vector<int64_t> read = parse_indices("stop-tokens", options.stop_tokens, vocab);
  return {read.begin(), read.end()};
}

}  // namespace

Generator::Generator(const Options& options) : model_(options.bundle) {
  context_ = model_.context();
  if (options.context > 0) context_ = std::min(context_, options.context);
  text_of(options.adapter);
}

bool Generator::FileState::operator==(const FileState& other) const {
  const auto all = [](const FileState& s) {
    return std::tie(s.device, s.inode, s.bytes, s.seconds, s.nanoseconds);
  };
  return all(*this) == all(other);
}

// Of a file that is not there, or of no adapter: that of nothing.
Generator::FileState Generator::state_of(const std::string& adapter) {
  struct stat s{};
  if (adapter == kNone || stat(adapter.c_str(), &s) != 0) return {};
  return {uint64_t(s.st_dev), uint64_t(s.st_ino), int64_t(s.st_size), int64_t(s.st_mtim.tv_sec),
          int64_t(s.st_mtim.tv_nsec)};
}

void Generator::forget_oldest() {
  const auto earlier = [](const auto& a, const auto& b) { return a.second.used < b.second.used; };
  texts_.erase(std::min_element(texts_.begin(), texts_.end(), earlier));
}

// A file that another one has replaced is read again.
Generator::Text& Generator::text_of(const std::string& adapter) {
  const FileState file = state_of(adapter);
  const auto found = texts_.find(adapter);
  if (found != texts_.end() && found->second.file == file) {
    found->second.used = ++uses_;
    return found->second;
  }
  if (found != texts_.end()) texts_.erase(found);
  while (texts_.size() >= kTexts) forget_oldest();
  Text text;
  text.file = file;
  text.used = ++uses_;
  if (adapter != kNone) {
    const AdapterLayout& layout = model_.adapter();
    text.values =
        Buffer(layout.total_floats() * sizeof(float), Category::adapters, "toolkit adapters");
    load_start(model_.bundle(), adapter, layout, text.values.floats());
  }
  text.cache = std::make_unique<KvCache>(model_.cache_widths(), context_);
  return texts_.emplace(adapter, std::move(text)).first->second;
}

void Generator::check_tokens(const std::vector<int32_t>& tokens) const {
  const int64_t vocab = model_.bundle().vocab_size;
  if (tokens.empty()) fail_usage("there are no tokens. Give at least one");
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocab) {
      fail_usage("token %d is none of the model's %lld. Use the bundle's tokenizer", token,
                 (long long)vocab);
    }
  }
  if (int64_t(tokens.size()) > context_) {
    const bool own = context_ == model_.context();
    fail_usage("%zu tokens do not fit into %s of %lld. %s", tokens.size(),
               own ? "the model's context" : "the --context", (long long)context_,
               own ? "Shorten the text" : "Shorten the text or raise --context");
  }
}

int64_t Generator::part_of(const Options& options) const {
  return options.part > 0 ? std::min(options.part, model_.part()) : model_.part();
}

// Leaves in the cache what the text has in common with these tokens, `most` at most: logits of
// those behind them are wanted. Frequencies that change with the length change all keys.
int64_t Generator::reuse(Text& text, const std::vector<int32_t>& tokens, int64_t most) {
  const int64_t original = model_.rope_original();
  const bool is_long = original > 0 && int64_t(tokens.size()) > original;
  size_t common = 0;
  if (is_long == text.is_long) {
    const size_t end = std::min(text.tokens.size(), size_t(most));
    while (common < end && text.tokens[common] == tokens[common]) ++common;
  }
  text.is_long = is_long;
  text.tokens.resize(common);
  text.cache->keep(int64_t(common));
  return int64_t(common);
}

// Computes what the cache lacks of the tokens, unless that is ended by what is called after a part.
bool Generator::feed(Text& text, const std::vector<int32_t>& tokens, int64_t part,
                     const Computed& computed) {
  while (text.tokens.size() < tokens.size()) {
    const int64_t first = int64_t(text.tokens.size());
    const int64_t count = std::min(part, int64_t(tokens.size()) - first);
    const float* adapter = text.values.bytes() > 0 ? text.values.floats() : nullptr;
    text.cache->keep(first + count);
    try {
      model_.run(tokens.data() + first, count, first, adapter, text.is_long, *text.cache);
    } catch (...) {
      text.tokens.clear();  // what is in the cache is not known any more
      throw;
    }
    text.tokens.insert(text.tokens.end(), tokens.begin() + first, tokens.begin() + first + count);
    if (!computed(first, count)) return false;
  }
  return true;
}

ReplyReport Generator::reply(const Options& options, const std::vector<int32_t>& prompt,
                             const OnEvent& event) {
  check_tokens(prompt);
  const int64_t vocab = model_.bundle().vocab_size;
  const std::vector<int32_t> stops = stops_of(options, vocab);
  const Sampling sampling = sampling_of(options);
  Text& text = text_of(options.adapter);
  const Resting resting{model_};
  ReplyReport report;
  memory_.reset_peak();
  report.prompt_tokens = int64_t(prompt.size());
  report.reused_tokens = reuse(text, prompt, report.prompt_tokens - 1);
  std::vector<int32_t> all = prompt;
  auto begin = std::chrono::steady_clock::now();
  const auto end_prompt = [&] {
    report.computed_tokens = int64_t(text.tokens.size()) - report.reused_tokens;
    report.prompt_seconds = seconds_since(begin);
    begin = std::chrono::steady_clock::now();
  };
  while (report.reason[0] == 0) {
    reuse(text, all, int64_t(all.size()) - 1);
    float* logits = nullptr;
    const bool done = feed(text, all, part_of(options), [&](int64_t first, int64_t count) {
      if (first + count == int64_t(all.size())) logits = model_.logits(count - 1);
      const int64_t length = int64_t(all.size());
      const bool is_token = report.tokens > 0 && first + count == length;  // told once chosen
      return is_token || event({-1, first + count, length});
    });
    if (!done) {
      if (report.tokens == 0) end_prompt();
      report.reason = "cancel";
      break;
    }
    const int32_t token = sampler_.choose(sampling, logits, vocab, all, int64_t(all.size()));
    if (all.size() == prompt.size()) {
      end_prompt();
      model_.rest();
    }
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
      report.reason = "stop";
      break;
    }
    all.push_back(token);
    ++report.tokens;
    if (!event({token, report.prompt_tokens, report.prompt_tokens})) report.reason = "cancel";
    if (int64_t(all.size()) >= context_) report.reason = "context";
    if (report.tokens == options.max_tokens) report.reason = "length";
  }
  model_.rest();
  report.seconds = seconds_since(begin);
  report.cache_bytes = int64_t(text.cache->bytes());
  report.adapter_bytes = int64_t(text.values.bytes());
  report.memory = memory_.memory();
  return report;
}

std::vector<double> Generator::score(const Options& options, const std::vector<int32_t>& tokens,
                                     int64_t first) {
  check_tokens(tokens);
  const int64_t total = int64_t(tokens.size());
  if (first < 1 || first > total) {
    fail_usage("token %lld of %lld has none before it. Score from 1 on", (long long)first,
               (long long)total);
  }
  Text& text = text_of(options.adapter);
  const Resting resting{model_};
  reuse(text, tokens, first - 1);
  std::vector<double> found;
  feed(text, tokens, part_of(options), [&](int64_t begin, int64_t count) {
    const int64_t end = std::min(begin + count, total - 1);
    for (int64_t place = std::max(begin, first - 1); place < end; ++place) {
      const float* logits = model_.logits(place - begin);
      check_logits(logits, model_.bundle().vocab_size);
      const double sum = log_sum_exp(logits, model_.bundle().vocab_size);
      found.push_back(double(logits[tokens[place + 1]]) - sum);
    }
    return true;
  });
  return found;
}

}  // namespace toolkit
