#include "kernels/multiply.h"

#include "kernels/parallel.h"
#include "kernels/release.h"

namespace toolkit {

int64_t part_tokens(const Tiles& tiles, int64_t tokens, int64_t wanted) {
  const int64_t parts = max(1, (tokens + wanted / 2 - 1) / wanted);
  return min(tokens, round_up(divide_up(tokens, parts), tiles.block));
}

Right weight_rows(const QuantizedMatrix& w, int64_t first_row, int64_t first_feature) {
  Right right;
  right.kind = Right::kWeightRows;
  right.weight = &w;
  right.depth0 = first_feature;
  right.column0 = first_row;
  return right;
}

Right weight_columns(const QuantizedMatrix& w, int64_t first_row, int64_t first_feature) {
  Right right;
  right.kind = Right::kWeightColumns;
  right.weight = &w;
  right.depth0 = first_row;
  right.column0 = first_feature;
  return right;
}

Right transposed(const float* data, int64_t stride) {
  Right right;
  right.kind = Right::kTransposed;
  right.data = data;
  right.stride = stride;
  return right;
}

Right plain_right(const float* data, int64_t stride) {
  Right right;
  right.data = data;
  right.stride = stride;
  return right;
}

RightBuffers::RightBuffers(const Kernels& k, Scratch& scratch)
    : bytes_(max(k.arithmetic.buffer_bytes(k.tiles), k.float32.buffer_bytes(k.tiles))),
      memory_(static_cast<char*>(scratch.bytes(bytes_ * threads()))) {}

namespace {

int64_t blocks_of(const Kernels& k, const Product& product) {
  return divide_up(product.rows, k.tiles.block);
}

/// A product by the arithmetics that packed its left operands: terms of its own come first, those
/// of another are added to what they gave.
class Parts {
 public:
  Parts() = default;
  explicit Parts(const Product& product) : list_{product, product} {
    for (Product& part : list_) part.count = 0;
    for (int i = 0; i < product.count; ++i) {
      const Term& term = product.terms[i];
      const Arithmetic* packer = term.left.arithmetic;
      const bool own = packer == nullptr || packer == product.arithmetic;
      if (!own) list_[1].arithmetic = packer;
      list_[own ? 0 : 1].add(term.left, term.right);
    }
    list_[1].accumulate = product.accumulate || list_[0].count > 0;
  }

  void multiply(int64_t group, int64_t groups, int64_t block0, int64_t block1, void* buffer) const {
    for (const Product& part : list_) {
      if (part.count == 0) continue;
      part.arithmetic->multiply_groups(part, group, groups, block0, block1, buffer);
    }
  }

 private:
  Product list_[2];
};

/// Groups times blocks as one range, group-major, so that a part of it packs little twice; whole
/// groups that share something together.
void multiply_range(const Parts& parts, int64_t blocks, int64_t together, int64_t begin,
                    int64_t end, void* buffer) {
  while (begin < end) {
    const int64_t group = begin / blocks, block0 = begin % blocks;
    const int64_t block1 = min(blocks, block0 + end - begin);
    const bool all = begin % (together * blocks) == 0 && end - begin >= together * blocks;
    const int64_t groups = all ? together : 1;
    parts.multiply(group, groups, block0, block1, buffer);
    begin += groups * (block1 - block0);
  }
}

}  // namespace

void multiply(const Kernels& k, const Products& products, const RightBuffers& buffers) {
  int64_t tasks = 0, grain = 1;
  Parts parts[kMaxProducts];
  for (int i = 0; i < products.count; ++i) {
    const int64_t blocks = blocks_of(k, products.list[i]);
    tasks += divide_up(products.list[i].columns, k.tiles.group) * blocks;
    grain = max(grain, blocks);
    parts[i] = Parts(products.list[i]);
  }
  parallel_balanced(tasks, grain, [&](int64_t begin, int64_t end, int thread) {
    for (int i = 0; i < products.count; ++i) {
      const Product& product = products.list[i];
      const int64_t blocks = blocks_of(k, product);
      const int64_t count = divide_up(product.columns, k.tiles.group) * blocks;
      const int64_t from = max(begin, 0), to = min(end, count);
      const int64_t together = groups_together(k.tiles);
      if (from < to) multiply_range(parts[i], blocks, together, from, to, buffers.of(thread));
      begin -= count;
      end -= count;
    }
  });
}

void multiply(const Kernels& k, const Product& product, const RightBuffers& buffers) {
  Products products;
  products.add(product);
  multiply(k, products, buffers);
}

void* left_room(const Kernels& k, const Arithmetic& arithmetic, Scratch& scratch, int64_t rows,
                int64_t depth) {
  return scratch.bytes(arithmetic.left_bytes(k.tiles, rows, depth));
}

Left pack_left(const Kernels& k, const Arithmetic& arithmetic, const View& view, int64_t rows,
               int64_t depth, float scale, void* room) {
  constexpr int64_t kLittle = 8192;  // floats packed before threads would have met
  const auto pack = [&](int64_t begin, int64_t end, int) {
    arithmetic.pack_left(view, rows, depth, scale, begin, end, room);
  };
  const int64_t blocks = divide_up(rows, k.tiles.block);
  if (rows * depth <= kLittle) {
    pack(0, blocks, 0);
  } else {
    parallel_short(blocks, 1, pack);
  }
  return {room, depth, &arithmetic};
}

Left pack_columns_of(const Kernels& k, Scratch& scratch, const float* data, int64_t rows,
                     int64_t columns, float scale) {
  return pack_left(k, k.float32, {data, 1, columns}, columns, rows, scale,
                   left_room(k, k.float32, scratch, columns, rows));
}

namespace {

using Tell = void (*)(const void* data, size_t bytes);

void tell_of_rows(const QuantizedMatrix& w, int64_t row, int64_t rows, Tell tell) {
  const int64_t panel = row / kPanel, panels = rows / kPanel;
  const int64_t parameters = w.depth / kQuantGroup * kPanel;  // of one panel
  const size_t bytes = panels * parameters * sizeof(uint16_t);
  tell(w.codes + panel * w.panel_bytes(), panels * w.panel_bytes());
  tell(w.scale + panel * parameters, bytes);
  if (w.offset != nullptr) tell(w.offset + panel * parameters, bytes);
}

}  // namespace

void release_weight(const QuantizedMatrix& w) { tell_of_rows(w, 0, w.rows, release); }
void release_rest_of(const QuantizedMatrix& w) { tell_of_rows(w, 0, w.rows, release_rest); }
void release_rows(const QuantizedMatrix& w, int64_t row, int64_t rows) {
  tell_of_rows(w, row, rows, release);
}

}  // namespace toolkit
