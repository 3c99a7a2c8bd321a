#include "evaluate/rescaling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>

#include "numerics/number_format.h"
#include "numerics/rounding.h"
#include "passes/channel_groups.h"
#include "passes/quantizers.h"
#include "runtime/executor.h"

namespace octet {
namespace {

// A weight as (outer, channels, inner) by its output channels.
struct ChannelView {
  int64_t outer, channels, inner;
};

std::optional<ChannelView> OutputChannels(const Node& n, const Shape& w) {
  if (n.Is("BatchNormalization") || n.Is("LayerNormalization") || n.Is("RMSNormalization"))
    return ChannelView{1, w[0], 1};
  if (n.Is("Conv")) return ChannelView{1, w[0], w.product(1, w.rank())};
  if ((n.Is("Gemm") || n.Is("MatMul")) && w.rank() == 2) {
    if (n.Is("Gemm") && n.GetInt("transB", 0) != 0) return ChannelView{1, w[0], w[1]};
    return ChannelView{w[0], w[1], 1};
  }
  return std::nullopt;
}

// What a weight of the quantized model stands for, and the step of each output channel (0: not
// quantized).
struct RealWeight {
  std::vector<float> values;
  std::vector<double> step;
};

// A weight behind octet.Dequantize. The step of a channel is that of its largest weight: smaller
// ones of float formats are rounded more finely.
bool ReadFormatWeight(const Graph& graph, const Node& n, const ChannelView& view, RealWeight& w) {
  if (n.input(1) == kNoValue) return false;
  const NodeId producer = graph.value(n.inputs[1]).producer;
  if (producer == kNoNode) return false;
  const Node& q = graph.node(producer);
  if (q.domain != "octet" || q.op != "Dequantize") return false;
  const Tensor* codes = graph.ConstantOf(q.inputs[0]);
  const Tensor* scale = graph.ConstantOf(q.inputs[1]);
  if (codes == nullptr || scale == nullptr) return false;
  const std::vector<Tensor> real = EvaluateNode(graph, q, std::array{codes, scale});
  const auto values = real[0].data<float>();
  w.values.assign(values.begin(), values.end());
  const NumberFormat format = NumberFormat::Parse(q.GetString("format", ""));
  const int bits = format.is_float() ? format.floating().mantissa_bits : format.bits() - 2;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto channel =
        static_cast<size_t>((static_cast<int64_t>(i) / view.inner) % view.channels);
    if (values[i] == 0) continue;
    const double step = std::ldexp(1.0, std::ilogb(values[i]) - bits);
    w.step[channel] = std::max(w.step[channel], step);
  }
  return true;
}

std::optional<RealWeight> ReadWeight(const Graph& graph, const Node& n, const ChannelView& view) {
  RealWeight w;
  w.step.assign(static_cast<size_t>(view.channels), 0.0);
  if (const Tensor* t = graph.ConstantOf(n.input(1));
      t != nullptr && t->dtype() == DType::kFloat32) {
    w.values.assign(t->data<float>().begin(), t->data<float>().end());
    return w;
  }
  if (ReadFormatWeight(graph, n, view, w)) return w;
  const auto q = DequantizerOf(graph, n.input(1));
  const Tensor* codes = q ? graph.ConstantOf(q->codes) : nullptr;
  if (codes == nullptr || codes->dtype() != DType::kInt8) return std::nullopt;
  if (!q->per_tensor() && static_cast<int64_t>(q->scale.size()) != view.channels)
    return std::nullopt;
  const auto c = codes->data<int8_t>();
  for (size_t i = 0; i < c.size(); ++i) {
    const auto channel = (static_cast<int64_t>(i) / view.inner) % view.channels;
    const size_t k = q->per_tensor() ? 0 : static_cast<size_t>(channel);
    w.values.push_back(DequantizeOne(c[i], q->scale[k], q->zero_point[k]));
  }
  for (size_t k = 0; k < w.step.size(); ++k)
    w.step[k] = static_cast<double>(q->scale[q->per_tensor() ? 0 : k]);
  return w;
}

// Sums over the producers of a group, per channel.
struct Evidence {
  double reference_sq = 0;  // <w,w>
  double product = 0;       // <w,w'>
  double test_sq = 0;       // <w',w'>
  double noise_sq = 0;  // sum of step^2 / 12: expected square of the rounding, per unit of <w,w>
};

constexpr double kLeastSteps =
    4;  // a channel whose weights are not this long, in steps, says nothing

// The factor, or nullopt where it cannot be told from 1 (or at all).
std::optional<double> FactorOf(const Evidence& e) {
  if (!(e.reference_sq > 0) || !(e.product > 0)) return std::nullopt;
  const double step_rms = std::sqrt(e.noise_sq);
  if (std::sqrt(e.test_sq) < kLeastSteps * step_rms * std::sqrt(12.0)) return std::nullopt;
  const double s = e.reference_sq / e.product;
  // Rounding with step d moves <w,w'> by d / sqrt(12) * |w| in the mean square: relative to <w,w'>
  // = |w| |w'| that is d / (sqrt(12) |w'|). Six deviations leave nothing to chance; 1e-4 covers
  // float32 arithmetic.
  const double deviation = step_rms / std::sqrt(e.test_sq);
  return std::fabs(s - 1) > 6 * deviation + 1e-4 ? std::optional(s) : std::nullopt;
}

class Aligner {
 public:
  Aligner(Graph& reference, const Graph& quantized)
      : reference_(reference), quantized_(quantized) {}

  std::vector<std::string> Run() {
    const auto groups = FindChannelGroups(reference_, true).groups;
    std::set<ValueId> open;  // values of groups not looked at yet
    for (const auto& g : groups) {
      for (const auto& [v, layout] : g.values) open.insert(v);
    }
    // A producer can be read once its own input is settled. Groups come in no promised order: sweep
    // until nothing moves.
    std::vector<bool> done(groups.size(), false);
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t i = 0; i < groups.size(); ++i) {
        if (done[i] || !Settle(groups[i], open)) continue;
        done[i] = moved = true;
        for (const auto& [v, layout] : groups[i].values) open.erase(v);
      }
    }
    return std::move(rescaled_);
  }

 private:
  bool Settle(const ChannelGroup& group, const std::set<ValueId>& open) {
    std::vector<Evidence> evidence(static_cast<size_t>(group.channels));
    bool readable = false;
    for (NodeId id : group.producers) {
      if (!open.contains(reference_.node(id).input(0)))
        readable = AddEvidence(id, evidence) || readable;
    }
    if (!readable) return false;
    std::vector<float> factors(evidence.size(), 1.0F);
    bool any = false;
    for (size_t c = 0; c < evidence.size(); ++c) {
      if (const auto s = FactorOf(evidence[c])) {
        factors[c] = static_cast<float>(*s);
        any = true;
      }
    }
    if (any) {
      ScaleChannels(reference_, group, factors);
      rescaled_.push_back(group.name);
    }
    return true;
  }

  // Mul or Div by a constant: it stays float.
  bool AddFactorEvidence(const Node& n, const Node& twin, size_t side,
                         std::vector<Evidence>& evidence) const {
    const auto twin_side = FactorInput(quantized_, twin);
    if (!twin_side) return false;
    const Tensor& before = *reference_.ConstantOf(n.inputs[side]);
    const Tensor& after = *quantized_.ConstantOf(twin.inputs[*twin_side]);
    const auto channels = static_cast<int64_t>(evidence.size());
    for (const Tensor* t : {&before, &after}) {
      if (t->elements() != channels && t->elements() != 1) return false;
    }
    for (size_t c = 0; c < evidence.size(); ++c) {
      auto x = static_cast<double>(before.data<float>()[before.elements() == 1 ? 0 : c]);
      auto y = static_cast<double>(after.data<float>()[after.elements() == 1 ? 0 : c]);
      if (n.Is("Div")) {
        x = 1 / x;
        y = 1 / y;
      }
      evidence[c].reference_sq += x * x;
      evidence[c].product += x * y;
      evidence[c].test_sq += y * y;
    }
    return true;
  }

  bool AddEvidence(NodeId id, std::vector<Evidence>& evidence) const {
    const Node& n = reference_.node(id);
    const NodeId twin = quantized_.FindNode(n.name);
    if (const auto side = FactorInput(reference_, n)) {
      return twin != kNoNode && AddFactorEvidence(n, quantized_.node(twin), *side, evidence);
    }
    const Tensor* w = reference_.ConstantOf(n.input(1));
    if (twin == kNoNode || w == nullptr || w->dtype() != DType::kFloat32) return false;
    const auto view = OutputChannels(n, w->shape());
    if (!view || view->channels != static_cast<int64_t>(evidence.size())) return false;
    const auto other = ReadWeight(quantized_, quantized_.node(twin), *view);
    if (!other || static_cast<int64_t>(other->values.size()) != w->elements()) return false;
    const auto a = w->data<float>();
    for (size_t i = 0; i < a.size(); ++i) {
      const auto c = static_cast<size_t>((static_cast<int64_t>(i) / view->inner) % view->channels);
      const auto x = static_cast<double>(a[i]), y = static_cast<double>(other->values[i]);
      evidence[c].reference_sq += x * x;
      evidence[c].product += x * y;
      evidence[c].test_sq += y * y;
    }
    for (size_t c = 0; c < evidence.size(); ++c) {
      evidence[c].noise_sq = std::max(evidence[c].noise_sq, other->step[c] * other->step[c] / 12);
    }
    return true;
  }

  Graph& reference_;
  const Graph& quantized_;
  std::vector<std::string> rescaled_;
};

}  // namespace

std::vector<std::string> AlignRescaling(Graph& reference, const Graph& quantized) {
  return Aligner(reference, quantized).Run();
}

}  // namespace octet
