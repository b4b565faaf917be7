// Attention of a few rows, or a part of a prompt, over a cache of keys and values [C, K * size]:
// out = softmax(scale q kᵀ) v, row t over keys max(0, past + t - window + 1)..past + t.
//
// Few rows: a task is a row and a strip of keys, for all heads, so a row's keys and values come
// from memory once and in the order in which they lie there. The strips' sums are merged in the end
// (as Flash-Decoding does). Nothing is packed. Scratch, in floats: tasks x H (size + 2) + threads x
// strip.
//
// More rows: they are packed and multiplied as in attention.cc, with keys from the first that any
// row sees on.
#include "kernels/attention.h"
#include "kernels/dry_run.h"

namespace toolkit {
namespace {

constexpr int64_t kFewRows = 8;
constexpr int64_t kStrip = 32;  // keys: two strips of most models stay in L2
constexpr int64_t kMostStrips = 64;
constexpr int64_t kLine = 64;           // bytes
constexpr int64_t kShortMerge = 16384;  // floats that one thread merges before another has begun

/// The keys of a row: some of the cache, then some of the rows before it and its own.
struct KeysOf {
  int64_t first, cached, fresh0, fresh, strip;

  KeysOf(const CacheShape& s, int64_t row) {
    const int64_t begin = s.window > 0 ? max(0, s.past + row - s.window + 1) : 0;
    first = min(begin, s.past);
    cached = s.past - first;
    fresh0 = max(0, begin - s.past);
    fresh = row + 1 - fresh0;
    strip = kStrip * divide_up(cached + fresh, kStrip * kMostStrips);
  }
  int64_t strips() const { return divide_up(cached, strip) + divide_up(fresh, strip); }
};

class FewRows {
 public:
  FewRows(const Kernels& k, const CacheShape& s, const float* q, const float* fresh_keys,
          const float* fresh_values, const float* keys, const float* values)
      : k_(k),
        s_(s),
        width_(s.kv_heads * s.head_size),
        q_(q),
        fresh_{fresh_keys, fresh_values},
        cached_{keys, values} {
    for (int64_t row = 0; row < s.tokens; ++row) {
      const KeysOf keys(s, row);
      strips_ = max(strips_, keys.strips());
      longest_ = max(longest_, keys.strip);
    }
  }

  void run(float* out) {
    Scratch scratch;
    const int64_t states = s_.tokens * strips_ * s_.heads;
    running_ = static_cast<RunningSoftmax*>(scratch.bytes(states * sizeof(RunningSoftmax)));
    sums_ = scratch.floats(states * s_.head_size);
    float* scores = scratch.floats(threads() * longest_);
    const int64_t tasks = s_.tokens * strips_;
    parallel_short(tasks, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t task = begin; task < end; ++task) {
        // Mostly this thread's next one.
        const Strip next = task + 1 < tasks ? strip(task + 1) : Strip{};
        compute(strip(task), next, task, scores + thread * longest_);
      }
    });
    const auto merge = [&](int64_t begin, int64_t end, int) { this->merge(begin, end, out); };
    if (states * s_.head_size <= kShortMerge) {
      merge(0, s_.tokens * s_.heads, 0);
    } else {
      parallel_short(s_.tokens * s_.heads, 1, merge);
    }
  }

 private:
  struct Rows {
    const float *keys, *values;
  };

  /// Some rows of the cache.
  struct Strip {
    const float *keys = nullptr, *values = nullptr;
    int64_t count = 0, width = 0;

    /// One of several parts of it.
    void prefetch(int64_t part, int64_t parts) const {
      const int64_t bytes = count * width * int64_t(sizeof(float));
      for (int64_t i = part * bytes / parts; i < (part + 1) * bytes / parts; i += kLine) {
        __builtin_prefetch(reinterpret_cast<const char*>(keys) + i);
        __builtin_prefetch(reinterpret_cast<const char*>(values) + i);
      }
    }
  };

  Strip strip(int64_t task) const {
    const KeysOf keys(s_, task / strips_);
    const int64_t strip = task % strips_;
    if (strip >= keys.strips()) return {};
    const int64_t of_cache = divide_up(keys.cached, keys.strip);
    const bool fresh = strip >= of_cache;
    const int64_t at = (fresh ? strip - of_cache : strip) * keys.strip;
    const Rows& rows = fresh ? fresh_ : cached_;
    const int64_t place = ((fresh ? keys.fresh0 : keys.first) + at) * width_;
    const int64_t count = min(keys.strip, (fresh ? keys.fresh : keys.cached) - at);
    return {rows.keys + place, rows.values + place, count, width_};
  }

  /// The strips' sums of rows' heads.
  void merge(int64_t begin, int64_t end, float* out) const {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / s_.heads, state = row * strips_ * s_.heads + i % s_.heads;
      k_.rows.attention_merge(running_ + state, sums_ + state * s_.head_size,
                              KeysOf(s_, row).strips(), s_.heads, s_.head_size,
                              out + i * s_.head_size);
    }
  }

  /// All heads over a strip, while the next one comes.
  void compute(const Strip& now, const Strip& next, int64_t task, float* scores) {
    if (now.count == 0) return;
    const int64_t size = s_.head_size, group = s_.heads / s_.kv_heads;
    const float* q = q_ + task / strips_ * s_.heads * size;
    for (int64_t head = 0; head < s_.heads; ++head) {
      next.prefetch(head, s_.heads);
      const int64_t state = task * s_.heads + head, place = head / group * size;
      k_.rows.attention_keys(q + head * size, size, s_.scale, now.keys + place, now.values + place,
                             width_, now.count, scores, running_ + state, sums_ + state * size);
    }
  }

  const Kernels& k_;
  const CacheShape& s_;
  const int64_t width_;
  const float* q_;
  const Rows fresh_, cached_;
  int64_t strips_ = 1, longest_ = kStrip;
  RunningSoftmax* running_ = nullptr;
  float* sums_ = nullptr;
};

/// Rows [first, past) of a cache with the fresh ones behind them: where they are that already, the
/// cache itself.
const float* with_fresh(const Kernels& k, Scratch& scratch, const float* cache, const float* fresh,
                        int64_t first, const CacheShape& s) {
  const int64_t width = s.kv_heads * s.head_size, cached = (s.past - first) * width;
  const float* from = cache + first * width;
  if (fresh == from + cached) return from;
  float* all = scratch.floats(cached + s.tokens * width);
  k.rows.copy(from, cached, all);
  k.rows.copy(fresh, s.tokens * width, all + cached);
  return all;
}

}  // namespace

void Kernels::attention_cached(const CacheShape& s, const float* q, const float* k, const float* v,
                               const float* keys, const float* values, float* out) const {
  if (s.tokens <= kFewRows) return FewRows(*this, s, q, k, v, keys, values).run(out);
  Scratch scratch;
  const int64_t first = KeysOf(s, 0).first;
  const float* all_keys = with_fresh(*this, scratch, keys, k, first, s);
  const float* all_values = with_fresh(*this, scratch, values, v, first, s);
  auto* start = static_cast<int32_t*>(scratch.bytes(s.tokens * sizeof(int32_t)));
  AttentionShape shape{s.tokens, s.heads, s.kv_heads, s.head_size, s.scale, start, s.past - first};
  if (DryRun::current() == nullptr) {
    for (int64_t t = 0; t < s.tokens; ++t) {
      const int64_t begin = s.window > 0 ? s.past + t - s.window + 1 : 0;
      start[t] = static_cast<int32_t>(max(0, begin - first));
    }
  }
  attention(shape, q, all_keys, all_values, out);
}

}  // namespace toolkit
