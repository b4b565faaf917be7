// What `trainer generate` and the app's bridge say of a finished reply.
#pragma once

#include "engine/files/json.h"
#include "hosts/toolkit_trainer.h"

namespace toolkit {

inline void add_reply(const toolkit_reply& r, Json* json) {
  json->field("reason", r.reason);
  json->field("prompt_tokens", r.prompt_tokens).field("reused_tokens", r.reused_tokens);
  json->field("computed_tokens", r.computed_tokens);
  json->field("tokens", r.tokens).field("prompt_seconds", r.prompt_seconds);
  json->field("seconds", r.seconds).field("cache_bytes", r.cache_bytes);
  json->field("adapter_bytes", r.adapter_bytes).field("anonymous_kib", r.anonymous_kib);
  json->field("file_kib", r.file_kib).field("peak_kib", r.peak_kib);
}

}  // namespace toolkit
