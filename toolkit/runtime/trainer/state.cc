#include "trainer/state.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "trainer/checksum.h"
#include "trainer/error.h"
#include "trainer/files.h"

namespace toolkit {
namespace {

constexpr char kMagic[8] = "TKSTATE";
constexpr uint32_t kVersion = 1;

struct StateHeader {
  char magic[8];
  uint32_t version;
  uint32_t arrays;  // adapter values and optimizer arrays
  uint64_t fingerprint;
  char optimizer[16];
  uint64_t seed;
  int64_t samples;
  int64_t sequences_per_step;
  int64_t shuffled;
  int64_t step;
  int64_t position;
  uint64_t array_bytes;
};
static_assert(sizeof(StateHeader) == 96, "the file format has no padding");

StateHeader make_header(const RunIdentity& identity, const Progress& progress, size_t array_bytes,
                        int arrays) {
  StateHeader header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.arrays = uint32_t(arrays);
  header.fingerprint = identity.fingerprint;
  identity.optimizer.copy(header.optimizer, sizeof(header.optimizer) - 1);
  header.seed = identity.seed;
  header.samples = identity.samples;
  header.sequences_per_step = identity.sequences_per_step;
  header.shuffled = identity.shuffled;
  header.step = progress.step;
  header.position = progress.position;
  header.array_bytes = array_bytes;
  return header;
}

void compare(const std::string& path, const StateHeader& saved, const StateHeader& wanted) {
  const char* what = nullptr;
  if (saved.fingerprint != wanted.fingerprint || saved.array_bytes != wanted.array_bytes) {
    what = "another bundle";
  } else if (std::memcmp(saved.optimizer, wanted.optimizer, sizeof(saved.optimizer)) != 0 ||
             saved.arrays != wanted.arrays) {
    what = "another optimizer or momentum";
  } else if (saved.samples != wanted.samples) {
    what = "other data";
  } else if (saved.seed != wanted.seed || saved.shuffled != wanted.shuffled) {
    what = "another seed or order";
  } else if (saved.sequences_per_step != wanted.sequences_per_step) {
    what = "another batch size";
  }
  if (what != nullptr) {
    fail("%s was saved with %s. Resume with the settings of the first run or start a new one",
         path.c_str(), what);
  }
}

// Whether the checksum at the end is that of everything before it.
bool intact(const File& file, int64_t size) {
  std::vector<char> chunk(64 * 1024);
  Checksum sum;
  for (int64_t offset = 0; offset < size - 8; offset += chunk.size()) {
    const size_t count = std::min<int64_t>(chunk.size(), size - 8 - offset);
    file.read_at(chunk.data(), count, offset);
    sum.add(chunk.data(), count);
  }
  uint64_t saved = 0;
  file.read_at(&saved, sizeof(saved), size - 8);
  return saved == sum.value();
}

}  // namespace

void save_state(const std::string& path, const RunIdentity& identity, const Progress& progress,
                const Buffer& values, Optimizer& optimizer) {
  const StateHeader header =
      make_header(identity, progress, values.bytes(), 1 + optimizer.state_count());
  AtomicFile file(path);
  Checksum sum;
  const auto put = [&](const void* data, size_t bytes) {
    file.write(data, bytes);
    sum.add(data, bytes);
  };
  put(&header, sizeof(header));
  put(values.data(), values.bytes());
  for (int i = 0; i < optimizer.state_count(); ++i) {
    put(optimizer.state(i).data(), optimizer.state(i).bytes());
  }
  const uint64_t value = sum.value();
  file.write(&value, sizeof(value));
  file.commit();
}

Progress load_state(const std::string& path, const RunIdentity& identity, Buffer& values,
                    Optimizer& optimizer) {
  const File file(path, O_RDONLY);
  const int64_t size = file.size();
  const bool whole = size >= int64_t(sizeof(StateHeader)) + 8;
  StateHeader header = {};
  if (whole) file.read_at(&header, sizeof(header), 0);
  if (!whole || std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0 || !intact(file, size)) {
    fail("%s is damaged. Delete the run and start again", path.c_str());
  }
  if (header.version != kVersion) {
    fail("%s has version %u, this runtime reads %u. Resume with the runtime that saved it",
         path.c_str(), header.version, kVersion);
  }
  const Progress progress{header.step, header.position};
  const int arrays = 1 + optimizer.state_count();
  compare(path, header, make_header(identity, progress, values.bytes(), arrays));
  int64_t offset = sizeof(header);
  for (int i = 0; i < arrays; ++i) {
    Buffer& target = i == 0 ? values : optimizer.state(i - 1);
    file.read_at(target.data(), target.bytes(), offset);
    offset += target.bytes();
  }
  return progress;
}

}  // namespace toolkit
