// What the runtime knows about the device it runs on.
#pragma once

#include <cstdint>
#include <string>

namespace toolkit {

constexpr const char* kVersion = "0.1.0";

const char* abi_name();  // Android's name: "arm64-v8a", "x86_64"
int core_count();        // cores this process may run on
int fast_core_count();   // those of them with at least half the capacity of the fastest
std::string device_json(int threads, bool hwm_reset);
std::string info_json();  // the `info` command's line

}  // namespace toolkit
