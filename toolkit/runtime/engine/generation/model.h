// The model over a cache: some tokens that follow others go through all layers with weights that
// stay mapped.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/generation/kv_cache.h"
#include "engine/memory/weights.h"
#include "engine/model/adapter.h"
#include "engine/model/bundle.h"

namespace toolkit {

class GenerationModel {
 public:
  // Opens the bundle and reads all of its weights once, to check them. Throws Error.
  explicit GenerationModel(const std::string& directory);

  const Bundle& bundle() const { return bundle_; }
  const AdapterLayout& adapter() const { return *layout_; }
  int64_t context() const { return context_; }  // tokens, at most
  int64_t part() const { return part_; }        // tokens of a run, at most
  // Texts of more tokens turn by other frequencies, from their first token on; 0: none do.
  int64_t rope_original() const { return rope_original_; }
  const std::vector<int64_t>& cache_widths() const { return widths_; }  // of every layer's rows

  // Computes tokens that follow the first `past` ones of the cache, which then has them too.
  // `adapter` [total_floats] may be null: without one. Throws Error.
  void run(const int32_t* tokens, int64_t count, int64_t past, const float* adapter, bool is_long,
           const KvCache& cache);
  // Logits [vocab_size] after one of the tokens of the last run.
  float* logits(int64_t row);
  // Gives back what a longer run took; no logits of it can be had any more.
  void rest();

 private:
  enum class Role { tokens, positions, hidden, keys, values, base, frequencies, scalar, adapter };
  struct Port {
    Role role;
    size_t index = 0;  // base: among the method's weights; scalar: of numbers_; adapter: in floats
    size_t dimension = 0;  // that is smaller than in the program
    int64_t size = 0;      // of the whole of it
  };
  struct Entry {
    std::unique_ptr<Method> method;
    std::vector<Port> inputs;
    std::vector<size_t> first{};  // of every layer's weights among all
  };
  struct Run {
    int64_t count, past, layer;
    const float* adapter;
    bool is_long;
    const KvCache* cache;
    const float* hidden;
  };
  Entry& entry_of(Kind kind, int64_t layer) { return entries_[bundle_.method_of(kind, layer)]; }
  void load(size_t place);
  void map_weights();
  void find_widths();
  void find_ports(size_t place);
  void check_port(const Bindings& bindings, const Method::Port& port, const Method& method) const;
  Port port_of(const Bindings& bindings, const Method::Port& port, size_t* base);
  Port scalar_of(const std::string& number);
  const void* bind(Method& method, size_t index, const Port& port, const Run& run, size_t first);
  void start(Entry& entry, const Run& run);
  void check_finite(const float* hidden) const;

  const Bundle bundle_;
  int64_t context_, part_, rope_original_;
  Arena arena_;
  std::vector<Entry> entries_;  // as the bundle has its methods
  std::vector<float> numbers_;
  std::unique_ptr<AdapterLayout> layout_;
  std::unique_ptr<WeightMapping> weights_;
  std::vector<int32_t> tokens_, positions_;
  Buffer hidden_[2], logits_;
  std::vector<int64_t> widths_;
};

}  // namespace toolkit
