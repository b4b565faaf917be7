#include "engine/model/identity.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "engine/error.h"
#include "engine/files/crc32.h"

namespace toolkit {
namespace {

Sha256 read_sha256(const FlatTensorFile& file, const std::string& key) {
  const std::vector<uint8_t> data = file.read_bytes(key);
  Sha256 digest;
  if (data.size() != digest.size()) {
    fail("%s: %s is no SHA-256. Export or make it again", file.path().c_str(), key.c_str());
  }
  std::copy(data.begin(), data.end(), digest.begin());
  return digest;
}

std::string adapter_prefix_of(const FlatTensorFile& file) {
  if (file.find("adapter.prefix") == nullptr) return "base_model.model.model.";
  const std::vector<uint8_t> prefix = file.read_bytes("adapter.prefix");
  return std::string(prefix.begin(), prefix.end());
}

std::string identity_path(const std::string& directory) {
  std::string path = directory + "/identity.ptd";
  if (!file_exists(path)) {
    fail("bundle %s has no identity.ptd: %s", directory.c_str(),
         file_exists(directory + "/programs.pte")
             ? "an older version made it. Export it again"
             : "it is no bundle or not complete. Export or deploy it again");
  }
  return path;
}

}  // namespace

Tokenizer tokenizer_of(const FlatTensorFile& file) {
  if (file.find("tokenizer.name") == nullptr) return {};
  const std::vector<uint8_t> name = file.read_bytes("tokenizer.name");
  return {read_sha256(file, "tokenizer.sha256"), std::string(name.begin(), name.end())};
}

BundleIdentity::BundleIdentity(const std::string& directory) : directory_(directory) {
  const FlatTensorFile file(identity_path(directory));
  file.check_all("Deploy the bundle again");
  programs = read_sha256(file, "programs.sha256");
  base = read_sha256(file, "base.sha256");
  adapter = read_sha256(file, "adapter.sha256");
  tokenizer = tokenizer_of(file);
  adapter_prefix = adapter_prefix_of(file);
  const TensorSpec& sum = file.require("programs.crc32");
  if (sum.bytes != sizeof(programs_crc32_)) {
    fail("%s: programs.crc32 is no CRC-32. Export it again", file.path().c_str());
  }
  file.file().read_at(&programs_crc32_, sizeof(programs_crc32_), sum.offset);
}

std::string BundleIdentity::checked_programs() const {
  const File file(directory_ + "/programs.pte", O_RDONLY);
  if (crc32(file, 0, file.size()) != programs_crc32_) {
    fail("%s is damaged or of another export. Deploy the bundle again", file.path().c_str());
  }
  return file.path();
}

void BundleIdentity::check_part(const char* name, const FlatTensorFile& file,
                                const Sha256& wanted) const {
  if (file.sha256() == wanted) return;
  fail("bundle %s: %s is of another export than the rest. Deploy the bundle again",
       directory_.c_str(), name);
}

void BundleIdentity::check_tokenizer(const std::string& data, const Tokenizer& of_data) const {
  if (tokenizer.name.empty() || (of_data.sha256 == tokenizer.sha256)) return;
  const std::string made = of_data.name.empty() ? "of random tokens for another"
                                                : "with the tokenizer of " + of_data.name;
  fail(
      "data %s was made %s, bundle %s has the tokenizer of %s. Make it again with: toolkit data "
      "FILE --tokenizer BUNDLE",
      data.c_str(), made.c_str(), directory_.c_str(), tokenizer.name.c_str());
}

}  // namespace toolkit
