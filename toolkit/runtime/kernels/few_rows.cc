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

/// scaling * x aᵀ, [rows, R]; null without an adapter.
const float* low_rank(const Kernels& k, Scratch& scratch, const float* x, int64_t rows,
                      int64_t depth, const Adapter& lora, float scaling) {
  if (lora.a == nullptr) return nullptr;
  float* h = scratch.floats(rows * lora.rank);
  parallel_short(lora.rank, 2, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < rows; ++i) {
      k.rows.dot_rows(x + i * depth, lora.a + begin * depth, depth, end - begin, scaling, false,
                      h + i * lora.rank + begin);
    }
  });
  return h;
}

struct Layer {
  const QuantizedMatrix& w;
  const float* bias;
  const Adapter& lora;
  const float* h;
  float* y;  // [rows, N]
};

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

}  // namespace

bool are_few(const Kernels& k, int64_t rows) { return rows <= k.few_rows.most; }

void few_rows_linear(const Kernels& k, const float* x, int64_t rows, const QuantizedMatrix& w,
                     const float* bias, const Adapter& lora, float scaling, float* y) {
  Scratch scratch;
  const Input input(k, scratch, x, rows, w.depth);
  const Layer layer{w, bias, lora, low_rank(k, scratch, x, rows, w.depth, lora, scaling), y};
  parallel_short(w.rows / kPanel, kLeastPanels, [&](int64_t begin, int64_t end, int) {
    panels_of(k, input, layer, rows, begin, end);
  });
  release_weight(w);
}

void few_rows_mlp(const Kernels& k, const float* x, int64_t rows, const Mlp& m, float* y) {
  Scratch scratch;
  const int64_t size = m.gate.depth, features = m.gate.rows, panels = features / kPanel;
  float* gate = scratch.floats(rows * features);
  float* up = scratch.floats(rows * features);
  {
    Scratch inner;
    const Input input(k, inner, x, rows, size);
    const float* hg = low_rank(k, inner, x, rows, size, m.gate_lora, m.scaling);
    // Halves of one layer have one A.
    const float* hu = m.fused ? hg : low_rank(k, inner, x, rows, size, m.up_lora, m.scaling);
    const Layer layers[2] = {{m.gate, nullptr, m.gate_lora, hg, gate},
                             {m.up, nullptr, m.up_lora, hu, up}};
    parallel_short(2 * panels, kLeastPanels, [&](int64_t begin, int64_t end, int) {
      for (int i = 0; i < 2; ++i) {
        const int64_t from = max(0, begin - i * panels), to = min(panels, end - i * panels);
        if (from < to) panels_of(k, input, layers[i], rows, from, to);
      }
    });
    release_weight(m.gate);
    release_weight(m.up);
  }
  const auto activate = m.activation == Activation::gelu ? k.rows.gelu_mul : k.rows.silu_mul;
  activate(gate, up, rows * features, gate);
  few_rows_linear(k, gate, rows, m.down, nullptr, m.down_lora, m.scaling, y);
}

}  // namespace toolkit
