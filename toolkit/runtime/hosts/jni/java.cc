#include "hosts/jni/java.h"

namespace toolkit::jni {
namespace {

jclass exception_class = nullptr;
jmethodID exception_constructor = nullptr;

}  // namespace

bool find_exception(JNIEnv* env) {
  const jclass exception = env->FindClass("dev/toolkit/trainer/engine/EngineException");
  if (exception == nullptr) return false;
  exception_class = static_cast<jclass>(env->NewGlobalRef(exception));
  exception_constructor = env->GetMethodID(exception_class, "<init>", "([BI)V");
  return exception_constructor != nullptr;
}

jbyteArray to_bytes(JNIEnv* env, const std::string& text) {
  const jbyteArray bytes = env->NewByteArray(jsize(text.size()));
  if (bytes == nullptr) return nullptr;
  env->SetByteArrayRegion(bytes, 0, jsize(text.size()),
                          reinterpret_cast<const jbyte*>(text.data()));
  return bytes;
}

std::string to_text(JNIEnv* env, jbyteArray bytes) {
  std::string text(size_t(env->GetArrayLength(bytes)), '\0');
  env->GetByteArrayRegion(bytes, 0, jsize(text.size()), reinterpret_cast<jbyte*>(text.data()));
  return text;
}

void raise(JNIEnv* env, int status, const std::string& message) {
  const jbyteArray bytes = to_bytes(env, message);
  if (bytes == nullptr) return;  // out of memory is pending
  const jobject exception =
      env->NewObject(exception_class, exception_constructor, bytes, jint(status));
  if (exception != nullptr) env->Throw(static_cast<jthrowable>(exception));
}

Options::Options(std::string packed) : text(std::move(packed)) {
  std::vector<const char*> words;
  for (size_t at = 0; at < text.size(); at = text.find('\0', at) + 1) {
    words.push_back(text.c_str() + at);
    if (text.find('\0', at) == std::string::npos) break;
  }
  for (size_t i = 0; i + 1 < words.size(); i += 2) values.push_back({words[i], words[i + 1]});
}

}  // namespace toolkit::jni
