#include "runtime/approx_node.h"

#include <cmath>

#include "base/error.h"

namespace octet {
namespace {

[[noreturn]] void FailNode(const Node& node, const std::string& what) {
  Fail(ErrorCode::kUnsupported, "run: node '", node.name, "' (", node.op, "): ", what);
}

std::vector<double> ValuesOf(const NumberFormat& format, int32_t zero) {
  std::vector<double> values(256);
  for (int byte = 0; byte < 256; ++byte) {
    double value = 0;
    if (!format.is_float()) {
      value = (format.is_signed() ? static_cast<int8_t>(byte) : byte) - zero;
    } else if (byte < 1 << format.bits()) {
      value = static_cast<double>(format.floating().Decode(static_cast<uint8_t>(byte)));
      if (!std::isfinite(value)) value = 0;
    }
    values[static_cast<size_t>(byte)] = value;
  }
  return values;
}

FloatFormat FloatOf(const NumberFormat& format) {
  return format.is_float() ? format.floating() : FloatFormat();
}

// Rows of output channels.
void ReadWeight(const Node& node, const Tensor& w, ApproxOperands* out) {
  if (SizeOf(w.dtype()) != 1 || w.shape().rank() < 2)
    FailNode(node, Cat("weights are ", NameOf(w.dtype()), w.shape().ToString(),
                       ", expected codes of a byte in two dimensions or more"));
  const auto* codes = static_cast<const uint8_t*>(w.raw());
  const bool columns = node.op == "ApproxMatMul" && node.GetInt("transB", 0) == 0;
  out->n = w.shape()[columns ? 1 : 0];
  out->k = columns ? w.shape()[0] : w.shape().product(1, w.shape().rank());
  out->weight.assign(codes, codes + w.elements());
  if (!columns) return;
  for (int64_t i = 0; i < out->n; ++i)
    for (int64_t j = 0; j < out->k; ++j)
      out->weight[static_cast<size_t>(i * out->k + j)] = codes[j * out->n + i];
}

}  // namespace

bool IsApproximate(const Node& node) {
  return node.domain == "octet" && (node.op == "ApproxConv" || node.op == "ApproxMatMul");
}

std::vector<double> ApproxOperands::XValues() const { return ValuesOf(x_format, x_zero); }
std::vector<double> ApproxOperands::WValues() const { return ValuesOf(w_format, w_zero); }

ApproxOperands ReadApproxNode(const Node& node,
                              const std::function<const Tensor*(size_t)>& constant) {
  const auto known = [&](size_t i) -> const Tensor& {
    const Tensor* t = constant(i);
    if (t == nullptr) FailNode(node, Cat("input ", i, " is computed, expected a constant"));
    return *t;
  };
  ApproxOperands o;
  o.multiplier = Multiplier::Parse(node.GetString("multiplier", ""));
  o.x_format = NumberFormat::Parse(node.GetString("x_format", ""));
  o.w_format = NumberFormat::Parse(node.GetString("w_format", ""));
  if (o.multiplier.kind != MultiplierKind::kTable) {
    for (const NumberFormat* f : {&o.x_format, &o.w_format}) {
      if (!f->is_float())
        FailNode(node, Cat("multiplier ", o.multiplier.Name(), " of operands in ", f->Name(),
                           "; expected a float format"));
    }
  }
  o.x_zero = static_cast<int32_t>(node.GetInt("x_zero_point", 0));
  o.w_zero = static_cast<int32_t>(node.GetInt("w_zero_point", 0));
  ReadWeight(node, known(kApproxWeight), &o);
  kernels::ApproxLayerFormats& f = o.layer;
  f.layer = node.name;
  f.x = {FloatOf(o.x_format), known(kApproxXScale).data<float>()[0]};
  f.w_format = FloatOf(o.w_format);
  const auto scales = known(kApproxWeightScale).data<float>();
  f.w_scale.assign(scales.begin(), scales.end());
  f.result.format = FloatOf(NumberFormat::Parse(node.GetString("result_format", "")));
  f.result.scale = node.GetFloat("result_scale", 1);
  f.result_limit = static_cast<double>(node.GetFloat("result_limit", 0));
  f.x_zero = o.x_zero;
  f.w_zero = o.w_zero;
  std::span<const int64_t> user;
  const auto has = [&](size_t i) { return node.input(i) != kNoValue; };
  if (has(kApproxTable)) user = known(kApproxTable).data<int64_t>();
  o.tables = kernels::MakeApproxTables(o.multiplier, f, o.n, user);
  if (has(kApproxBias)) {
    const auto bias = known(kApproxBias).data<float>();
    if (static_cast<int64_t>(bias.size()) != o.n)
      FailNode(node, Cat("bias has ", bias.size(), " elements, expected ", o.n));
    o.bias.assign(bias.begin(), bias.end());
  }
  return o;
}

}  // namespace octet
