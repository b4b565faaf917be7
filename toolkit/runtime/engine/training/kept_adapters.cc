#include "engine/training/kept_adapters.h"

#include <algorithm>
#include <cstdlib>

#include "engine/files/files.h"

namespace toolkit {
namespace {

constexpr char kPrefix[] = "step-";

/// The step of a folder's name, -1 if it is none of ours.
int64_t step_of(const std::string& name) {
  constexpr size_t kSkip = sizeof(kPrefix) - 1;
  if (name.compare(0, kSkip, kPrefix) != 0) return -1;
  const int64_t step = strtoll(name.c_str() + kSkip, nullptr, 10);
  return name == kPrefix + std::to_string(step) ? step : -1;
}

}  // namespace

std::string KeptAdapters::of_step(int64_t step) const {
  return folder_ + "/" + kPrefix + std::to_string(step);
}

std::string KeptAdapters::file_of(int64_t step) const {
  return of_step(step) + "/adapter_model.safetensors";
}

void KeptAdapters::write(int64_t step, const std::vector<NamedTensor>& tensors,
                         const Visited& visited) const {
  make_directories(of_step(step));
  write_safetensors(file_of(step), tensors, visited);
}

bool KeptAdapters::has(int64_t step) const { return file_exists(file_of(step)); }

std::vector<int64_t> KeptAdapters::steps() const {
  std::vector<int64_t> steps;
  for (const std::string& name : names_in(folder_)) {
    if (step_of(name) >= 0) steps.push_back(step_of(name));
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void KeptAdapters::keep(const std::function<bool(int64_t step)>& wanted) const {
  for (int64_t step : steps()) {
    if (wanted(step)) continue;
    remove_file(file_of(step));
    remove_file(file_of(step) + ".tmp");
    remove_empty_directory(of_step(step));
  }
  remove_empty_directory(folder_);
}

void KeptAdapters::keep_last(int64_t count) const {
  const std::vector<int64_t> all = steps();
  const size_t more = all.size() > size_t(count) ? all.size() - size_t(count) : 0;
  if (more > 0) keep([&](int64_t step) { return step >= all[more]; });
}

}  // namespace toolkit
