// The loss head in one pass over the vocabulary: loss = Σ_t logsumexp(x_t Wᵀ) - (x_t Wᵀ)[label_t].
//
// Like attention with W as keys and values: for a tile of classes l = x W[v]ᵀ; keep the running
// maximum m, Z = Σ exp(l - m) and acc = Σ exp(l - m) W[v], rescaled when m grows, and the label's
// logit. Then loss = m + log Z - l[label] (summed in double) and dx = acc / Z - W[label]. One tile
// of logits exists at a time, for one part of the sequence. Rows whose label is negative are left
// out beforehand.
#include <cmath>

#include "kernels/isa/functions.h"
#include "kernels/isa/linear.h"
#include "kernels/isa/mlp.h"
#include "kernels/isa/softmax.h"
#include "kernels/parallel.h"
#include "kernels/release.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

constexpr int64_t kClasses = 512;  // classes of a tile

/// out[k] = W[row, k] for all features.
void dequantize_row(const QuantizedMatrix& w, int64_t row, float* out) {
  const int64_t panel = row / kPanel, lane = row % kPanel, bytes = 2 * w.bits;
  const uint8_t* codes = w.codes + panel * w.panel_bytes() + (w.bits == 4 ? lane % 8 : lane);
  const int shift = w.bits == 4 && lane >= 8 ? 4 : 0;
  for (int64_t group = 0; group < w.depth / 32; ++group) {
    const int64_t at = (panel * (w.depth / 32) + group) * kPanel + lane;
    const float scale = half_to_float(w.scale[at]);
    const float offset = w.offset != nullptr ? half_to_float(w.offset[at]) : 0.0f;
    const int zero = w.offset != nullptr || w.bits == 8 ? 0 : 8;
    for (int64_t k = group * 32; k < (group + 1) * 32; ++k) {
      const uint8_t byte = codes[k * bytes];
      const int code = w.bits == 4 ? ((byte >> shift) & 15) : static_cast<int8_t>(byte);
      out[k] = scale * static_cast<float>(code - zero) + offset;
    }
  }
}

struct Row {
  int64_t token;
  int64_t label;
  float maximum;
  float total;
  float label_logit;
};

/// Updates a row's running maximum and sum with `count` logits, which become exp(l - m). Returns
/// the factor for what was accumulated before.
float update_row(Row* row, float* logits, int64_t first, int64_t count) {
  if (row->label >= first && row->label < first + count)
    row->label_logit = logits[row->label - first];
  const float best = row_maximum(logits, count, row->maximum);
  const float correction = std::exp(row->maximum - best);
  row->total = row->total * correction + exponentials(logits, count, best);
  row->maximum = best;
  return correction;
}

class Head {
 public:
  Head(const float* x, const int32_t* labels, int64_t tokens, const QuantizedMatrix& w,
       int64_t vocab, float* dx)
      : x_(x), tokens_(tokens), w_(w), vocab_(vocab), dx_(dx) {
    rows_ = reinterpret_cast<Row*>(scratch_.floats(tokens * sizeof(Row) / sizeof(float)));
    for (int64_t t = 0; t < tokens; ++t) {
      if (labels[t] >= 0) rows_[count_++] = {t, labels[t], kNegative, 0.0f, 0.0f};
    }
  }

  double run() {
    if (dx_ != nullptr) clear_ignored();
    if (count_ > 0) {
      prepare();
      for (int64_t first = 0; first < vocab_; first += kClasses) tile(first);
      if (dx_ != nullptr) write_gradient();
    }
    release_weight(w_, count_ > 0 ? release_rest : release);
    double loss = 0;
    for (int64_t i = 0; i < count_; ++i) {
      loss += static_cast<double>(rows_[i].maximum) +
              std::log(static_cast<double>(rows_[i].total)) -
              static_cast<double>(rows_[i].label_logit);
    }
    return loss;
  }

 private:
  void clear_ignored() {
    int64_t next = 0;
    for (int64_t t = 0; t < tokens_; ++t) {
      if (next < count_ && rows_[next].token == t) {
        ++next;
      } else {
        for (int64_t k = 0; k < w_.depth; ++k) dx_[t * w_.depth + k] = 0;
      }
    }
  }

  /// Packs the rows that count; the compacted copy is only alive here when rows are left out.
  void prepare() {
    const int64_t size = w_.depth;
    buffers_ = right_buffers(scratch_);
    float* packed = scratch_.floats(left_floats(count_, size));
    logits_ = scratch_.floats(count_ * kClasses);
    if (dx_ != nullptr) {
      packed_logits_ = scratch_.floats(left_floats(count_, kClasses));
      sums_ = scratch_.floats(count_ * size);
    }
    if (count_ == tokens_) {
      input_ = pack_left({x_, size, 1}, count_, size, 1.0f, packed);
      return;
    }
    Scratch inner;
    float* chosen = inner.floats(count_ * size);
    for (int64_t i = 0; i < count_; ++i) {
      __builtin_memcpy(chosen + i * size, x_ + rows_[i].token * size, size * sizeof(float));
    }
    input_ = pack_left({chosen, size, 1}, count_, size, 1.0f, packed);
  }

  void tile(int64_t first) {
    const int64_t size = w_.depth, count = min(kClasses, vocab_ - first);
    // The padded rows of the last panel take part in the products but not in the softmax.
    const int64_t padded = min(round_up(count, kPanel), w_.rows - first);
    multiply(Product(count_, padded, logits_, padded).add(input_, weight_rows(w_, first)),
             buffers_);
    parallel_short(divide_up(count_, kBlock), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin * kBlock; i < min(count_, end * kBlock); ++i) {
        float* logits = logits_ + i * padded;
        const float correction = update_row(&rows_[i], logits, first, count);
        if (dx_ == nullptr) continue;
        for (int64_t j = count; j < padded; ++j) logits[j] = 0;
        if (first > 0 && correction != 1.0f) scale_row(sums_ + i * size, size, correction);
        const int64_t label = rows_[i].label;
        if (label >= first && label < first + count)
          dequantize_row(w_, label, dx_ + rows_[i].token * size);
      }
      if (dx_ != nullptr) {
        pack_left_blocks({logits_, padded, 1}, count_, padded, 1.0f, begin, end, packed_logits_);
      }
    });
    if (dx_ != nullptr) {
      multiply(Product(count_, size, sums_, size, first > 0)
                   .add({packed_logits_, padded}, weight_columns(w_, first)),
               buffers_);
    }
    release_rows(w_, first, padded);
  }

  /// dx holds the label's weights by now.
  void write_gradient() {
    const int64_t size = w_.depth;
    parallel_short(count_, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const float factor = 1.0f / rows_[i].total;
        float* out = dx_ + rows_[i].token * size;
        const float* in = sums_ + i * size;
        for_vectors(0, size, [&](int64_t k, int n) {
          store_part(out + k, load_part(in + k, n) * factor - load_part(out + k, n), n);
        });
      }
    });
  }

  Scratch scratch_;
  const float* x_;
  int64_t tokens_;
  const QuantizedMatrix& w_;
  int64_t vocab_;
  float* dx_;
  Row* rows_ = nullptr;
  int64_t count_ = 0;
  Left input_;
  float* buffers_ = nullptr;
  float* logits_ = nullptr;
  float* packed_logits_ = nullptr;
  float* sums_ = nullptr;
};

}  // namespace

void cross_entropy(const float* x, const int32_t* labels, int64_t tokens, const QuantizedMatrix& w,
                   int64_t vocab, float* loss, float* dx) {
  double total = 0;
  const auto part = [&](int64_t first, int64_t count) {
    const int64_t at = first * w.depth;
    total += Head(x + at, labels + first, count, w, vocab, dx != nullptr ? dx + at : nullptr).run();
  };
  for_parts(tokens, kTokens, part);
  *loss = static_cast<float>(total);
}

int64_t head_sweeps(int64_t tokens) { return divide_up(tokens, part_tokens(tokens, kTokens)); }

void embedding(const int32_t* tokens, int64_t count, const QuantizedMatrix& w, float* out) {
  // Each row is a place of its own in a large file, and reading it maps a neighbourhood of pages
  // (300 KiB a token, 2 MiB where the page cache has huge folios); released after every slice they
  // are never all in memory. A slice takes less time than threads need to meet.
  constexpr int64_t kSlice = 2;
  for (int64_t t = 0; t < count; ++t) {
    dequantize_row(w, tokens[t], out + t * w.depth);
    if (t % kSlice == kSlice - 1 || t == count - 1) release_weight(w, release_rest);
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
