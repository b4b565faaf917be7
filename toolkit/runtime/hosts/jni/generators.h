// The native methods of dev.toolkit.trainer.engine.NativeGenerator.
#pragma once

#include <jni.h>

namespace toolkit::jni {

// To be called when the library is loaded; false with an exception pending.
bool register_generator(JNIEnv* env);

}  // namespace toolkit::jni
