// The list of a zeroth-order run, from which its adapter can be made again: estimates.jsonl.
// What steps go by, again where that changes with a resume, and a line for every step:
//
//   {"type":"session","version":1,"method":"mezo","seed":0,"layers":"all",
//    "adapter_sha256":"..","weight_decay":0,"lora_plus_ratio":1,
//    "b_alone":false,"sparsity":0}
//
// with "taken":N behind the hash where the adapter was taken after step N.
//
//   {"type":"step","step":1,"lr":0.0001,"g":[-0.52]}
//
// g are the slopes of the loss along the step's directions (directions.h). Lines reach the file
// with every save, before the state that counts on them.
#pragma once

#include <string>
#include <vector>

#include "engine/files/files.h"
#include "engine/files/json.h"

namespace toolkit {

class Estimates {
 public:
  // `path` is not touched before begin().
  explicit Estimates(std::string path) : path_(std::move(path)) {}

  // Goes on after `step` steps: cuts off what a killed run wrote of later ones. Throws Error when
  // the file lacks one of these steps.
  void begin(int64_t step, const Json& session);
  void add(int64_t step, double lr, const std::vector<double>& slopes);
  // Writes what waits, for good. Throws Error; nothing of it counts then, and it may be tried
  // again.
  void save();

 private:
  const std::string path_;
  File file_;
  int64_t end_ = 0;  // of what is in the file for good
  std::string waiting_;
};

}  // namespace toolkit
