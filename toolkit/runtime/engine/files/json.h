// Writes JSON text; the runtime never parses any.
#pragma once

#include <cstdint>
#include <string>

namespace toolkit {

// Appends one object's members in order: Json().field("a", 1).field("b", "x").str() ==
// {"a":1,"b":"x"}.
class Json {
 public:
  Json& field(const char* name, int64_t value);
  Json& field(const char* name, int value) { return field(name, int64_t(value)); }
  Json& field(const char* name, double value);  // null unless finite
  Json& field(const char* name, bool value);
  Json& field(const char* name, const std::string& value);
  Json& field(const char* name, const char* value) { return field(name, std::string(value)); }
  Json& null(const char* name);
  Json& raw(const char* name, const std::string& json);  // an object or array written elsewhere
  std::string str() const { return "{" + text_ + "}"; }

 private:
  void key(const char* name);
  std::string text_;
};

std::string json_quote(const std::string& text);
std::string json_number(double value);

}  // namespace toolkit
