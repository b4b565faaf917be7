// The `replay` command: an adapter from another one and moves along random directions, bit by bit
// what toolkit/replaying/replay.py makes of them. With it a phone follows what many phones learned
// from a few hundred bytes each (toolkit/federation/scalars.py).
//
// The moves are a .ptd file of ours:
//
//   seeds    int32 [S, 2]    of the directions, the low word first
//   layers   int32 [L, 1]    that are moved
//   b_alone  int32 [1, 1]    1: no A is
//   places   int32 [M, 3]    of every move, in their order: number of the seed, step, query
//   factors  float32 [M, 3]  what it does: Change of directions.h
//   tail     uint8 [..]      what ends the file that is written, behind its last tensor: hash and
//                            checksums, which what comes out is held against
//
// The result has the layout of the adapter that it is made from.
#include <algorithm>

#include "engine/error.h"
#include "engine/files/crc32.h"
#include "engine/training/directions.h"
#include "engine/training/trainer.h"

namespace toolkit {
namespace {

constexpr int64_t kMost = 64 << 20;  // bytes of a tensor of moves
constexpr const char* kRemedy = "Send the whole adapter";

template <typename T>
std::vector<T> numbers(const FlatTensorFile& file, const char* key, ScalarType type,
                       int32_t columns) {
  const TensorSpec& spec = file.require(key);
  if (spec.bytes > kMost) {
    fail("%s: %s takes more than %lld MiB. %s", file.path().c_str(), key, (long long)(kMost >> 20),
         kRemedy);
  }
  const bool fits = spec.type == type && spec.sizes.size() == 2 && spec.sizes[1] == columns;
  std::vector<T> values(fits ? size_t(spec.bytes) / sizeof(T) : 0);
  if (int64_t(values.size() * sizeof(T)) == spec.bytes) {
    file.file().read_at(values.data(), size_t(spec.bytes), spec.offset);
    if (crc32(0, values.data(), size_t(spec.bytes)) == spec.crc32) return values;
  }
  fail("%s: %s is damaged. %s", file.path().c_str(), key, kRemedy);
}

struct Move {
  size_t seed;
  Query query;
  Change change;
};

struct Moves {
  std::vector<Directions> directions;  // of every seed
  std::vector<int64_t> layers;
  std::vector<Move> list;
};

Moves read_moves(const FlatTensorFile& file, const AdapterLayout& layout) {
  Moves moves;
  const auto refuse = [&] {
    fail("%s holds moves of another model. %s", file.path().c_str(), kRemedy);
  };
  const auto alone = numbers<int32_t>(file, "b_alone", ScalarType::Int, 1);
  const auto seeds = numbers<uint32_t>(file, "seeds", ScalarType::Int, 2);
  for (size_t i = 0; i < seeds.size(); i += 2) {
    const uint64_t seed = seeds[i] + (uint64_t(seeds[i + 1]) << 32);
    moves.directions.emplace_back(layout, seed, !alone.empty() && alone[0] != 0);
  }
  for (int32_t layer : numbers<int32_t>(file, "layers", ScalarType::Int, 1)) {
    if (layer < 0 || layer >= layout.layers()) refuse();
    moves.layers.push_back(layer);
  }
  const auto places = numbers<int32_t>(file, "places", ScalarType::Int, 3);
  const auto factors = numbers<float>(file, "factors", ScalarType::Float, 3);
  if (places.size() != factors.size()) refuse();
  for (size_t i = 0; i < places.size(); i += 3) {
    const int32_t *at = &places[i], queries = 1 << 16;
    const bool sane = at[0] >= 0 && size_t(at[0]) < moves.directions.size() && at[1] > 0 &&
                      at[2] >= 0 && at[2] < queries;
    if (!sane) refuse();
    const Change change = {factors[i], factors[i + 1], factors[i + 2]};
    moves.list.push_back({size_t(at[0]), {at[1], at[2]}, change});
  }
  return moves;
}

void check(const std::string& path) {
  try {
    FlatTensorFile(path).check_all(kRemedy);
  } catch (const Error&) {
    fail("the moves do not come to the adapter that they should. %s", kRemedy);
  }
}

/// Writes `base` with other values, and with `tail` behind its last tensor, if that fits them.
void write_like(const FlatTensorFile& base, const std::vector<uint8_t>& tail,
                std::vector<NamedTensor> tensors, const std::string& path) {
  const auto place_of = [&](const NamedTensor& tensor) { return base.require(tensor.name); };
  std::sort(tensors.begin(), tensors.end(), [&](const NamedTensor& a, const NamedTensor& b) {
    return place_of(a).offset < place_of(b).offset;
  });
  AtomicFile file(path);
  int64_t at = 0;
  for (const NamedTensor& tensor : tensors) {
    const TensorSpec& place = base.require(tensor.name);
    std::vector<uint8_t> between(size_t(place.offset - at));
    base.file().read_at(between.data(), between.size(), at);
    file.write(between.data(), between.size());
    file.write(tensor.data, size_t(place.bytes));
    at = place.offset + place.bytes;
  }
  if (at + int64_t(tail.size()) != base.size()) {
    fail("%s has another layout than what the moves make of it. %s", base.path().c_str(), kRemedy);
  }
  file.write(tail.data(), tail.size());
  check(file.temporary());
  file.commit();
}

}  // namespace

void run_replay(Runtime& runtime, const Options& options, PrintLine print, void* user) {
  (void)runtime;
  const Bundle bundle(options.bundle);
  const Network network(bundle, bundle.seq_lens.front(), false);
  const AdapterLayout& layout = network.adapter();
  const std::string own = bundle.directory() + "/adapter.ptd";
  const FlatTensorFile base(options.adapter.empty() ? own : options.adapter);
  Buffer values(layout.total_floats() * sizeof(float), Category::adapters, "toolkit adapters");
  load_adapter(base, layout, values.floats());
  const FlatTensorFile file(options.moves);
  const Moves moves = read_moves(file, layout);
  for (int64_t layer : moves.layers) {
    for (const Move& move : moves.list) {
      moves.directions[move.seed].apply(layer, move.query, move.change,
                                        values.floats() + layout.begin(layer));
    }
    const std::string key = first_not_finite(layout, values.floats(), layer);
    if (!key.empty()) fail("%s is not finite after the moves. %s", key.c_str(), kRemedy);
  }
  const std::vector<NamedTensor> tensors =
      named_tensors(layout, all_layers(layout), values.floats(), "");
  write_like(base, file.read_bytes("tail"), tensors, options.out);
  print(Json().field("type", "replay").field("moves", int64_t(moves.list.size())).str().c_str(),
        user);
}

}  // namespace toolkit
