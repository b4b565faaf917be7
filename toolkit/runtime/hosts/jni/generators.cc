#include "hosts/jni/generators.h"

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "hosts/jni/java.h"
#include "hosts/reply_json.h"

namespace toolkit::jni {
namespace {

// One generator; replies exclude each other. It ends once it is closed and the calls in it
// returned.
struct Session {
  explicit Session(toolkit_generator* opened) : generator(opened) {}
  ~Session() { toolkit_generator_close(generator); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  toolkit_generator* const generator;
  std::mutex calls;
};

std::mutex table;
int64_t last_number = 0;
std::map<int64_t, std::shared_ptr<Session>> sessions;
jmethodID told_method = nullptr;

std::shared_ptr<Session> require(JNIEnv* env, jlong number) {
  {
    std::lock_guard<std::mutex> lock(table);
    const auto found = sessions.find(number);
    if (found != sessions.end()) return found->second;
  }
  raise(env, 1, "this model is closed. Open it again");
  return nullptr;
}

jlong open(JNIEnv* env, jclass, jbyteArray packed) {
  const Options options(to_text(env, packed));
  toolkit_generator* generator = nullptr;
  const int status =
      toolkit_generator_create(options.values.data(), options.values.size(), &generator);
  if (status != 0) {
    raise(env, status, toolkit_generator_last_error(nullptr));
    return 0;
  }
  std::lock_guard<std::mutex> lock(table);
  sessions[++last_number] = std::make_shared<Session>(generator);
  return last_number;
}

void set(JNIEnv* env, jclass, jlong number, jbyteArray packed) {
  const std::shared_ptr<Session> session = require(env, number);
  if (session == nullptr) return;
  const Options options(to_text(env, packed));
  std::lock_guard<std::mutex> lock(session->calls);
  const int status =
      toolkit_generator_set(session->generator, options.values.data(), options.values.size());
  if (status != 0) raise(env, status, toolkit_generator_last_error(session->generator));
}

struct Listener {
  JNIEnv* env;
  jobject told;
};

int32_t tell(const toolkit_reply_event* event, void* user) {
  const Listener& listener = *static_cast<Listener*>(user);
  const jboolean more =
      listener.env->CallBooleanMethod(listener.told, told_method, jint(event->token));
  return more == JNI_TRUE && !listener.env->ExceptionCheck();
}

// Returns the finished reply as JSON, or null with an exception pending.
jbyteArray reply(JNIEnv* env, jclass, jlong number, jintArray prompt, jobject told) {
  const std::shared_ptr<Session> session = require(env, number);
  if (session == nullptr) return nullptr;
  std::vector<int32_t> tokens(size_t(env->GetArrayLength(prompt)));
  env->GetIntArrayRegion(prompt, 0, jsize(tokens.size()), tokens.data());
  Listener listener{env, told};
  toolkit_reply found;
  std::lock_guard<std::mutex> lock(session->calls);
  const int status = toolkit_generator_reply(session->generator, tokens.data(), tokens.size(), tell,
                                             &listener, &found);
  if (env->ExceptionCheck()) return nullptr;
  if (status == 0) {
    Json reply;
    reply.field("type", "reply");
    add_reply(found, &reply);
    return to_bytes(env, reply.str());
  }
  raise(env, status, toolkit_generator_last_error(session->generator));
  return nullptr;
}

void close(JNIEnv*, jclass, jlong number) {
  std::shared_ptr<Session> closed;  // freed after the table is unlocked
  std::lock_guard<std::mutex> lock(table);
  const auto found = sessions.find(number);
  if (found == sessions.end()) return;
  closed.swap(found->second);
  sessions.erase(found);
}

const JNINativeMethod kMethods[] = {
    TOOLKIT_METHOD("open", "([B)J", open),
    TOOLKIT_METHOD("set", "(J[B)V", set),
    TOOLKIT_METHOD("reply", "(J[ILdev/toolkit/trainer/engine/TokenListener;)[B", reply),
    TOOLKIT_METHOD("close", "(J)V", close),
};

}  // namespace

bool register_generator(JNIEnv* env) {
  const jclass told = env->FindClass("dev/toolkit/trainer/engine/TokenListener");
  const jclass generator = env->FindClass("dev/toolkit/trainer/engine/NativeGenerator");
  if (told == nullptr || generator == nullptr) return false;
  told_method = env->GetMethodID(told, "told", "(I)Z");
  const jint count = sizeof(kMethods) / sizeof(kMethods[0]);
  return told_method != nullptr && env->RegisterNatives(generator, kMethods, count) == 0;
}

}  // namespace toolkit::jni
