// What native methods share: text as UTF-8 bytes, options, and failures as EngineException.
#pragma once

#include <jni.h>

#include <string>
#include <vector>

#include "hosts/toolkit_trainer.h"

#define TOOLKIT_METHOD(name, signature, function) \
  {const_cast<char*>(name), const_cast<char*>(signature), reinterpret_cast<void*>(function)}

namespace toolkit::jni {

// To be called when the library is loaded, before all others; false with an exception pending.
bool find_exception(JNIEnv* env);
// Null with an exception pending where memory is short.
jbyteArray to_bytes(JNIEnv* env, const std::string& text);
std::string to_text(JNIEnv* env, jbyteArray bytes);
void raise(JNIEnv* env, int status, const std::string& message);

// name NUL value NUL name NUL value; keeps the text that the options point into.
struct Options {
  explicit Options(std::string packed);
  const std::string text;
  std::vector<toolkit_option> values;
};

}  // namespace toolkit::jni
