// The native methods of dev.toolkit.trainer.engine.NativeTrainer: they convert, nothing else.
//
// Text crosses as UTF-8 bytes, because JNI's own strings are a different encoding; options as
// name NUL value NUL name NUL value. A status other than 0 becomes an EngineException.
#include <jni.h>

#include <string>

#include "hosts/jni/generators.h"
#include "hosts/jni/java.h"
#include "hosts/jni/session.h"

namespace {

using toolkit::jni::close_session;
using toolkit::jni::find_session;
using toolkit::jni::open_session;
using toolkit::jni::Options;
using toolkit::jni::raise;
using toolkit::jni::Session;
using toolkit::jni::to_bytes;
using toolkit::jni::to_text;

jmethodID line_method = nullptr;

std::shared_ptr<Session> require(JNIEnv* env, jlong number) {
  std::shared_ptr<Session> session = find_session(number);
  if (session == nullptr) raise(env, 1, "this run is closed. Open it again");
  return session;
}

jlong create(JNIEnv* env, jclass, jbyteArray packed) {
  const Options options(to_text(env, packed));
  int status = 0;
  std::string error;
  const int64_t number =
      open_session(options.values.data(), options.values.size(), &status, &error);
  if (status != 0) raise(env, status, error);
  return number;
}

struct Listener {
  JNIEnv* env;
  jobject lines;
};

void print_line(const char* line, void* user) {
  const Listener& listener = *static_cast<Listener*>(user);
  JNIEnv* env = listener.env;
  if (env->ExceptionCheck()) return;
  const jbyteArray bytes = to_bytes(env, line);
  if (bytes == nullptr) return;
  env->CallVoidMethod(listener.lines, line_method, bytes);
  env->DeleteLocalRef(bytes);
}

jboolean step(JNIEnv* env, jclass, jlong number, jobject waiting) {
  const std::shared_ptr<Session> session = require(env, number);
  if (session == nullptr) return JNI_FALSE;
  bool more = false;
  std::string error;
  Listener listener{env, waiting};
  const int status = session->step(&more, &error, print_line, &listener);
  if (env->ExceptionCheck()) return JNI_FALSE;
  if (status != 0) raise(env, status, error);
  return more ? JNI_TRUE : JNI_FALSE;
}

void request_stop(JNIEnv*, jclass, jlong number) {
  if (const std::shared_ptr<Session> session = find_session(number)) session->request_stop();
}

void note(JNIEnv* env, jclass, jlong number, jbyteArray event, jbyteArray detail) {
  const std::shared_ptr<Session> session = find_session(number);
  if (session != nullptr) session->note(to_text(env, event).c_str(), to_text(env, detail).c_str());
}

// Order as in NativeTrainer.progress().
jdoubleArray progress(JNIEnv* env, jclass, jlong number) {
  const std::shared_ptr<Session> session = require(env, number);
  if (session == nullptr) return nullptr;
  const toolkit_progress now = session->progress();
  const jdouble values[] = {double(now.step),
                            double(now.steps),
                            double(now.tokens),
                            now.loss,
                            now.lr,
                            now.grad_norm,
                            now.seconds,
                            double(now.peak_kib),
                            double(now.running),
                            double(now.stopped)};
  const jsize count = sizeof(values) / sizeof(values[0]);
  const jdoubleArray array = env->NewDoubleArray(count);
  if (array != nullptr) env->SetDoubleArrayRegion(array, 0, count, values);
  return array;
}

void close(JNIEnv*, jclass, jlong number) { close_session(number); }

void evaluate(JNIEnv* env, jclass, jbyteArray packed, jobject lines) {
  const Options options(to_text(env, packed));
  Listener listener{env, lines};
  const int status =
      toolkit_evaluate(options.values.data(), options.values.size(), print_line, &listener);
  if (status != 0 && !env->ExceptionCheck())
    raise(env, status, toolkit_trainer_last_error(nullptr));
}

jbyteArray dry_run(JNIEnv* env, jclass, jbyteArray packed) {
  const Options options(to_text(env, packed));
  std::string told;
  const auto keep = [](const char* line, void* user) { *static_cast<std::string*>(user) = line; };
  const int status = toolkit_dry_run(options.values.data(), options.values.size(), keep, &told);
  if (status == 0) return to_bytes(env, told);
  raise(env, status, toolkit_trainer_last_error(nullptr));
  return nullptr;
}

jbyteArray info(JNIEnv* env, jclass) {
  const char* line = toolkit_info();
  if (line != nullptr) return to_bytes(env, line);
  raise(env, 2, toolkit_trainer_last_error(nullptr));
  return nullptr;
}

const JNINativeMethod kMethods[] = {
    TOOLKIT_METHOD("create", "([B)J", create),
    TOOLKIT_METHOD("step", "(JLdev/toolkit/trainer/engine/LineListener;)Z", step),
    TOOLKIT_METHOD("requestStop", "(J)V", request_stop),
    TOOLKIT_METHOD("note", "(J[B[B)V", note),
    TOOLKIT_METHOD("progress", "(J)[D", progress),
    TOOLKIT_METHOD("close", "(J)V", close),
    TOOLKIT_METHOD("evaluate", "([BLdev/toolkit/trainer/engine/LineListener;)V", evaluate),
    TOOLKIT_METHOD("dryRun", "([B)[B", dry_run),
    TOOLKIT_METHOD("info", "()[B", info),
};

}  // namespace

extern "C" JNIEXPORT jint JNI_OnLoad(JavaVM* vm, void*) {
  JNIEnv* env = nullptr;
  if (vm->GetEnv(reinterpret_cast<void**>(&env), JNI_VERSION_1_6) != JNI_OK) return JNI_ERR;
  const jclass lines = env->FindClass("dev/toolkit/trainer/engine/LineListener");
  const jclass trainer = env->FindClass("dev/toolkit/trainer/engine/NativeTrainer");
  if (lines == nullptr || trainer == nullptr || !toolkit::jni::find_exception(env)) return JNI_ERR;
  line_method = env->GetMethodID(lines, "line", "([B)V");
  if (line_method == nullptr || !toolkit::jni::register_generator(env)) return JNI_ERR;
  const jint count = sizeof(kMethods) / sizeof(kMethods[0]);
  return env->RegisterNatives(trainer, kMethods, count) == 0 ? JNI_VERSION_1_6 : JNI_ERR;
}
