// The commands that only compute: `gradients` and `evaluate`.
#include <cmath>

#include "engine/error.h"
#include "engine/training/trainer.h"

namespace toolkit {
namespace {

Buffer read_values(const Options& options, const Bundle& bundle, const AdapterLayout& layout) {
  Buffer values(layout.total_floats() * sizeof(float), Category::adapters, "toolkit adapters");
  load_start(bundle, options.adapter, layout, values.floats());
  return values;
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

}  // namespace

void run_gradients(Runtime& runtime, const Options& options, PrintLine print, void* user) {
  const Bundle bundle(options.bundle);
  const Dataset data(options.data, bundle);
  const std::vector<int64_t> samples = parse_indices("samples", options.samples, data.samples());
  const int64_t together = options.batch_size;
  if (int64_t(samples.size()) % together != 0) {
    fail_usage("--samples names %zu, no multiple of --batch-size %lld. See --help", samples.size(),
               (long long)together);
  }
  Network network(bundle, row_tokens(bundle, data.seq_len(), together), true);
  const AdapterLayout& layout = network.adapter();
  const Buffer values = read_values(options, bundle, layout);
  const Buffer gradients(values.bytes(), Category::gradients, "toolkit gradients");
  Trace trace(runtime.profile());
  Prefetcher prefetcher(bundle.base().file(), page_cache_from(options.page_cache));
  Passes passes(network, data, trace, prefetcher, together);
  const TrainedLayers trained(options.layers, layout);
  HiddenStates states(bundle.layers - trained.first(), bundle.any_keeps(trained.first()),
                      int64_t(samples.size()) / together, network.hidden_bytes(),
                      CheckpointPlace::automatic, parent_of(options.out));
  const LossSum sum = passes.gradients(
      samples, values.floats(), trained.first(), states,
      [&](int64_t layer) { return gradients.floats() + layout.begin(layer); }, [](int64_t) {},
      false);
  write_safetensors(options.out, named_tensors(layout, trained.list(), gradients.floats(), ""));
  Json json;
  json.field("loss", sum.mean()).field("tokens", sum.tokens);
  print(json.str().c_str(), user);
}

void run_evaluate(Runtime& runtime, const Options& options, PrintLine print, void* user) {
  const Bundle bundle(options.bundle);
  const Dataset data(options.data, bundle);
  Network network(bundle, data.seq_len(), false);
  const Buffer values = read_values(options, bundle, network.adapter());
  Trace trace(runtime.profile());
  Prefetcher prefetcher(bundle.base().file(), page_cache_from(options.page_cache));
  Passes passes(network, data, trace, prefetcher);
  int64_t samples = data.samples();
  if (options.max_samples > 0) samples = std::min(samples, options.max_samples);
  const LossSum sum = passes.evaluate(
      samples, values.floats(), kEvaluationMemory, [&](int64_t done, const LossSum& part) {
        Json json;
        json.field("type", "progress").field("samples", done).field("total", samples);
        json.field("loss", part.mean());
        print(json.str().c_str(), user);
        return false;
      });
  if (sum.tokens == 0) {
    fail("the first %lld samples have no labelled tokens. Raise --max-samples", (long long)samples);
  }
  Json json;
  json.field("type", "evaluation").field("loss", sum.mean());
  json.field("perplexity", std::exp(sum.mean())).field("tokens", sum.tokens);
  json.field("samples", samples);
  print(json.str().c_str(), user);
}

}  // namespace toolkit
