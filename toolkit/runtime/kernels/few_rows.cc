// y = x Wᵀ + bias + s (x aᵀ) bᵀ and the gated MLP for a few rows, as in the steps of a reply.
//
// A packed product of so few rows would wait for the unpacking of W, which is read once and used
// once here: a thread goes through panels of 16 rows of W as they lie in memory, so the speed is
// that of memory. Scratch, in floats: rows x (2 D + D / 16) for x, rows x R for every
// low-rank update of layers that are computed together, and 2 rows x F for gate and up.
#include "kernels/few_rows.h"

#include <stdexcept>

#include "kernels/multiply.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace {

constexpr int64_t kLeastPanels = 2;

/// Some rows as the primitive reads them.
class Input {
 public:
  Input(const Kernels& k, Scratch& scratch, const float* x, int64_t rows, int64_t depth)
      : bytes_(depth / kQuantGroup * few_rows::kGroupBytes),
        rows_(static_cast<char*>(scratch.bytes(rows * bytes_))) {
    for (int64_t i = 0; i < rows; ++i) {
      k.few_rows.pack_row(x + i * depth, depth, rows_ + i * bytes_);
    }
  }
  const void* rows() const { return rows_; }

 private:
  int64_t bytes_;
  char* rows_;
};

/// A layer in work.
struct Layer {
  FewRowsLinear linear;
  float* h = nullptr;   // scaling * x aᵀ [rows, R]; null without an adapter
  int64_t columns = 0;  // of h that are to be computed: none where it is the layer's before
};

/// So much is computed before another thread has begun with its part of it.
constexpr int64_t kShort = 1 << 14;

/// Calls body(layer, begin, end) for what a range has of layers whose parts lie one after the
/// other.
template <typename Size, typename Body>
void each_part(Layer* layers, int64_t count, int64_t begin, int64_t end, Size size, Body body) {
  int64_t first = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t own = size(layers[i]);
    const int64_t from = max(0, begin - first), to = min(own, end - first);
    if (from < to) body(layers[i], from, to);
    first += own;
  }
}

bool have_one_a(const FewRowsLinear& a, const FewRowsLinear& b) {
  return a.lora.a == b.lora.a && a.lora.rank == b.lora.rank && a.scaling == b.scaling;
}

/// The low-rank products of all layers.
void low_rank(const Kernels& k, Scratch& scratch, const float* x, int64_t rows, Layer* layers,
              int64_t count) {
  const int64_t depth = layers[0].linear.w.depth;
  int64_t all = 0;
  for (int64_t i = 0; i < count; ++i) {
    Layer& layer = layers[i];
    const Adapter& lora = layer.linear.lora;
    if (lora.a == nullptr) continue;
    if (i > 0 && have_one_a(layer.linear, layers[i - 1].linear)) {
      layer.h = layers[i - 1].h;
      continue;
    }
    layer.h = scratch.floats(rows * lora.rank);
    layer.columns = lora.rank;
    all += lora.rank;
  }
  const auto columns = [](const Layer& layer) { return layer.columns; };
  const auto compute = [&](int64_t begin, int64_t end, int) {
    each_part(layers, count, begin, end, columns, [&](Layer& layer, int64_t from, int64_t to) {
      const Adapter& lora = layer.linear.lora;
      for (int64_t i = 0; i < rows; ++i) {
        k.rows.dot_rows(x + i * depth, lora.a + from * depth, depth, to - from,
                        layer.linear.scaling, false, layer.h + i * lora.rank + from);
      }
    });
  };
  if (rows * all * depth <= kShort) {
    compute(0, all, 0);
  } else {
    parallel_short(all, 2, compute);
  }
}

void panels_of(const Kernels& k, const Input& input, const Layer& layer, int64_t rows,
               int64_t begin, int64_t end) {
  const FewRowsLinear& l = layer.linear;
  const int64_t first = begin * kPanel, count = (end - begin) * kPanel;
  for (int64_t panel = begin; panel < end; ++panel) {
    k.few_rows.multiply_panel(l.w, panel, input.rows(), rows, l.y + panel * kPanel, l.w.rows);
  }
  for (int64_t i = 0; i < rows; ++i) {
    float* y = l.y + i * l.w.rows + first;
    if (l.bias != nullptr) k.rows.add(y, l.bias + first, count, y);
    if (layer.h == nullptr) continue;
    const int64_t rank = l.lora.rank;
    k.rows.dot_rows(layer.h + i * rank, l.lora.b + first * rank, rank, count, 1.0f, true, y);
  }
}

}  // namespace

bool are_few(const Kernels& k, int64_t rows) { return rows <= k.few_rows.most; }

void few_rows_linear(const Kernels& k, const float* x, int64_t rows, const QuantizedMatrix& w,
                     const float* bias, const Adapter& lora, float scaling, float* y) {
  const FewRowsLinear linear{w, bias, lora, scaling, y};
  few_rows_linears(k, x, rows, &linear, 1);
}

void few_rows_linears(const Kernels& k, const float* x, int64_t rows, const FewRowsLinear* linears,
                      int64_t count) {
  if (count > kMostNeighbours) throw std::logic_error("too many layers of few rows");
  Scratch scratch;
  const Input input(k, scratch, x, rows, linears[0].w.depth);
  Layer layers[kMostNeighbours];
  for (int64_t i = 0; i < count; ++i) layers[i].linear = linears[i];
  low_rank(k, scratch, x, rows, layers, count);
  const auto panels = [](const Layer& layer) { return layer.linear.w.rows / kPanel; };
  int64_t all = 0;
  for (int64_t i = 0; i < count; ++i) all += panels(layers[i]);
  parallel_short(all, kLeastPanels, [&](int64_t begin, int64_t end, int) {
    each_part(layers, count, begin, end, panels, [&](const Layer& layer, int64_t from, int64_t to) {
      panels_of(k, input, layer, rows, from, to);
    });
  });
  for (int64_t i = 0; i < count; ++i) release_weight(linears[i].w);
}

void few_rows_mlp(const Kernels& k, const float* x, int64_t rows, const Mlp& m, float* y) {
  Scratch scratch;
  const int64_t features = m.gate.rows;
  float* gate = scratch.floats(rows * features);
  float* up = scratch.floats(rows * features);
  const FewRowsLinear layers[] = {{m.gate, nullptr, m.gate_lora, m.scaling, gate},
                                  {m.up, nullptr, m.up_lora, m.scaling, up}};
  few_rows_linears(k, x, rows, layers, 2);
  const auto activate = m.activation == Activation::gelu ? k.rows.gelu_mul : k.rows.silu_mul;
  activate(gate, up, rows * features, gate);
  few_rows_linear(k, gate, rows, m.down, nullptr, m.down_lora, m.scaling, y);
}

}  // namespace toolkit
