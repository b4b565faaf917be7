#include "engine/training/methods/zeroth_order.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"
#include "engine/memory/dry_step.h"

namespace toolkit {
namespace {

// Of hidden states: a step of more rows takes several passes.
constexpr size_t kStates = 8 << 20;

/// Pairs of rows that a pass computes.
int64_t pairs_of(const MethodParts& parts, int64_t queries) {
  const int64_t beside = parts.network.bundle().any_keeps(0) ? 2 : 1;
  const int64_t rows =
      int64_t(kStates / parts.network.hidden_bytes()) - beside * parts.network.together();
  return std::clamp<int64_t>(rows / 2, 1, queries * parts.options.grad_accum);
}

}  // namespace

ZerothOrder::ZerothOrder(const MethodParts& parts, int64_t queries, bool b_alone, double sparsity)
    : parts_(parts),
      layout_(parts.network.adapter()),
      directions_(layout_, uint64_t(parts.options.seed), b_alone),
      sparsity_(sparsity),
      queries_(queries),
      batch_size_(parts.options.batch_size),
      pairs_(pairs_of(parts, queries)),
      estimates_(parts.options.out + "/estimates.jsonl"),
      states_(1, false, 2 * pairs_, parts.network.hidden_bytes(), CheckpointPlace::ram, ""),
      perturbed_(std::max<int64_t>(1, parts.network.together() / 2)),
      copies_(perturbed_.size() * 2 * layout_.largest_floats() * sizeof(float), Category::adapters,
              "toolkit adapters") {}

void ZerothOrder::begin(int64_t step, const Origin& origin) {
  const Options& options = parts_.options;
  Json session;
  session.field("type", "session").field("version", 1).field("method", options.method);
  session.field("seed", options.seed).field("layers", parts_.trained.text());
  session.field("adapter_sha256", origin.sha256);
  if (origin.taken >= 0) session.field("taken", origin.taken);
  session.field("weight_decay", options.weight_decay);
  session.field("lora_plus_ratio", options.lora_plus_ratio);
  session.field("b_alone", directions_.b_alone()).field("sparsity", sparsity_);
  estimates_.begin(step, session);
}

StepResult ZerothOrder::step(const std::vector<int64_t>& samples, StepSize size) {
  const double tokens = double(parts_.passes.labelled(samples));
  const std::vector<Sums> sums = losses(samples, size.step);
  StepResult result;
  result.loss.tokens = int64_t(tokens);
  std::vector<double> slopes;
  for (const Sums& sum : sums) {
    const double slope = (sum.plus - sum.minus) / tokens / (2 * parts_.options.zo_eps);
    if (!std::isfinite(slope)) {
      fail("the loss is not finite. Use a lower learning rate or a smaller --zo-eps");
    }
    slopes.push_back(slope);
    result.loss.loss += (sum.plus + sum.minus) / double(2 * queries_);
    result.grad_norm += slope * slope / double(queries_);
  }
  // The mean square of slopes is that of the gradient's norm.
  result.grad_norm = std::sqrt(result.grad_norm);
  for (int64_t layer : parts_.trained.list()) update(layer, slopes, size);
  estimates_.add(size.step, size.lr, slopes);
  return result;
}

/// Sums of token losses along every direction.
std::vector<ZerothOrder::Sums> ZerothOrder::losses(const std::vector<int64_t>& samples,
                                                   int64_t step) {
  const int64_t batches = int64_t(samples.size()) / batch_size_;
  std::vector<Pair> pairs;
  for (int64_t query = 0; query < queries_; ++query) {
    for (int64_t batch = 0; batch < batches; ++batch) pairs.push_back({query, batch});
  }
  std::vector<Sums> sums(queries_);
  for (size_t first = 0; first < pairs.size(); first += size_t(pairs_)) {
    const size_t last = std::min(pairs.size(), first + size_t(pairs_));
    std::vector<int64_t> rows;
    for (size_t i = first; i < last; ++i) {
      const auto begin = samples.begin() + pairs[i].batch * batch_size_;
      for (int sign = 0; sign < 2; ++sign) rows.insert(rows.end(), begin, begin + batch_size_);
    }
    const std::vector<double> losses = parts_.passes.losses(
        rows,
        [&](int64_t layer, size_t row) {
          return values_of(layer, {step, pairs[first + row / 2].query}, row % 2 == 0);
        },
        states_, Passes::Phases::traced);
    for (size_t i = first; i < last; ++i) {
      sums[pairs[i].query].plus += losses[2 * (i - first)];
      sums[pairs[i].query].minus += losses[2 * (i - first) + 1];
    }
    std::fill(perturbed_.begin(), perturbed_.end(), Perturbed());
  }
  return sums;
}

const float* ZerothOrder::values_of(int64_t layer, Query query, bool plus) {
  const float* values = parts_.updater.values() + layout_.begin(layer);
  if (!parts_.trained.has(layer)) return values;
  const size_t place = size_t(query.number) % perturbed_.size();
  Perturbed& held = perturbed_[place];
  float* above = copies_.floats() + 2 * place * layout_.largest_floats();
  float* below = above + layout_.largest_floats();
  const bool computes = DryStep::current() == nullptr;
  if (computes && (layer != held.layer || query.number != held.query)) {
    directions_.perturb(layer, query, values, float(parts_.options.zo_eps), above, below);
    held = {layer, query.number};
  }
  return plus ? above : below;
}

void ZerothOrder::update(int64_t layer, const std::vector<double>& slopes, StepSize size) {
  Phase phase(parts_.trace, "optimizer", layer);
  const Options& options = parts_.options;
  parts_.updater.change(layer, [&](float* values) {
    if (DryStep* dry = DryStep::current()) return dry->note("optimizer", 0);
    for (int64_t query = 0; query < queries_; ++query) {
      const double factor = -(size.lr * slopes[query]) / double(queries_);
      const double keep = query == 0 ? 1 - size.lr * options.weight_decay : 1;
      const Change change = {float(keep), float(factor), float(factor * options.lora_plus_ratio)};
      directions_.apply(layer, {size.step, query}, change, values);
    }
  });
}

}  // namespace toolkit
