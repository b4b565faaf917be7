#include "engine/training/state.h"

#include <fcntl.h>

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "engine/error.h"
#include "engine/files/crc32.h"
#include "engine/files/files.h"
#include "engine/files/json.h"
#include "engine/training/optimizers/optimizer.h"
#include "engine/training/run_identity.h"

namespace toolkit {
namespace {

constexpr char kMagic[8] = "TKSTATE";
constexpr uint32_t kVersion = 3;

struct Head {
  char magic[8];
  uint32_t version;
  uint32_t text_bytes;
};
static_assert(sizeof(Head) == 16, "the file format has no padding");

int64_t bytes_of(const StateArray& array) { return array.count * element_bytes(array.type); }

std::string on_one_line(std::string value) {
  for (char& c : value) c = c == '\n' ? ' ' : c;
  return value;
}

/// A word of a line: what would end it is written as % and two digits.
std::string as_word(const std::string& name) {
  static const char* const digits = "0123456789abcdef";
  std::string word;
  for (const char c : name) {
    const bool ends = std::isspace(static_cast<unsigned char>(c)) != 0;
    if (!ends && c != '%') {
      word += c;
    } else {
      word += {'%', digits[(c >> 4) & 15], digits[c & 15]};
    }
  }
  return word;
}

std::string text_of(const RunState& state, const std::vector<StateArray>& arrays) {
  std::ostringstream text;
  text << "step " << state.step << "\nposition " << state.position << "\n";
  if (state.held_out.step >= 0) {
    const HeldOut& losses = state.held_out;
    text << "held_out " << losses.step << " " << losses.since_best << " " << losses.best_step << " "
         << json_number(losses.best_loss) << "\n";
  }
  for (const Field& field : state.identity) {
    text << "identity " << field.name << " " << on_one_line(field.value) << "\n";
  }
  for (const Field& field : state.settings) {
    text << "setting " << field.name << " " << on_one_line(field.value) << "\n";
  }
  for (const StateArray& array : arrays) {
    text << "array " << as_word(array.name) << " " << as_word(array.tensor) << " " << array.type
         << " " << array.count << "\n";
  }
  return text.str();
}

struct Parsed {
  RunState state;
  std::vector<StateArray> arrays;  // named by words, without memory
};

Parsed parse(const std::string& text) {
  Parsed parsed;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string kind, name;
    words >> kind;
    if (kind == "step") {
      words >> parsed.state.step;
    } else if (kind == "position") {
      words >> parsed.state.position;
    } else if (kind == "held_out") {
      HeldOut& losses = parsed.state.held_out;
      words >> losses.step >> losses.since_best >> losses.best_step >> losses.best_loss;
    } else if (kind == "array") {
      StateArray array = {};
      words >> array.name >> array.tensor >> array.type >> array.count;
      parsed.arrays.push_back(array);
    } else if (kind == "identity" || kind == "setting") {
      words >> name;
      std::string value;
      std::getline(words >> std::ws, value);
      (kind == "identity" ? parsed.state.identity : parsed.state.settings).push_back({name, value});
    }
  }
  return parsed;
}

[[noreturn]] void fail_damaged(const std::string& path) {
  fail("%s is damaged. Delete the run and start again", path.c_str());
}

/// Throws unless the checksum at the end is that of everything before it.
Head checked_head(const File& file) {
  Head head = {};
  const int64_t size = file.size(), end = size - int64_t(sizeof(uint32_t));
  if (end < int64_t(sizeof(head))) fail_damaged(file.path());
  file.read_at(&head, sizeof(head), 0);
  if (std::memcmp(head.magic, kMagic, sizeof(kMagic)) != 0) fail_damaged(file.path());
  uint32_t saved = 0;
  file.read_at(&saved, sizeof(saved), end);
  const bool intact = crc32(file, 0, end) == saved;
  if (head.version == 1 || (intact && head.version != kVersion)) {
    fail("%s has version %u, this runtime reads %u. Resume with the runtime that saved it",
         file.path().c_str(), head.version, kVersion);
  }
  if (!intact || head.text_bytes > end - int64_t(sizeof(head))) fail_damaged(file.path());
  return head;
}

void check_arrays(const std::string& path, const std::vector<StateArray>& saved,
                  const std::vector<StateArray>& wanted) {
  const auto is = [](const std::string& word, const std::string& name) {
    return word == as_word(name);
  };
  const auto differs = [&](const StateArray& array, const char* how) {
    fail(
        "%s was saved %s %s of this optimizer and adapter (%s). Resume with the optimizer, its "
        "options (momentum, projection rank, clipping) and the bundle of the first run, or start a "
        "new one",
        path.c_str(), how, array.name.c_str(), array.tensor.c_str());
  };
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (i >= saved.size() || !is(saved[i].name, wanted[i].name) ||
        !is(saved[i].tensor, wanted[i].tensor)) {
      differs(wanted[i], "without the");
    }
    if (saved[i].type != wanted[i].type || saved[i].count != wanted[i].count) {
      differs(wanted[i], "with another size than the");
    }
  }
  if (saved.size() > wanted.size()) differs(saved[wanted.size()], "with one array more, the");
}

}  // namespace

int64_t bytes_of(const std::vector<StateArray>& arrays) {
  int64_t bytes = 0;
  for (const StateArray& array : arrays) bytes += bytes_of(array);
  return bytes;
}

const std::string* find_field(const std::vector<Field>& fields, const std::string& name) {
  for (const Field& field : fields) {
    if (field.name == name) return &field.value;
  }
  return nullptr;
}

void save_state(const std::string& path, const RunState& state,
                const std::vector<StateArray>& arrays, const Visited& visited) {
  const std::string text = text_of(state, arrays);
  Head head = {};
  std::memcpy(head.magic, kMagic, sizeof(kMagic));
  head.version = kVersion;
  head.text_bytes = uint32_t(text.size());
  AtomicFile file(path);
  uint32_t sum = 0;
  const auto put = [&](const void* data, size_t bytes) {
    file.write(data, bytes);
    sum = crc32(sum, data, bytes);
  };
  put(&head, sizeof(head));
  put(text.data(), text.size());
  for (const StateArray& array : arrays) {
    put(array.data, bytes_of(array));
    if (visited) visited(array.data, bytes_of(array));
  }
  file.write(&sum, sizeof(sum));
  file.commit();
}

RunState load_state(const std::string& path, const std::vector<Field>& identity,
                    const std::vector<StateArray>& arrays, const Visited& visited) {
  const File file(path, O_RDONLY);
  const Head head = checked_head(file);
  std::string text(head.text_bytes, ' ');
  file.read_at(&text[0], text.size(), sizeof(head));
  const Parsed parsed = parse(text);
  check_identity(path, parsed.state.identity, identity);
  check_arrays(path, parsed.arrays, arrays);
  int64_t offset = int64_t(sizeof(head)) + head.text_bytes;
  for (const StateArray& array : arrays) {
    file.read_at(array.data, bytes_of(array), offset);
    if (visited) visited(array.data, bytes_of(array));
    offset += bytes_of(array);
  }
  return parsed.state;
}

}  // namespace toolkit
