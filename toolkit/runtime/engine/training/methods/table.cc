// The methods there are.
#include "engine/error.h"
#include "engine/training/methods/method.h"

namespace toolkit {

extern const MethodRow kBlockCoordinate, kExact, kLcsb, kMezo, kMobizo, kSparseMezo, kSplit;

const std::vector<MethodRow>& methods() {
  static const std::vector<MethodRow> rows = {kExact,  kLcsb, kBlockCoordinate, kMezo, kSparseMezo,
                                              kMobizo, kSplit};
  return rows;
}

const MethodRow& method_row(const std::string& name) {
  std::string known;
  for (const MethodRow& row : methods()) {
    if (name == row.name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail_usage("unknown method '%s'. Choose one of %s", name.c_str(), known.c_str());
}

}  // namespace toolkit
