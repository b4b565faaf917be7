// Every kernel once on small odd shapes, in memory of exactly the size it is told: what sanitizers
// watch.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/error.h"
#include "kernels/kernels.h"
#include "kernels/parallel.h"
#include "kernels/probe.h"
#include "kernels/probe_data.h"
#include "kernels/tiles.h"

namespace toolkit {
namespace {

/// The outputs of one run, to be compared with those of other thread counts.
using Outputs = std::vector<Floats>;

Outputs run_linear(const Kernels& k, int64_t tokens, int64_t rows, int64_t depth, int bits) {
  Random random;
  Weight w(random, rows, depth, bits, bits == 4);
  Lora lora(random, rows, depth, 5);
  const Floats x = random.floats(tokens * depth), grad = random.floats(tokens * rows),
               bias = random.floats(rows);
  Floats y(grad.size()), h(tokens * 5), plain(grad.size()), dx(x.size()), plain_dx(x.size());
  k.linear(x.data(), tokens, w.matrix, bias.data(), lora.adapter(), 0.5f, y.data(), h.data());
  k.linear(x.data(), tokens, w.matrix, nullptr, {}, 0.0f, plain.data(), nullptr);
  k.linear_backward(grad.data(), x.data(), nullptr, tokens, w.matrix, lora.adapter(), 0.5f,
                    dx.data(), lora.gradient());
  k.linear_backward(grad.data(), nullptr, nullptr, tokens, w.matrix, {}, 0.0f, plain_dx.data(), {});
  return {y, h, plain, dx, plain_dx, lora.da, lora.db};
}

Outputs run_mlp(const Kernels& k, int64_t tokens, int64_t size, int64_t features) {
  Random random;
  Weight gate(random, features, size, 4, true), up(random, features, size, 4, false),
      down(random, size, features, 8, false);
  Lora gate_lora(random, features, size, 3), up_lora(random, features, size, 17),
      down_lora(random, size, features, 8);
  const Mlp weights{gate.matrix,       up.matrix,           down.matrix, gate_lora.adapter(),
                    up_lora.adapter(), down_lora.adapter(), 0.5f};
  const Floats x = random.floats(tokens * size), grad = random.floats(tokens * size);
  Floats y(x.size()), dx(x.size());
  k.mlp(x.data(), tokens, weights, y.data());
  k.mlp_backward(grad.data(), x.data(), tokens, weights, dx.data(),
                 {gate_lora.gradient(), up_lora.gradient(), down_lora.gradient()});
  return {y, dx, gate_lora.da, gate_lora.db, up_lora.da, up_lora.db, down_lora.da, down_lora.db};
}

/// Three sequences that share a linear layer, then an MLP; throws unless each is as it is alone.
Outputs run_together(const Kernels& k, int64_t tokens, int64_t size, int64_t features) {
  constexpr int kCount = 3;
  Random random;
  Weight wide(random, features, size, 4, true), down(random, size, features, 4, false);
  const Floats bias = random.floats(features);
  std::vector<Lora> loras;
  Outputs xs, ys(2 * kCount), alone(2 * kCount);
  LinearSequence linears[kCount];
  MlpSequence mlps[kCount];
  for (int i = 0; i < kCount; ++i) {
    loras.emplace_back(random, features, size, 5);
    loras.emplace_back(random, size, features, 5);
  }
  for (int i = 0; i < kCount; ++i) {
    const Adapter up = loras[2 * i].adapter(), back = loras[2 * i + 1].adapter();
    xs.push_back(random.floats(tokens * size));
    const float* x = xs.back().data();
    ys[i] = alone[i] = Floats(tokens * features);
    ys[kCount + i] = alone[kCount + i] = Floats(tokens * size);
    linears[i] = {x, up, ys[i].data(), nullptr};
    mlps[i] = {x, {wide.matrix, wide.matrix, down.matrix, up, up, back, 2}, ys[kCount + i].data()};
    k.linear(x, tokens, wide.matrix, bias.data(), up, 2, alone[i].data(), nullptr);
    k.mlp(x, tokens, mlps[i].weights, alone[kCount + i].data());
  }
  k.linear_together(linears, kCount, tokens, wide.matrix, bias.data(), 2);
  k.mlp_together(mlps, kCount, tokens);
  for (int i = 0; i < 2 * kCount; ++i) {
    if (!same_bits(ys[i], alone[i])) throw Error(std::string(k.isa) + ": other bits together");
  }
  return ys;
}

Outputs run_attention(const Kernels& k, int64_t tokens, int64_t heads, int64_t kv_heads,
                      int64_t size) {
  Random random;
  const int64_t wide = tokens * heads * size, narrow = tokens * kv_heads * size;
  const Floats q = random.floats(wide), key = random.floats(narrow), v = random.floats(narrow),
               grad = random.floats(wide);
  std::vector<int32_t> start(tokens);
  for (int64_t t = 0; t < tokens; ++t) start[t] = int32_t(t >= tokens / 3 ? tokens / 3 : 0);
  const AttentionShape s{tokens, heads, kv_heads, size, 0.4f, start.data()};
  Floats out(wide), dq(wide), dk(narrow), dv(narrow), probs(heads * tokens * tokens);
  Floats saved_out(wide), saved_dq(wide), saved_dk(narrow), saved_dv(narrow);
  k.attention(s, q.data(), key.data(), v.data(), out.data());
  k.attention_backward(s, grad.data(), q.data(), key.data(), v.data(), dq.data(), dk.data(),
                       dv.data());
  k.attention_saved(s, q.data(), key.data(), v.data(), saved_out.data(), probs.data());
  k.attention_saved_backward(s, grad.data(), q.data(), key.data(), v.data(), probs.data(),
                             saved_dq.data(), saved_dk.data(), saved_dv.data());
  return {out, dq, dk, dv, probs, saved_out, saved_dq, saved_dk, saved_dv};
}

Outputs run_head(const Kernels& k, int64_t tokens, int64_t size, int64_t vocab) {
  Random random;
  Weight w(random, (vocab + 15) / 16 * 16, size, 4, true);
  const Floats x = random.floats(tokens * size);
  std::vector<int32_t> labels(tokens), ids(tokens);
  for (int64_t t = 0; t < tokens; ++t) {
    ids[t] = int32_t(random.bits() % vocab);
    labels[t] = t % 3 == 1 ? -100 : ids[t];
  }
  Floats loss(2), dx(x.size()), rows(x.size());
  k.cross_entropy(x.data(), labels.data(), tokens, w.matrix, vocab, &loss[0], dx.data());
  k.cross_entropy(x.data(), labels.data(), tokens, w.matrix, vocab, &loss[1], nullptr);
  k.embedding(ids.data(), tokens, w.matrix, rows.data());
  return {loss, dx, rows};
}

Outputs run_elementwise(const Kernels& k, int64_t tokens, int64_t heads, int64_t size) {
  Random random;
  const int64_t columns = heads * size, count = tokens * columns;
  const Floats x = random.floats(count), grad = random.floats(count),
               weight = random.floats(columns), frequencies = random.floats(size / 2);
  std::vector<int32_t> positions(tokens);
  for (int64_t t = 0; t < tokens; ++t) positions[t] = int32_t(t);
  Outputs outs(8, Floats(count));
  Floats rstd(tokens);
  k.rms_norm(x.data(), weight.data(), tokens, columns, 1e-5f, outs[0].data(), rstd.data());
  k.rms_norm_backward(grad.data(), x.data(), weight.data(), rstd.data(), tokens, columns, 1e-5f,
                      outs[1].data());
  k.rope(x.data(), positions.data(), frequencies.data(), tokens, heads, size, 1.5f, false,
         outs[2].data());
  k.silu_mul(x.data(), grad.data(), count, outs[3].data());
  k.silu_mul_backward(grad.data(), x.data(), grad.data(), count, outs[4].data(), outs[5].data());
  k.add(x.data(), grad.data(), count, outs[6].data());
  k.scale(x.data(), 1.5f, count, outs[7].data());
  outs.push_back(rstd);
  return outs;
}

bool finite(const Outputs& outs) {
  for (const Floats& out : outs) {
    if (!std::all_of(out.begin(), out.end(), [](float x) { return std::isfinite(x); }))
      return false;
  }
  return true;
}

std::string run_all_kernels(const Kernels& k, const std::vector<int>& thread_counts) {
  const bool quantized_only = &k.arithmetic != &k.float32;
  const struct {
    const char* name;
    std::function<Outputs()> run;
    bool in_fixed16 = false;
  } cases[] = {{"linear, one token", [&] { return run_linear(k, 1, 16, 32, 4); }, true},
               {"linear, tails", [&] { return run_linear(k, 37, 48, 96, 8); }, true},
               {"linear, deep and long", [&] { return run_linear(k, 530, 1088, 1120, 4); }},
               {"mlp, one token", [&] { return run_mlp(k, 1, 32, 32); }, true},
               {"mlp, parts and tiles", [&] { return run_mlp(k, 395, 96, 544); }, true},
               {"together", [&] { return run_together(k, 29, 1120, 288); }, true},
               {"attention, one token", [&] { return run_attention(k, 1, 1, 1, 2); }},
               {"attention, tails", [&] { return run_attention(k, 67, 6, 2, 10); }},
               {"attention, strips", [&] { return run_attention(k, 1061, 2, 1, 34); }},
               {"attention, parts of a group", [&] { return run_attention(k, 301, 5, 1, 66); }},
               {"head, one class", [&] { return run_head(k, 1, 32, 1); }, true},
               {"head, tiles and parts", [&] { return run_head(k, 390, 64, 1041); }, true},
               {"element-wise, one token", [&] { return run_elementwise(k, 1, 1, 2); }},
               {"element-wise, tails", [&] { return run_elementwise(k, 61, 3, 46); }}};
  for (const auto& one : cases) {
    if (quantized_only && !one.in_fixed16) continue;
    set_threads(1);
    const Outputs alone = one.run();
    if (!finite(alone)) return std::string(one.name) + ": not finite";
    for (int count : thread_counts) {
      set_threads(count);
      const Outputs together = one.run();
      if (!std::equal(alone.begin(), alone.end(), together.begin(), together.end(), same_bits)) {
        return std::string(one.name) + ": other bits with " + std::to_string(count) + " threads";
      }
    }
  }
  return "";
}

}  // namespace

void check_kernels(const char* isa, const char* arithmetic, const std::vector<int>& counts) {
  const Kernels* kernels = kernels_for(isa, arithmetic);
  if (kernels == nullptr) return;
  const std::string wrong = run_all_kernels(*kernels, counts);
  if (!wrong.empty()) throw Error(std::string(isa) + ", " + arithmetic + ": " + wrong);
  check_few_rows(*kernels);
  printf("%s %s\n", isa, arithmetic);
}

namespace {

uint64_t digest_of_products(const Kernels& k) {
  constexpr struct {
    int64_t tokens, rows, depth;
  } kShapes[] = {{1, 16, 32}, {29, 80, 96}, {14, 560, 544}, {1030, 896, 32}};
  uint64_t digest = 0xcbf29ce484222325;  // FNV-1a
  for (const auto& shape : kShapes) {
    // The last one has several stretches of the depth, whose number depends on the blocks of rows.
    for (int kind = 0; kind < (shape.tokens < 1000 ? 4 : 1); ++kind) {
      Random random;
      Weight w(random, shape.rows, shape.depth, kind < 2 ? 4 : 8, kind % 2 == 0);
      const Floats x = random.floats(shape.tokens * shape.depth),
                   grad = random.floats(shape.tokens * shape.rows);
      Floats y(grad.size()), dx(x.size());
      k.linear(x.data(), shape.tokens, w.matrix, nullptr, {}, 0.0f, y.data(), nullptr);
      k.linear_backward(grad.data(), nullptr, nullptr, shape.tokens, w.matrix, {}, 0.0f, dx.data(),
                        {});
      for (const Floats* out : {&y, &dx}) {
        const auto* bytes = reinterpret_cast<const unsigned char*>(out->data());
        for (size_t i = 0; i < out->size() * sizeof(float); ++i) {
          digest = (digest ^ bytes[i]) * 0x100000001b3;
        }
      }
    }
  }
  return digest;
}

}  // namespace

void print_products(const std::vector<std::string>&) {
  for (const Tiles* tiles : kAllTiles) {
    const Kernels* kernels = kernels_for(tiles->isa, "fixed16");
    if (kernels == nullptr) continue;
    printf("%s %016llx\n", tiles->isa, (unsigned long long)digest_of_products(*kernels));
  }
}

}  // namespace toolkit
