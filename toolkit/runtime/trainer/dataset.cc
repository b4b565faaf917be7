#include "trainer/dataset.h"

#include <sys/mman.h>

#include "trainer/error.h"

namespace toolkit {
namespace {

constexpr const char* kNames[4] = {"tokens", "labels", "positions", "start"};
constexpr int32_t kIgnored = -100;
constexpr int64_t kCheckedRows = 256;  // pages of this many rows are held at most while checking

}  // namespace

Dataset::Dataset(const std::string& path, int64_t vocab_size) : path_(path) {
  const FlatTensorFile file(path);
  const std::vector<int32_t> sizes = file.require("tokens").sizes;
  if (sizes.size() != 2 || sizes[0] < 1 || sizes[1] < 1) {
    fail("%s holds no samples. Make the data again", path.c_str());
  }
  samples_ = sizes[0];
  seq_len_ = sizes[1];
  bytes_ = file.size();
  for (const char* name : kNames) {
    const TensorSpec& spec = file.require(name);
    if (spec.type != ScalarType::Int || spec.sizes != sizes || spec.offset % 4 != 0) {
      fail("%s: %s is %s, expected %s. Make the data again", path.c_str(), name,
           describe(spec.type, spec.sizes).c_str(), describe(ScalarType::Int, sizes).c_str());
    }
  }
  address_ = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, file.file().fd(), 0);
  if (address_ == MAP_FAILED) fail_errno("map", path);
  for (int i = 0; i < 4; ++i) {
    const char* data = static_cast<const char*>(address_) + file.require(kNames[i]).offset;
    tensors_[i] = reinterpret_cast<const int32_t*>(data);
  }
  try {
    for (int64_t sample = 0; sample < samples_; ++sample) {
      check_row(sample, vocab_size);
      labelled_total_ += labelled(sample);
      if (sample % kCheckedRows == kCheckedRows - 1) drop_pages();
    }
    drop_pages();
    if (labelled_total_ == 0) {
      fail(
          "%s has no labelled tokens, nothing can be learned from it. Make the data with longer "
          "samples or loss on all tokens",
          path.c_str());
    }
  } catch (...) {
    munmap(address_, bytes_);
    throw;
  }
}

Dataset::~Dataset() { munmap(address_, bytes_); }

void Dataset::check_row(int64_t sample, int64_t vocab_size) {
  const auto wrong = [&](const char* name, int64_t t, int32_t value) {
    fail(
        "%s: %s[%lld, %lld] is %d, outside what the bundle allows (vocabulary %lld). Make the "
        "data with this bundle's tokenizer",
        path_.c_str(), name, (long long)sample, (long long)t, value, (long long)vocab_size);
  };
  for (int64_t t = 0; t < seq_len_; ++t) {
    const int32_t token = tokens(sample)[t], label = labels(sample)[t];
    const int32_t position = positions(sample)[t], first = start(sample)[t];
    if (token < 0 || token >= vocab_size) wrong("tokens", t, token);
    if (label != kIgnored && (label < 0 || label >= vocab_size)) wrong("labels", t, label);
    if (position < 0) wrong("positions", t, position);
    if (first < 0 || first > t) wrong("start", t, first);
  }
}

int64_t Dataset::labelled(int64_t sample) const {
  int64_t count = 0;
  for (int64_t t = 0; t < seq_len_; ++t) count += labels(sample)[t] != kIgnored;
  return count;
}

void Dataset::drop_pages() const { madvise(address_, bytes_, MADV_DONTNEED); }

}  // namespace toolkit
