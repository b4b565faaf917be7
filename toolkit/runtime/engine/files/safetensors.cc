// safetensors: 8 bytes of header length, a JSON header padded with spaces to 8 bytes, the tensors'
// bytes.
#include "engine/error.h"
#include "engine/files/crc32.h"
#include "engine/files/files.h"
#include "engine/files/json.h"
#include "engine/model/adapter.h"

namespace toolkit {
namespace {

constexpr char kBeforeChecksum[] = "{\"__metadata__\":{\"format\":\"pt\",\"toolkit_crc32\":\"";
constexpr char kNoChecksum[] = "00000000";

}  // namespace

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const Visited& visited) {
  std::string header = std::string(kBeforeChecksum) + kNoChecksum + "\"}";
  uint64_t offset = 0;
  std::vector<uint64_t> sizes;
  for (const NamedTensor& tensor : tensors) {
    uint64_t bytes = sizeof(float);
    std::string shape;
    for (int32_t size : tensor.sizes) {
      bytes *= uint64_t(size);
      shape += (shape.empty() ? "" : ",") + std::to_string(size);
    }
    header += "," + json_quote(tensor.name) + ":{\"dtype\":\"F32\",\"shape\":[" + shape +
              "],\"data_offsets\":[" + std::to_string(offset) + "," +
              std::to_string(offset + bytes) + "]}";
    offset += bytes;
    sizes.push_back(bytes);
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');

  const uint64_t length = header.size();  // little-endian, like every processor we build for
  uint32_t sum = crc32(crc32(0, &length, sizeof(length)), header.data(), header.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    sum = crc32(sum, tensors[i].data, sizes[i]);
    if (visited) visited(tensors[i].data, sizes[i]);
  }
  header.replace(sizeof(kBeforeChecksum) - 1, sizeof(kNoChecksum) - 1, format("%08x", sum));

  AtomicFile file(path);
  file.write(&length, sizeof(length));
  file.write(header.data(), header.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    file.write(tensors[i].data, sizes[i]);
    if (visited) visited(tensors[i].data, sizes[i]);
  }
  file.commit();
}

}  // namespace toolkit
