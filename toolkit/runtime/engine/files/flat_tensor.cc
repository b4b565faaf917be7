#include "engine/files/flat_tensor.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "engine/error.h"
#include "engine/files/crc32.h"

namespace toolkit {
namespace {

constexpr size_t kHeadBytes = 48;             // root offset, identifier, extended header
constexpr int64_t kMaxFlatbuffer = 64 << 20;  // names and shapes of a model are far below
constexpr uint32_t kMaxVersion = 0;

[[noreturn]] void corrupt(const std::string& path) {
  fail("%s is not a valid FlatTensor file. Export or copy it again", path.c_str());
}

// Bounds-checked view of a flatbuffer; positions are relative to its start.
class Flatbuffer {
 public:
  Flatbuffer(const std::vector<uint8_t>& data, const std::string& path)
      : data_(data), path_(path) {}

  template <typename T>
  T scalar(size_t position) const {
    check(position, sizeof(T));
    T value;
    std::memcpy(&value, data_.data() + position, sizeof(T));
    return value;
  }

  size_t follow(size_t position) const { return position + scalar<uint32_t>(position); }

  // Position of a table's field, 0 when the field is absent.
  size_t field(size_t table, int index) const {
    const int64_t vtable = int64_t(table) - scalar<int32_t>(table);
    if (vtable < 0) corrupt(path_);
    const uint16_t length = scalar<uint16_t>(vtable);
    const size_t entry = 4 + 2 * size_t(index);
    if (entry + 2 > length) return 0;
    const uint16_t offset = scalar<uint16_t>(vtable + entry);
    return offset == 0 ? 0 : table + offset;
  }

  // Element count of the vector a field points to; `first` becomes its first element's position.
  size_t vector(size_t table, int index, size_t element, size_t* first) const {
    const size_t at = field(table, index);
    if (at == 0) return 0;
    const size_t start = follow(at);
    const size_t count = scalar<uint32_t>(start);
    *first = start + 4;
    check(*first, count * element);
    return count;
  }

  const uint8_t* at(size_t position) const { return data_.data() + position; }

 private:
  void check(size_t position, size_t bytes) const {
    if (position > data_.size() || bytes > data_.size() - position) corrupt(path_);
  }

  const std::vector<uint8_t>& data_;
  const std::string& path_;
};

struct Segment {
  int64_t offset, bytes;
};

TensorSpec read_layout(const Flatbuffer& buffer, size_t layout, const std::string& path) {
  TensorSpec spec;
  const size_t type = buffer.field(layout, 0);
  spec.type = ScalarType(type == 0 ? 0 : buffer.scalar<int8_t>(type));
  size_t first = 0;
  const size_t rank = buffer.vector(layout, 1, 4, &first);
  spec.bytes = element_bytes(spec.type);
  if (spec.bytes == 0 || rank > 16) corrupt(path);
  for (size_t i = 0; i < rank; ++i) {
    const int32_t size = buffer.scalar<int32_t>(first + 4 * i);
    if (size < 0 || __builtin_mul_overflow(spec.bytes, int64_t(size), &spec.bytes)) corrupt(path);
    spec.sizes.push_back(size);
  }
  const size_t order = buffer.vector(layout, 2, 1, &first);
  for (size_t i = 0; i < order; ++i) {
    if (order != rank || buffer.scalar<uint8_t>(first + i) != i) corrupt(path);
  }
  return spec;
}

}  // namespace

FlatTensorFile::FlatTensorFile(const std::string& path) : file_(path, O_RDONLY) {
  size_ = file_.size();
  uint8_t head[kHeadBytes];
  if (size_ < int64_t(kHeadBytes)) corrupt(path);
  file_.read_at(head, kHeadBytes, 0);
  if (std::memcmp(head + 4, "FT01", 4) != 0 || std::memcmp(head + 8, "FH01", 4) != 0) corrupt(path);
  uint64_t header[4];  // flatbuffer offset and size, segment base and size
  std::memcpy(header, head + 16, sizeof(header));
  const uint64_t limit = size_;
  if (header[0] > limit || header[1] > limit || header[2] > limit || header[3] > limit ||
      header[0] + header[1] > limit || header[0] + header[1] > kMaxFlatbuffer) {
    corrupt(path);
  }
  if (header[2] + header[3] > limit) {
    fail("%s is shorter than it should be. Copy it again", path.c_str());
  }

  std::vector<uint8_t> data(header[0] + header[1]);
  file_.read_at(data.data(), data.size(), 0);
  const Flatbuffer buffer(data, file_.path());
  const size_t root = buffer.follow(0);
  const size_t version = buffer.field(root, 0);
  if (version != 0 && buffer.scalar<uint32_t>(version) > kMaxVersion) {
    fail("%s has a newer FlatTensor version than this runtime reads. Deploy a newer runtime",
         path.c_str());
  }

  std::vector<Segment> segments;
  size_t first = 0;
  const size_t segment_count = buffer.vector(root, 1, 4, &first);
  for (size_t i = 0; i < segment_count; ++i) {
    const size_t table = buffer.follow(first + 4 * i);
    const size_t offset = buffer.field(table, 0), bytes = buffer.field(table, 1);
    const uint64_t o = offset == 0 ? 0 : buffer.scalar<uint64_t>(offset);
    const uint64_t n = bytes == 0 ? 0 : buffer.scalar<uint64_t>(bytes);
    if (o > header[3] || n > header[3] || o + n > header[3]) corrupt(path);
    segments.push_back({int64_t(header[2] + o), int64_t(n)});
  }

  const size_t named = buffer.vector(root, 2, 4, &first);
  tensors_.reserve(named);
  for (size_t i = 0; i < named; ++i) {
    const size_t table = buffer.follow(first + 4 * i);
    size_t text = 0;
    const size_t length = buffer.vector(table, 0, 1, &text);
    const size_t index_at = buffer.field(table, 1), layout_at = buffer.field(table, 2);
    const uint32_t index = index_at == 0 ? 0 : buffer.scalar<uint32_t>(index_at);
    if (length == 0 || layout_at == 0 || index >= segments.size()) corrupt(path);
    TensorSpec spec = read_layout(buffer, buffer.follow(layout_at), path);
    spec.offset = segments[index].offset;
    if (spec.bytes != segments[index].bytes) corrupt(path);
    std::string key(reinterpret_cast<const char*>(buffer.at(text)), length);
    if (!tensors_.emplace(std::move(key), std::move(spec)).second) corrupt(path);
  }
  read_checksums(data);
}

/// Takes the two tensors of the file itself out of the table and gives the others their checksums.
void FlatTensorFile::read_checksums(const std::vector<uint8_t>& head) {
  const auto sums_at = tensors_.find("checksums"), digest_at = tensors_.find("sha256");
  if (sums_at == tensors_.end() || digest_at == tensors_.end()) {
    fail("%s has no checksums: an older version wrote it. Export or make it again", path().c_str());
  }
  const TensorSpec& sums = sums_at->second;
  const size_t count = tensors_.size() + 1;  // the head and all but this one, and of these itself
  if (sums.type != ScalarType::Int || sums.bytes != int64_t(4 * count) ||
      digest_at->second.bytes != int64_t(sha256_.size())) {
    corrupt(path());
  }
  std::vector<uint32_t> values(count);
  file_.read_at(values.data(), sums.bytes, sums.offset);
  file_.read_at(sha256_.data(), sha256_.size(), digest_at->second.offset);
  tensors_.erase(sums_at);
  std::vector<TensorSpec*> in_order;
  for (auto& [key, spec] : tensors_) in_order.push_back(&spec);
  std::sort(in_order.begin(), in_order.end(), [](const TensorSpec* a, const TensorSpec* b) {
    return std::make_pair(a->offset, a->bytes) < std::make_pair(b->offset, b->bytes);
  });
  for (size_t i = 0; i < in_order.size(); ++i) in_order[i]->crc32 = values[i + 1];
  const bool intact = crc32(0, values.data(), 4 * (count - 1)) == values.back() &&
                      crc32(0, head.data(), head.size()) == values.front() &&
                      crc32(0, sha256_.data(), sha256_.size()) == digest_at->second.crc32;
  if (!intact) corrupt(path());
  tensors_.erase(digest_at);
}

void FlatTensorFile::check_all(const char* remedy) const {
  std::vector<std::pair<int64_t, std::string>> in_order;
  for (const auto& [key, spec] : tensors_) in_order.emplace_back(spec.offset, key);
  std::sort(in_order.begin(), in_order.end());
  for (const auto& [offset, key] : in_order) {
    const TensorSpec& spec = tensors_.at(key);
    if (crc32(file_, offset, spec.bytes) == spec.crc32) continue;
    fail("%s: %s is damaged. %s", path().c_str(), key.c_str(), remedy);
  }
}

std::vector<uint8_t> FlatTensorFile::read_bytes(const std::string& key) const {
  const TensorSpec& spec = require(key);
  if (spec.type != ScalarType::Byte || spec.bytes > (1 << 16)) corrupt(path());
  std::vector<uint8_t> data(spec.bytes);
  file_.read_at(data.data(), data.size(), spec.offset);
  if (crc32(0, data.data(), data.size()) != spec.crc32) corrupt(path());
  return data;
}

const TensorSpec* FlatTensorFile::find(const std::string& key) const {
  const auto found = tensors_.find(key);
  return found == tensors_.end() ? nullptr : &found->second;
}

const TensorSpec& FlatTensorFile::require(const std::string& key) const {
  const TensorSpec* spec = find(key);
  if (spec == nullptr) {
    fail("%s has no tensor %s. Export or copy it again", path().c_str(), key.c_str());
  }
  return *spec;
}

std::string hexadecimal(const Sha256& digest) {
  std::string text;
  for (uint8_t byte : digest) text += format("%02x", byte);
  return text;
}

int64_t element_bytes(ScalarType type) {
  switch (type) {
    case ScalarType::Byte:
    case ScalarType::Char:
      return 1;
    case ScalarType::Half:
      return 2;
    case ScalarType::Int:
    case ScalarType::Float:
      return 4;
    case ScalarType::Long:
      return 8;
    default:
      return 0;
  }
}

std::string describe(ScalarType type, const std::vector<int32_t>& sizes) {
  const char* name = "type";
  switch (type) {
    case ScalarType::Byte:
      name = "uint8";
      break;
    case ScalarType::Char:
      name = "int8";
      break;
    case ScalarType::Half:
      name = "float16";
      break;
    case ScalarType::Int:
      name = "int32";
      break;
    case ScalarType::Float:
      name = "float32";
      break;
    case ScalarType::Long:
      name = "int64";
      break;
    default:
      break;
  }
  std::string text = std::string(name) + " [";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

}  // namespace toolkit
