// The loss head in one pass over the vocabulary: loss = Σ_t logsumexp(x_t Wᵀ) - (x_t Wᵀ)[label_t].
//
// Like attention with W as keys and values: for a tile of classes l = x W[v]ᵀ; keep the running
// maximum m, Z = Σ exp(l - m) and acc = Σ exp(l - m) W[v], rescaled when m grows, and the label's
// logit. Then loss = m + log Z - l[label] (summed in double) and dx = acc / Z - W[label]. One tile
// of logits exists at a time, for one part of the sequence. Rows whose label is negative are left
// out beforehand.
#include <vector>

#include "kernels/dry_run.h"
#include "kernels/multiply.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace {

/// One part of a sequence.
class Head {
 public:
  Head(const Kernels& k, const float* x, const int32_t* labels, int64_t tokens,
       const QuantizedMatrix& w, int64_t vocab, float* dx)
      : k_(k), x_(x), tokens_(tokens), w_(w), vocab_(vocab), dx_(dx) {
    rows_.reserve(tokens);
    for (int64_t t = 0; t < tokens; ++t) {
      if (labels[t] >= 0) {
        rows_.push_back({t, labels[t], {}, 0.0f});
      } else if (dx != nullptr) {
        k.rows.zero(dx + t * w.depth, w.depth);
      }
    }
    count_ = static_cast<int64_t>(rows_.size());
  }

  /// Adds the part's loss to the total, which is written to *loss.
  void run(double* total, float* loss) {
    if (count_ > 0) {
      Scratch scratch;
      const RightBuffers buffers(k_, scratch);
      prepare(scratch);
      for (int64_t first = 0; first < vocab_; first += k_.tiles.classes) tile(first, buffers);
      if (dx_ != nullptr) write_gradient();
      release_rest_of(w_);
    } else {
      release_weight(w_);
    }
    k_.rows.head_loss(rows_.data(), count_, total, loss);
  }

 private:
  /// Packs the rows that count; the compacted copy is only alive here when rows are left out.
  void prepare(Scratch& scratch) {
    const int64_t size = w_.depth, classes = k_.tiles.classes;
    void* room = left_room(k_, k_.arithmetic, scratch, count_, size);
    logits_ = scratch.floats(count_ * classes);
    if (dx_ != nullptr) {
      packed_logits_ = left_room(k_, k_.arithmetic, scratch, count_, classes);
      sums_ = scratch.floats(count_ * size);
    }
    if (count_ == tokens_) {
      input_ = pack_left(k_, k_.arithmetic, {x_, size, 1}, count_, size, 1.0f, room);
      return;
    }
    Scratch inner;
    float* chosen = inner.floats(count_ * size);
    for (int64_t i = 0; i < count_; ++i) {
      k_.rows.copy(x_ + rows_[i].token * size, size, chosen + i * size);
    }
    input_ = pack_left(k_, k_.arithmetic, {chosen, size, 1}, count_, size, 1.0f, room);
  }

  void tile(int64_t first, const RightBuffers& buffers) {
    const int64_t size = w_.depth, count = min(k_.tiles.classes, vocab_ - first);
    // The padded rows of the last panel take part in the products but not in the softmax.
    const int64_t padded = min(round_up(count, kPanel), w_.rows - first);
    Product logits(k_.arithmetic, count_, padded, logits_, padded);
    multiply(k_, logits.add(input_, weight_rows(w_, first)), buffers);
    parallel_short(divide_up(count_, k_.tiles.block), 1, [&](int64_t begin, int64_t end, int) {
      softmax_blocks(first, count, padded, begin, end);
    });
    if (dx_ != nullptr) {
      Product sums(k_.arithmetic, count_, size, sums_, size, first > 0);
      multiply(k_, sums.add({packed_logits_, padded}, weight_columns(w_, first)), buffers);
    }
    release_rows(w_, first, padded);
  }

  /// Logits of row blocks [begin, end) become exp(l - m), packed where the gradient is wanted.
  void softmax_blocks(int64_t first, int64_t count, int64_t padded, int64_t begin, int64_t end) {
    const int64_t size = w_.depth, block = k_.tiles.block;
    for (int64_t i = begin * block; i < min(count_, end * block); ++i) {
      float* earlier = dx_ != nullptr && first > 0 ? sums_ + i * size : nullptr;
      k_.rows.head_strip(&rows_[i], first, count, padded, logits_ + i * padded, earlier, size);
      const int64_t label = rows_[i].label;
      if (dx_ != nullptr && label >= first && label < first + count) {
        k_.rows.dequantize_row(w_, label, dx_ + rows_[i].token * size);
      }
    }
    if (dx_ != nullptr) {
      k_.arithmetic.pack_left({logits_, padded, 1}, count_, padded, 1.0f, begin, end,
                              packed_logits_);
    }
  }

  /// dx holds the label's weights by now.
  void write_gradient() {
    const int64_t size = w_.depth;
    parallel_short(count_, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        k_.rows.head_gradient(rows_[i], sums_ + i * size, size, dx_ + rows_[i].token * size);
      }
    });
  }

  const Kernels& k_;
  const float* x_;
  int64_t tokens_;
  const QuantizedMatrix& w_;
  int64_t vocab_;
  float* dx_;
  std::vector<HeadRow> rows_;
  int64_t count_ = 0;
  Left input_;
  float* logits_ = nullptr;
  void* packed_logits_ = nullptr;
  float* sums_ = nullptr;
};

}  // namespace

void Kernels::cross_entropy(const float* x, const int32_t* labels, int64_t tokens,
                            const QuantizedMatrix& w, int64_t vocab, float* loss, float* dx) const {
  double total = 0;
  for_parts(tiles, tokens, tiles.tokens, [&](int64_t first, int64_t count) {
    const auto run = [&](const int32_t* of_part) {
      const int64_t at = first * w.depth;
      Head(*this, x + at, of_part, count, w, vocab, dx != nullptr ? dx + at : nullptr)
          .run(&total, loss);
    };
    run(labels + first);
    if (DryRun::current() == nullptr) return;
    // All labels of a dry run count. A single one that does not takes more: a copy of the others.
    std::vector<int32_t> others(count, 0);
    others[0] = -1;
    run(others.data());
  });
}

int64_t Kernels::head_sweeps(int64_t tokens) const {
  return divide_up(tokens, part_tokens(tiles, tokens, tiles.tokens));
}

void Kernels::embedding(const int32_t* tokens, int64_t count, const QuantizedMatrix& w,
                        float* out) const {
  // Each row is a place of its own in a large file, and reading it maps a neighbourhood of pages
  // (300 KiB a token, 2 MiB where the page cache has huge folios); released after every slice they
  // are never all in memory. A slice takes less time than threads need to meet.
  constexpr int64_t kSlice = 2;
  for (int64_t t = 0; t < count; ++t) {
    rows.dequantize_row(w, tokens[t], out + t * w.depth);
    if (t % kSlice == kSlice - 1 || t == count - 1) release_rest_of(w);
  }
}

}  // namespace toolkit
