#include "kernels/multiply.h"

#include <vector>

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

const Product& chained(Product* list, int64_t count) {
  for (int64_t i = 0; i < count; ++i) list[i].next = i + 1 < count ? &list[i + 1] : nullptr;
  return list[0];
}

RightBuffers::RightBuffers(const Kernels& k, Scratch& scratch)
    : bytes_(max(k.arithmetic.buffer_bytes(k.tiles), k.float32.buffer_bytes(k.tiles))),
      memory_(static_cast<char*>(scratch.bytes(bytes_ * threads()))) {}

namespace {

/// Row blocks of a chain.
int64_t blocks_of(const Kernels& k, const Product& first) {
  int64_t blocks = 0;
  for (const Product* p = &first; p != nullptr; p = p->next) {
    blocks += divide_up(p->rows, k.tiles.block);
  }
  return blocks;
}

/// A chain by the arithmetics that packed its left operands: terms of its own come first, those of
/// another are added to what they gave.
class Parts {
 public:
  Parts() = default;
  explicit Parts(const Product& first) : first_{&first, nullptr} {
    if (others_of(first) == nullptr) return;
    for (const Product* p = &first; p != nullptr; p = p->next) split(*p);
    for (int i = 0; i < 2; ++i) first_[i] = &chained(lists_[i].data(), int64_t(lists_[i].size()));
  }

  void multiply(int64_t group, int64_t groups, int64_t block0, int64_t block1, void* buffer) const {
    for (const Product* part : first_) {
      if (part == nullptr || part->count == 0) continue;
      part->arithmetic->multiply_groups(*part, group, groups, block0, block1, buffer);
    }
  }

 private:
  static bool is_own(const Product& product, const Term& term) {
    const Arithmetic* packer = term.left.arithmetic;
    return packer == nullptr || packer == product.arithmetic;
  }

  /// What packed the terms that are not the product's own; null: there are none.
  static const Arithmetic* others_of(const Product& product) {
    for (int i = 0; i < product.count; ++i) {
      if (!is_own(product, product.terms[i])) return product.terms[i].left.arithmetic;
    }
    return nullptr;
  }

  void split(const Product& product) {
    for (auto& list : lists_) {
      list.push_back(product);
      list.back().count = 0;
    }
    Product &own = lists_[0].back(), &other = lists_[1].back();
    for (int i = 0; i < product.count; ++i) {
      const Term& term = product.terms[i];
      (is_own(product, term) ? own : other).add(term.left, term.right);
    }
    other.arithmetic = others_of(product);
    other.accumulate = product.accumulate || own.count > 0;
  }

  const Product* first_[2] = {};
  std::vector<Product> lists_[2];  // where there are two arithmetics
};

/// Column groups that a thread should have side by side: in fixed16 those that share the scaling of
/// rows.
int64_t groups_at_once(const Kernels& k, const Product& product) {
  const bool scaled = product.arithmetic != &k.float32 && product.count > 0 &&
                      product.terms[0].right.kind == Right::kWeightColumns;
  return scaled ? groups_together(k.tiles) : 1;
}

int64_t rows_of(const Product& first) {
  int64_t rows = 0;
  for (const Product* p = &first; p != nullptr; p = p->next) rows += p->rows;
  return rows;
}

/// A product of several, and the tasks, row blocks of column groups, that each of equal parts of
/// their work has of it.
class Portions {
 public:
  Portions() = default;
  Portions(const Kernels& k, const Product& product, int64_t parts, bool by_rows)
      : of_(product),
        together_(groups_together(k.tiles)),
        blocks_(blocks_of(k, product)),
        groups_(divide_up(product.columns, k.tiles.group)),
        by_rows_(by_rows),
        blocks_each_(by_rows ? divide_up(blocks_, parts) : blocks_),
        groups_each_(by_rows ? groups_ : divide_up(groups_, parts)) {}

  int64_t blocks() const { return blocks_each_; }
  int64_t tasks() const { return blocks_each_ * groups_each_; }

  /// Tasks [begin, end) of a part, in group-major order, so that a range of them packs little
  /// twice; whole groups that share something together.
  void multiply(int64_t part, int64_t begin, int64_t end, void* buffer) const {
    const int64_t block = by_rows_ ? part * blocks_each_ : 0;
    const int64_t group = by_rows_ ? 0 : part * groups_each_;
    const int64_t blocks = min(blocks_each_, blocks_ - block);
    while (begin < end) {
      const int64_t at = group + begin / blocks_each_, block0 = begin % blocks_each_;
      const int64_t block1 = min(blocks_each_, block0 + end - begin);
      const bool whole = block0 == 0 && at % together_ == 0 && at + together_ <= groups_ &&
                         end - begin >= together_ * blocks_each_;
      const int64_t count = whole ? together_ : 1;
      if (at < groups_ && block0 < blocks) {
        of_.multiply(at, count, block + block0, block + min(block1, blocks), buffer);
      }
      begin += count * (block1 - block0);
    }
  }

 private:
  Parts of_;
  int64_t together_ = 1;
  int64_t blocks_ = 0, groups_ = 0;
  bool by_rows_ = false;
  int64_t blocks_each_ = 0, groups_each_ = 0;
};

/// The fewest rows of a product that is split by them; more than any has where that does not pay:
/// threads have all rows, and columns of their own, then.
int64_t rows_to_split(const Tiles& tiles, const Products& products) {
  const int64_t least = tiles.own_rows * threads();
  int64_t columns = 0, most = 0;
  for (int i = 0; i < products.count; ++i) {
    const int64_t rows = rows_of(products.list[i]);
    if (rows >= least) columns += products.list[i].columns;
    most = max(most, rows);
  }
  const bool pays = threads() > 1 && most >= least && columns < tiles.own_columns * most;
  return pays ? least : INT64_MAX;
}

}  // namespace

void multiply(const Kernels& k, const Products& products, const RightBuffers& buffers) {
  const int64_t least = rows_to_split(k.tiles, products);
  const int64_t parts = least < INT64_MAX ? threads() : 1;
  int64_t tasks = 0, grain = 1;  // tasks of a part
  Portions portions[kMaxProducts];
  for (int i = 0; i < products.count; ++i) {
    const Product& product = products.list[i];
    portions[i] = Portions(k, product, parts, rows_of(product) >= least);
    tasks += portions[i].tasks();
    grain = max(grain, groups_at_once(k, product) * portions[i].blocks());
  }
  if (parts > 1) tasks = round_up(tasks, grain);  // every part begins with whole groups
  parallel_balanced(parts * tasks, grain, [&](int64_t begin, int64_t end, int thread) {
    for_each_part(tasks, begin, end, [&](int64_t part, int64_t from, int64_t to) {
      for (int i = 0; i < products.count; ++i) {
        const int64_t count = portions[i].tasks(), first = max(from, 0), last = min(to, count);
        if (first < last) portions[i].multiply(part, first, last, buffers.of(thread));
        from -= count;
        to -= count;
      }
    });
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
