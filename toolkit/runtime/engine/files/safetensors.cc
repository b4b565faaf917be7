// safetensors: 8 bytes of header length, a JSON header padded with spaces to 8 bytes, the tensors'
// bytes.
#include "engine/files/files.h"
#include "engine/files/json.h"
#include "engine/model/adapter.h"

namespace toolkit {

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
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

  AtomicFile file(path);
  const uint64_t length = header.size();  // little-endian, like every processor we build for
  file.write(&length, sizeof(length));
  file.write(header.data(), header.size());
  for (size_t i = 0; i < tensors.size(); ++i) file.write(tensors[i].data, sizes[i]);
  file.commit();
}

}  // namespace toolkit
