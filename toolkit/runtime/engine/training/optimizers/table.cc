// The optimizers there are.
#include "engine/error.h"
#include "engine/training/optimizers/optimizer.h"
#include "kernels/parallel.h"

namespace toolkit {

extern const OptimizerRow kAdaLomo, kAdamW, kAdamW8bit, kApollo, kApolloMini, kLion, kLomo, kMlorc,
    kSgd;

const std::vector<OptimizerRow>& optimizers() {
  static const std::vector<OptimizerRow> rows = {kSgd,     kAdamW,  kLion,       kLomo, kAdamW8bit,
                                                 kAdaLomo, kApollo, kApolloMini, kMlorc};
  return rows;
}

const OptimizerRow& optimizer_row(const std::string& name) {
  std::string known;
  for (const OptimizerRow& row : optimizers()) {
    if (name == row.name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail_usage("unknown optimizer '%s'. Choose one of %s", name.c_str(), known.c_str());
}

bool reads(const std::vector<OptionUse>& uses, const std::string& name) {
  for (const OptionUse& use : uses) {
    if (name == use.name) return true;
  }
  return false;
}

int64_t element_bytes(const std::string& type) {
  if (type == "float32") return 4;
  if (type == "uint8") return 1;
  fail("the state has an array of type %s. Deploy a newer runtime", type.c_str());
}

int64_t held_bytes(const StateSpec& spec) {
  constexpr int64_t kLine = 64;
  return (spec.count * element_bytes(spec.type) + kLine - 1) / kLine * kLine;
}

void each_range(int64_t count, const std::function<void(int64_t, int64_t)>& body) {
  constexpr int64_t kFew = 8192;
  if (count <= kFew) return body(0, count);
  parallel(count, [&](int64_t begin, int64_t end, int) { body(begin, end); });
}

}  // namespace toolkit
