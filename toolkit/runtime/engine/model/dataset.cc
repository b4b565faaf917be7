#include "engine/model/dataset.h"

#include <fcntl.h>

#include "engine/error.h"

namespace toolkit {
namespace {

constexpr const char* kNames[4] = {"tokens", "labels", "positions", "start"};
constexpr int32_t kIgnored = -100;

}  // namespace

Dataset::Dataset(const std::string& path, const Bundle& bundle) : file_(path, O_RDONLY) {
  const FlatTensorFile file(path);
  const Tokenizer tokenizer = tokenizer_of(file);
  sha256_ = file.sha256();
  tokenizer_ = tokenizer.name;
  const std::vector<int32_t> sizes = file.require("tokens").sizes;
  if (sizes.size() != 2 || sizes[0] < 1 || sizes[1] < 1) {
    fail("%s holds no samples. Make the data again", path.c_str());
  }
  samples_ = sizes[0];
  seq_len_ = sizes[1];
  for (int i = 0; i < 4; ++i) {
    const char* name = kNames[i];
    const TensorSpec& spec = file.require(name);
    offsets_[i] = spec.offset;
    if (spec.type != ScalarType::Int || spec.sizes != sizes || spec.offset % 4 != 0) {
      fail("%s: %s is %s, expected %s. Make the data again", path.c_str(), name,
           describe(spec.type, spec.sizes).c_str(), describe(ScalarType::Int, sizes).c_str());
    }
  }
  file.check_all("Make or deploy the data again");
  bundle.identity().check_tokenizer(path, tokenizer);
  rows_.resize(4 * seq_len_);
  bool learns = false;
  for (int64_t sample = 0; sample < samples_; ++sample) {
    check_row(sample, bundle.vocab_size);
    learns = learns || labelled(sample) > 0;
  }
  if (!learns) {
    fail(
        "%s has no labelled tokens, nothing can be learned from it. Make the data with longer "
        "samples or loss on all tokens",
        path.c_str());
  }
}

const int32_t* Dataset::row(int tensor, int64_t sample) const {
  if (sample != held_) {
    held_ = -1;
    const size_t bytes = seq_len_ * sizeof(int32_t);
    for (int i = 0; i < 4; ++i) {
      file_.read_at(&rows_[i * seq_len_], bytes, offsets_[i] + sample * int64_t(bytes));
    }
    held_ = sample;
  }
  return &rows_[tensor * seq_len_];
}

void Dataset::check_row(int64_t sample, int64_t vocab_size) {
  const auto wrong = [&](const char* name, int64_t t, int32_t value) {
    fail(
        "%s: %s[%lld, %lld] is %d, outside what the bundle allows (vocabulary %lld). Make the "
        "data with this bundle's tokenizer",
        path().c_str(), name, (long long)sample, (long long)t, value, (long long)vocab_size);
  };
  const int32_t *token_row = tokens(sample), *label_row = labels(sample);
  const int32_t *position_row = positions(sample), *start_row = start(sample);
  for (int64_t t = 0; t < seq_len_; ++t) {
    const int32_t token = token_row[t], label = label_row[t];
    const int32_t position = position_row[t], first = start_row[t];
    if (token < 0 || token >= vocab_size) wrong("tokens", t, token);
    if (label != kIgnored && (label < 0 || label >= vocab_size)) wrong("labels", t, label);
    if (position < 0) wrong("positions", t, position);
    if (first < 0 || first > t) wrong("start", t, first);
  }
}

int64_t Dataset::labelled(int64_t sample) const {
  const int32_t* row = labels(sample);
  int64_t count = 0;
  for (int64_t t = 0; t < seq_len_; ++t) count += row[t] != kIgnored;
  return count;
}

}  // namespace toolkit
