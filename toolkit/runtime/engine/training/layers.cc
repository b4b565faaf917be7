#include "engine/training/layers.h"

#include <algorithm>
#include <cstdlib>

#include "engine/error.h"

namespace toolkit {
namespace {

[[noreturn]] void fail_unreadable(const std::string& text) {
  fail_usage("--layers %s: expected 16-23, 0,4,8-11 or last:8. See --help", text.c_str());
}

// The number that a word is, spaces around it left out.
int64_t number_in(const std::string& text, std::string word) {
  word.erase(0, word.find_first_not_of(' '));
  word.erase(word.find_last_not_of(' ') + 1);
  const bool digits =
      std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (word.empty() || word.size() > 9 || !digits) fail_unreadable(text);
  return strtoll(word.c_str(), nullptr, 10);
}

[[noreturn]] void fail_beyond(const std::string& text, int64_t count) {
  fail_usage("--layers %s: the model has %lld layers. Choose from 0 to %lld, or at most last:%lld",
             text.c_str(), (long long)count, (long long)(count - 1), (long long)count);
}

std::string text_of(const std::vector<int64_t>& layers) {
  std::string text;
  for (size_t first = 0; first < layers.size();) {
    size_t last = first;
    while (last + 1 < layers.size() && layers[last + 1] == layers[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(layers[first]);
    if (last > first) text += "-" + std::to_string(layers[last]);
    first = last + 1;
  }
  return text;
}

}  // namespace

std::vector<int64_t> parse_layers(const std::string& text, int64_t count) {
  std::vector<bool> named(count);
  const auto name = [&](int64_t first, int64_t last) {
    if (first > last) fail_unreadable(text);
    if (last >= count) fail_beyond(text, count);
    std::fill(named.begin() + first, named.begin() + last + 1, true);
  };
  if (const char* word = after_prefix(text, "last:")) {
    const int64_t last = number_in(text, word);
    if (last < 1 || last > count) fail_beyond(text, count);
    name(count - last, count - 1);
  } else {
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      const std::string part = text.substr(begin, end - begin);
      const size_t dash = std::min(part.find('-'), part.size());
      const int64_t first = number_in(text, part.substr(0, dash));
      name(first, dash < part.size() ? number_in(text, part.substr(dash + 1)) : first);
      begin = end + 1;
    }
  }
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < count; ++layer) {
    if (named[layer]) layers.push_back(layer);
  }
  return layers;
}

TrainedLayers::TrainedLayers(const std::string& text, const AdapterLayout& layout)
    : trained_(layout.layers()) {
  std::vector<int64_t> adapted;
  for (int64_t layer = 0; layer < layout.layers(); ++layer) {
    if (layout.has(layer)) adapted.push_back(layer);
  }
  list_ = text.empty() ? adapted : parse_layers(text, layout.layers());
  for (int64_t layer : list_) {
    if (!layout.has(layer)) {
      fail_usage("--layers %s: layer %lld has no adapters, the bundle has them in layers %s",
                 text.c_str(), (long long)layer, text_of(adapted).c_str());
    }
    trained_[layer] = true;
  }
  all_ = list_ == adapted;
}

std::string TrainedLayers::text() const { return all_ ? "all" : text_of(list_); }

}  // namespace toolkit
