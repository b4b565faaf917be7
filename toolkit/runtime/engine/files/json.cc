#include "engine/files/json.h"

#include <cmath>
#include <cstdio>

namespace toolkit {
namespace {

// Length of a well-formed UTF-8 sequence at text[i], or 0.
size_t utf8_length(const std::string& text, size_t i) {
  const unsigned char lead = text[i];
  const size_t length = lead < 0x80           ? 1
                        : (lead >> 5) == 0x6  ? 2
                        : (lead >> 4) == 0xe  ? 3
                        : (lead >> 3) == 0x1e ? 4
                                              : 0;
  if (length == 0 || i + length > text.size()) return 0;
  for (size_t k = 1; k < length; ++k) {
    if ((static_cast<unsigned char>(text[i + k]) >> 6) != 0x2) return 0;
  }
  return length;
}

}  // namespace

std::string json_quote(const std::string& text) {
  std::string out = "\"";
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = text[i];
    const size_t length = utf8_length(text, i);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += char(c);
    } else if (c < 0x20) {
      char escape[8];
      snprintf(escape, sizeof(escape), "\\u%04x", c);
      out += escape;
    } else if (length == 0) {
      out += "\\ufffd";  // File names may hold any bytes; JSON may not.
    } else {
      out.append(text, i, length);
    }
    i += length == 0 ? 1 : length;
  }
  return out + "\"";
}

std::string json_number(double value) {
  if (!std::isfinite(value)) return "null";
  char buffer[32];
  // The shortest of these that reads back as the same number.
  for (int digits : {9, 12, 15, 17}) {
    snprintf(buffer, sizeof(buffer), "%.*g", digits, value);
    double back = 0;
    if (sscanf(buffer, "%lf", &back) == 1 && back == value) break;
  }
  return buffer;
}

void Json::key(const char* name) {
  if (!text_.empty()) text_ += ',';
  text_ += '"';
  text_ += name;
  text_ += "\":";
}

Json& Json::field(const char* name, int64_t value) { return raw(name, std::to_string(value)); }
Json& Json::field(const char* name, double value) { return raw(name, json_number(value)); }
Json& Json::field(const char* name, bool value) { return raw(name, value ? "true" : "false"); }
Json& Json::field(const char* name, const std::string& value) {
  return raw(name, json_quote(value));
}
Json& Json::null(const char* name) { return raw(name, "null"); }

Json& Json::raw(const char* name, const std::string& json) {
  key(name);
  text_ += json;
  return *this;
}

}  // namespace toolkit
