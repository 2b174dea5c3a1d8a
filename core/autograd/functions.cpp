// core/autograd/functions.cpp: everything but the linear layers.
#include "core/autograd/functions.h"

#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/rms_norm.h"
#include "core/ops/swiglu.h"

namespace strait {
namespace {

Accumulate accumulate_unless(bool fresh) { return fresh ? Accumulate::no : Accumulate::yes; }

// The codes that `make` writes, which FP8 products alone read.
template <class Make>
Var codes_of(Segment& segment, int64_t rows, int64_t cols, Purpose purpose, DType gradient_dtype,
             const Make& make) {
  auto codes = std::make_shared<Fp8Matrix>(
      empty_fp8(segment.ctx(), rows, cols, ScaleLayout::rows_1x128, purpose));
  make(*codes);
  return segment.result(Value(std::shared_ptr<const Fp8Matrix>(std::move(codes))), gradient_dtype);
}

}  // namespace

ReadBy read_by(const Parameter& weight) {
  return weight.operands == DType::e4m3 ? ReadBy::fp8_products : ReadBy::anyone;
}

Var rms_norm(Segment& segment, const Var& x, Parameter& weight, double eps, DType out,
             ReadBy readers) {
  Context& ctx = segment.ctx();
  const auto run = [&ctx, &weight, eps, out, value = x.value] {
    const Tensor& input = value->get();
    Tensor y = ctx.empty({input.rows(), input.cols()}, out, Purpose::activations);
    rms_norm(ctx, input, weight.weight, eps, y);
    return y;
  };
  const Tensor& input = x.get();
  Var y =
      readers == ReadBy::anyone
          ? segment.result(run(), DType::f32)
          : codes_of(segment, input.rows(), input.cols(), Purpose::activations, DType::f32,
                     [&](Fp8Matrix& codes) { rms_norm(ctx, input, weight.weight, eps, codes); });
  segment.may_recompute(y, segment.recompute().norms, run);
  segment.on_backward([&ctx, &weight, eps, x, dy_slot = y.gradient] {
    const Tensor dy = dy_slot->take();
    bool fresh = false;
    Tensor dx = x.gradient->accumulator(ctx, {dy.rows(), dy.cols()}, fresh);
    rms_norm_backward(ctx, dy, x.get(), weight.weight, eps, accumulate_unless(fresh), dx,
                      weight.gradient);
  });
  return y;
}

std::pair<Var, Var> split_columns(Segment& segment, const Var& x, int64_t first) {
  const Tensor& whole = x.get();
  const int64_t rows = whole.rows(), cols = whole.cols();
  Var a = segment.result(whole.slice_cols(0, first), whole.dtype());
  Var b = segment.result(whole.slice_cols(first, cols - first), whole.dtype());
  segment.on_backward(
      [&segment, rows, cols, first, into = x.gradient, da = a.gradient, db = b.gradient] {
        Context& ctx = segment.ctx();
        Tensor dx = ctx.empty({rows, cols}, into->dtype(), Purpose::activations);
        Tensor left = dx.slice_cols(0, first), right = dx.slice_cols(first, cols - first);
        cast(ctx, da->take(), left);
        cast(ctx, db->take(), right);
        into->add(ctx, dx);
      });
  return {a, b};
}

Var concat_columns(Segment& segment, const Var& a, const Var& b) {
  Context& ctx = segment.ctx();
  const int64_t rows = a.get().rows(), first = a.get().cols(), second = b.get().cols();
  const auto run = [&ctx, rows, first, second, va = a.value, vb = b.value] {
    Tensor both = ctx.empty({rows, first + second}, va->get().dtype(), Purpose::activations);
    Tensor left = both.slice_cols(0, first), right = both.slice_cols(first, second);
    cast(ctx, va->get(), left);
    cast(ctx, vb->get(), right);
    return both;
  };
  Var y = segment.result(run(), DType::f32);
  segment.may_recompute(y, segment.recompute().norms, run);
  segment.on_backward(
      [&ctx, rows, first, second, ga = a.gradient, gb = b.gradient, dy_slot = y.gradient] {
        const Tensor dy = dy_slot->take();
        const auto give = [&](Gradient& gradient, int64_t begin, int64_t count) {
          Tensor part = ctx.empty({rows, count}, gradient.dtype(), Purpose::activations);
          cast(ctx, dy.slice_cols(begin, count), part);
          gradient.add(ctx, part);
        };
        give(*ga, 0, first);
        give(*gb, first, second);
      });
  return y;
}

Var rope_in_place(Segment& segment, const Var& x, const RopeLayout& layout,
                  const RopeTablePtr& table) {
  Context& ctx = segment.ctx();
  const Tensor& tensor = x.get();
  rope(ctx, tensor, layout, *table, RopeDirection::forward);
  Var y = segment.result(tensor, tensor.dtype());
  // A recomputed input comes back unrotated. x itself has no other reader, so both may drop the
  // storage.
  segment.may_recompute(y, x.value->has_recipe(), [&ctx, layout, table, value = x.value] {
    Tensor again = value->get();
    value->drop();
    rope(ctx, again, layout, *table, RopeDirection::forward);
    return again;
  });
  segment.on_backward([&ctx, layout, table, into = x.gradient, dy_slot = y.gradient] {
    Tensor dy = dy_slot->take();
    rope(ctx, dy, layout, *table, RopeDirection::inverse);
    into->add(ctx, dy);
  });
  return y;
}

Var attention(Segment& segment, const AttentionShape& shape, const Var& q, const Var& kv,
              const Var& k_rope) {
  Context& ctx = segment.ctx();
  const DType dtype = q.get().dtype();
  Tensor o =
      ctx.empty({shape.num_tokens(), shape.num_heads * shape.v_dim}, dtype, Purpose::activations);
  Tensor lse = ctx.empty({shape.num_tokens(), shape.num_heads}, DType::f32, Purpose::activations);
  attention(ctx, shape, q.get(), kv.get(), k_rope.get(), o, lse);
  Var y = segment.result(o, dtype);
  keep_compact(segment, y, Kept::e5m6, Purpose::activations);
  segment.on_backward([&ctx, shape, q, kv, k_rope, out = y.value, lse, do_slot = y.gradient] {
    const Tensor d_o = do_slot->take();
    const auto like = [&](const Tensor& tensor) {
      return ctx.empty({tensor.rows(), tensor.cols()}, tensor.dtype(), Purpose::activations);
    };
    const AttentionSaved saved{q.get(), kv.get(), k_rope.get(), out->get(), lse};
    const AttentionGradients d{like(saved.q), like(saved.kv), like(saved.k_rope)};
    attention_backward(ctx, shape, saved, d_o, d);
    q.gradient->add(ctx, d.d_q);
    kv.gradient->add(ctx, d.d_kv);
    k_rope.gradient->add(ctx, d.d_k_rope);
  });
  return y;
}

void keep_compact(Segment& segment, const Var& value, Kept format, Purpose purpose) {
  if (!segment.training() || !segment.recompute().compact || value.value->has_recipe()) return;
  constexpr const char* kWhat = "what waits for the backward pass of ";
  Context& ctx = segment.ctx();
  const Tensor& x = value.get();
  const auto decode_into = [&ctx, rows = x.rows(), cols = x.cols(), dtype = x.dtype(),
                            purpose](const auto& decode) {
    Tensor again = ctx.empty({rows, cols}, dtype, purpose);
    decode(again);
    return again;
  };
  if (format == Kept::fp8) {
    const Fp8Matrix codes = fp8_rows_of(ctx, x, kActivationScales, purpose);
    require_finite(ctx, kWhat, segment.name());
    segment.may_recompute(value, true, [&ctx, codes, decode_into] {
      return decode_into([&](Tensor& again) { dequantize(ctx, codes, again); });
    });
  } else {
    E5m6Matrix codes = empty_e5m6(ctx, x.rows(), x.cols(), purpose);
    quantize_e5m6(ctx, x, codes);
    require_finite(ctx, kWhat, segment.name());
    segment.may_recompute(value, true, [&ctx, codes, decode_into] {
      return decode_into([&](Tensor& again) { dequantize_e5m6(ctx, codes, again); });
    });
  }
}

Var swiglu(Segment& segment, const Var& gate_up, const Var* row_weights, ReadBy readers) {
  Context& ctx = segment.ctx();
  const Purpose purpose = row_weights == nullptr ? Purpose::activations : Purpose::routed;
  keep_compact(segment, gate_up, Kept::fp8, purpose);
  const Var weights = row_weights == nullptr ? Var{} : *row_weights;
  const auto run = [&ctx, purpose, value = gate_up.value, w = weights.value] {
    const Tensor& input = value->get();
    Tensor h = ctx.empty({input.rows(), input.cols() / 2}, input.dtype(), purpose);
    swiglu(ctx, input, w ? w->get() : Tensor{}, h);
    return h;
  };
  const Tensor& input = gate_up.get();
  Var y = readers == ReadBy::anyone
              ? segment.result(run(), input.dtype())
              : codes_of(segment, input.rows(), input.cols() / 2, purpose, input.dtype(),
                         [&](Fp8Matrix& codes) {
                           swiglu(ctx, input, weights.defined() ? weights.get() : Tensor{}, codes);
                         });
  segment.may_recompute(y, segment.recompute().swiglu, run);
  segment.on_backward([&ctx, purpose, gate_up, weights, dh_slot = y.gradient] {
    const Tensor dh = dh_slot->take();
    const Tensor& input = gate_up.get();
    Tensor d_input = ctx.empty({input.rows(), input.cols()}, input.dtype(), purpose);
    Tensor d_weights;
    if (weights.defined()) d_weights = ctx.empty({input.rows()}, DType::f32, purpose);
    swiglu_backward(ctx, dh, input, weights.defined() ? weights.get() : Tensor{}, d_input,
                    d_weights);
    gate_up.gradient->add(ctx, d_input);
    if (weights.defined()) weights.gradient->add(ctx, d_weights);
  });
  return y;
}

Route route(Segment& segment, const Var& logits, const RouteSettings& settings,
            const Tensor& bias_E, const BalanceLoss& balance) {
  Context& ctx = segment.ctx();
  const Tensor& scores = logits.get();
  const int64_t tokens = scores.rows();
  Route result;
  result.ids = ctx.empty({tokens, settings.top_k}, DType::i32, Purpose::activations);
  Tensor weights = ctx.empty({tokens, settings.top_k}, DType::f32, Purpose::activations);
  route(ctx, scores, bias_E, settings, result.ids, weights);
  result.weights = segment.result(weights, DType::f32);
  const bool balances = balance.alpha > 0;
  if (balances) {
    result.balance_loss =
        ctx.empty({tokens / balance.sequence_tokens}, DType::f32, Purpose::activations);
    Tensor none;
    balance_loss(ctx, scores, result.ids, settings, balance, result.balance_loss, none);
  }
  segment.on_backward([&ctx, settings, balance, balances, logits, ids = result.ids,
                       dw_slot = result.weights.gradient] {
    const Tensor& scores = logits.get();
    Tensor d_logits = ctx.empty(scores.shape(), DType::f32, Purpose::activations);
    route_backward(ctx, dw_slot->take(), scores, ids, settings, d_logits);
    Tensor none;
    if (balances) balance_loss(ctx, scores, ids, settings, balance, none, d_logits);
    logits.gradient->add(ctx, d_logits);
  });
  return result;
}

Var gather_pairs(Segment& segment, const Var& rows, const PairMapPtr& pairs, ReadBy readers) {
  Context& ctx = segment.ctx();
  const auto run = [&ctx, pairs, value = rows.value] {
    const Tensor& input = value->get();
    Tensor copies =
        ctx.empty({pairs->row_of_pair.numel(), input.cols()}, input.dtype(), Purpose::routed);
    gather_rows(ctx, input, pairs->row_of_pair, copies);
    return copies;
  };
  // Codes of copies are copies of codes.
  const bool gathers_codes = readers == ReadBy::fp8_products && rows.value->is_codes();
  Var y;
  if (gathers_codes) {
    const Fp8Matrix& from = *rows.value->fp8_rows(ctx, Purpose::routed);
    y = codes_of(segment, pairs->row_of_pair.numel(), from.codes_RC.cols(), Purpose::routed,
                 DType::bf16,
                 [&](Fp8Matrix& codes) { gather_rows(ctx, from, pairs->row_of_pair, codes); });
  } else {
    const Tensor copies = run();
    y = segment.result(copies, copies.dtype());
  }
  segment.may_recompute(y, true, run);  // a copy of what is kept anyway
  segment.on_backward(
      [&ctx, pairs, num_rows = rows.value->num_rows(), into = rows.gradient, dy_slot = y.gradient] {
        const Tensor dy = dy_slot->take();
        bool fresh = false;
        Tensor dx = into->accumulator(ctx, {num_rows, dy.cols()}, fresh);
        tree_sum(ctx, dy, pairs->pairs_of_row, pairs->range, accumulate_unless(fresh), dx);
      });
  return y;
}

Var sum_pairs(Segment& segment, const Var& pair_rows, const PairMapPtr& pairs, DType out) {
  Context& ctx = segment.ctx();
  const Tensor& terms = pair_rows.get();
  const int64_t num_rows = pairs->pairs_of_row.offsets.numel() - 1;
  Tensor sums = ctx.empty({num_rows, terms.cols()}, out, Purpose::routed);
  tree_sum(ctx, terms, pairs->pairs_of_row, pairs->range, Accumulate::no, sums);
  Var y = segment.result(sums, out);
  segment.on_backward([&ctx, pairs, into = pair_rows.gradient, dy_slot = y.gradient] {
    const Tensor dy = dy_slot->take();
    Tensor d_terms =
        ctx.empty({pairs->row_of_pair.numel(), dy.cols()}, into->dtype(), Purpose::routed);
    gather_rows(ctx, dy, pairs->row_of_pair, d_terms);
    into->add(ctx, d_terms);
  });
  return y;
}

Var embedding(Segment& segment, const Tensor& ids, Parameter& weight) {
  Context& ctx = segment.ctx();
  Tensor rows = ctx.empty({ids.numel(), weight.num_cols()}, DType::f32, Purpose::activations);
  embedding(ctx, ids, weight.weight, rows);
  Var y = segment.result(rows, DType::f32);
  segment.on_backward([&ctx, ids, &weight, dy_slot = y.gradient] {
    embedding_backward(ctx, ids, dy_slot->take(), weight.gradient);
  });
  return y;
}

}  // namespace strait
