#include "engine/model/weight_checks.h"

#include <fcntl.h>

#include <algorithm>

#include "engine/error.h"
#include "engine/files/crc32.h"

namespace toolkit {
namespace {

/// "layer 3 mlp.down_proj" of "layers.3.mlp.down_proj.codes".
std::string readable(std::string key) {
  for (const char* ending : {".codes", ".scale", ".offset", ".weight", ".bias"}) {
    const size_t at = key.rfind(ending);
    if (at != std::string::npos && at + std::string(ending).size() == key.size()) key.resize(at);
  }
  if (key.compare(0, 7, "layers.") != 0) return key;
  key = "layer " + key.substr(7);
  const size_t dot = key.find('.');
  if (dot != std::string::npos) key[dot] = ' ';
  return key;
}

}  // namespace

WeightChecks::WeightChecks(const FlatTensorFile& base)
    : file_(base.path(), O_RDONLY), left_(base.tensors().size()) {
  posix_fadvise(file_.fd(), 0, 0, POSIX_FADV_RANDOM);  // The prefetcher reads ahead.
  for (const auto& [key, spec] : base.tensors()) {
    entries_.push_back({spec.offset, spec.bytes, spec.crc32, false});
  }
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return a.offset < b.offset; });
}

int64_t WeightChecks::check(const std::vector<WeightRef>& refs) {
  int64_t bytes = 0;
  if (left_ == 0) return bytes;
  for (const WeightRef& ref : refs) {
    const auto entry = std::lower_bound(
        entries_.begin(), entries_.end(), ref.offset,
        [](const Entry& candidate, int64_t offset) { return candidate.offset < offset; });
    if (entry == entries_.end() || entry->checked) continue;
    if (crc32(file_, entry->offset, entry->bytes) != entry->crc32) fail_damaged(*entry);
    entry->checked = true;
    bytes += entry->bytes;
    --left_;
  }
  return bytes;
}

void WeightChecks::fail_damaged(const Entry& entry) const {
  const FlatTensorFile base(file_.path());  // The table of names was let go.
  for (const auto& [key, spec] : base.tensors()) {
    if (spec.offset != entry.offset) continue;
    fail("%s: %s is damaged on this device. Deploy the bundle again", file_.path().c_str(),
         readable(key).c_str());
  }
  fail("%s is damaged on this device. Deploy the bundle again", file_.path().c_str());
}

}  // namespace toolkit
