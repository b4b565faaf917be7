#include "engine/generation/kv_cache.h"

#include <sys/mman.h>

namespace toolkit {

KvCache::KvCache(const std::vector<int64_t>& widths, int64_t capacity) : capacity_(capacity) {
  const size_t page = page_size();
  begins_ = {0};
  for (const int64_t width : widths) {
    const size_t row = size_t(width) * sizeof(float);
    const size_t table = (row * size_t(capacity) + page - 1) / page * page;
    for (int i = 0; i < 2; ++i) {
      begins_.push_back(begins_.back() + table);
      strides_.push_back(row);
      row_bytes_ += row;
    }
  }
  buffer_ = Buffer::reserved(begins_.back(), Category::runtime, "toolkit cache");
}

void KvCache::keep(int64_t rows) {
  if (rows < rows_) {
    const size_t page = page_size();
    for (size_t table = 0; table < strides_.size(); ++table) {
      const size_t used =
          (begins_[table] + size_t(rows) * strides_[table] + page - 1) / page * page;
      const size_t end = begins_[table + 1];
      if (used < end) madvise(static_cast<char*>(buffer_.data()) + used, end - used, MADV_DONTNEED);
    }
  }
  rows_ = rows;
  buffer_.account(bytes());
}

}  // namespace toolkit
