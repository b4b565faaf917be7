// y = x Wᵀ + bias + s (x aᵀ) bᵀ and the gated MLP for a few rows, as in the steps of a reply.
//
// A packed product of so few rows would wait for the unpacking of W, which is read once and used
// once here: a thread goes through panels of 16 rows of W as they lie in memory, so the speed is
// that of memory. Scratch, in floats: rows x (2 D + D / 16) for x, rows x R for a low-rank update,
// and 2 rows x F for gate and up.
#include "kernels/few_rows.h"

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

/// A layer in work: its low-rank products, scaling * x aᵀ [rows, R], null without an adapter.
struct Layer {
  QuantizedMatrix w;
  const float* bias;
  Adapter lora;
  float scaling;
  float* y;  // [rows, N]
  const float* h;
};

/// To compute this much is done before another thread has begun with its part of it.
constexpr int64_t kShort = 1 << 16;

const float* low_rank(const Kernels& k, Scratch& scratch, const float* x, int64_t rows,
                      int64_t depth, const Adapter& lora, float scaling) {
  if (lora.a == nullptr) return nullptr;
  float* h = scratch.floats(rows * lora.rank);
  const auto columns = [&](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < rows; ++i) {
      k.rows.dot_rows(x + i * depth, lora.a + begin * depth, depth, end - begin, scaling, false,
                      h + i * lora.rank + begin);
    }
  };
  if (rows * lora.rank * depth <= kShort) {
    columns(0, lora.rank, 0);
  } else {
    parallel_short(lora.rank, 2, columns);
  }
  return h;
}

void panels_of(const Kernels& k, const Input& input, const Layer& layer, int64_t rows,
               int64_t begin, int64_t end) {
  const int64_t first = begin * kPanel, count = (end - begin) * kPanel;
  for (int64_t panel = begin; panel < end; ++panel) {
    k.few_rows.multiply_panel(layer.w, panel, input.rows(), rows, layer.y + panel * kPanel,
                              layer.w.rows);
  }
  for (int64_t i = 0; i < rows; ++i) {
    float* y = layer.y + i * layer.w.rows + first;
    if (layer.bias != nullptr) k.rows.add(y, layer.bias + first, count, y);
    if (layer.h == nullptr) continue;
    const int64_t rank = layer.lora.rank;
    k.rows.dot_rows(layer.h + i * rank, layer.lora.b + first * rank, rank, count, 1.0f, true, y);
  }
}

/// Layers of the same rows, their panels one after the other.
void multiply_layers(const Kernels& k, const float* x, int64_t rows, Layer* layers, int64_t count) {
  Scratch scratch;
  const int64_t depth = layers[0].w.depth;
  const Input input(k, scratch, x, rows, depth);
  int64_t panels = 0;
  for (int64_t i = 0; i < count; ++i) {
    Layer& layer = layers[i];
    // Halves of one layer have one A.
    const bool same = i > 0 && layer.lora.a == layers[i - 1].lora.a;
    layer.h =
        same ? layers[i - 1].h : low_rank(k, scratch, x, rows, depth, layer.lora, layer.scaling);
    panels += layer.w.rows / kPanel;
  }
  parallel_short(panels, kLeastPanels, [&](int64_t begin, int64_t end, int) {
    int64_t first = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t own = layers[i].w.rows / kPanel;
      const int64_t from = max(0, begin - first), to = min(own, end - first);
      if (from < to) panels_of(k, input, layers[i], rows, from, to);
      first += own;
    }
  });
  for (int64_t i = 0; i < count; ++i) release_weight(layers[i].w);
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
  Layer layers[kMostNeighbours];
  for (int64_t i = 0; i < count; ++i) {
    const FewRowsLinear& l = linears[i];
    layers[i] = {l.w, l.bias, l.lora, l.scaling, l.y, nullptr};
  }
  multiply_layers(k, x, rows, layers, count);
}

void few_rows_mlp(const Kernels& k, const float* x, int64_t rows, const Mlp& m, float* y) {
  Scratch scratch;
  const int64_t features = m.gate.rows;
  float* gate = scratch.floats(rows * features);
  float* up = scratch.floats(rows * features);
  Layer layers[2] = {{m.gate, nullptr, m.gate_lora, m.scaling, gate, nullptr},
                     {m.up, nullptr, m.up_lora, m.scaling, up, nullptr}};
  multiply_layers(k, x, rows, layers, 2);
  const auto activate = m.activation == Activation::gelu ? k.rows.gelu_mul : k.rows.silu_mul;
  activate(gate, up, rows * features, gate);
  few_rows_linear(k, gate, rows, m.down, nullptr, m.down_lora, m.scaling, y);
}

}  // namespace toolkit
