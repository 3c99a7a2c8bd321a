#include "quantize/bias_correction.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "graph/ops.h"
#include "numerics/fixed_sum.h"
#include "passes/lower.h"
#include "passes/quantizers.h"
#include "quantize/calibration.h"
#include "quantize/road.h"
#include "runtime/approx_node.h"
#include "runtime/executor.h"

namespace octet {
namespace {

// Mean shift of every output channel of `node`: sum over (o, k) of (w_q - w)[o, k] * mean[channel
// of k].
std::vector<double> MeanShift(const Graph& graph, const Node& node,
                              std::span<const float> quantized,
                              const std::vector<double>& input_mean) {
  const Tensor& w = *graph.ConstantOf(node.inputs[1]);
  const auto d = w.data<float>();
  const Shape& s = w.shape();
  const auto term = [&](int64_t index, int64_t channel) {
    const auto i = static_cast<size_t>(index);
    return (static_cast<double>(quantized[i]) - static_cast<double>(d[i])) *
           input_mean[static_cast<size_t>(channel)];
  };
  std::vector<double> shift;
  if (node.Is("Conv")) {
    const int64_t taps = s.product(2, s.rank());
    const int64_t out_per_group = s[0] / node.GetInt("group", 1);
    for (int64_t o = 0; o < s[0]; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < s[1]; ++i) {
        for (int64_t t = 0; t < taps; ++t) {
          sum += term((o * s[1] + i) * taps + t, (o / out_per_group) * s[1] + i);
        }
      }
      shift.push_back(sum);
    }
    return shift;
  }
  const bool rows_are_outputs = node.Is("Gemm") && node.GetInt("transB", 0) != 0;
  const int64_t n = rows_are_outputs ? s[0] : s[1];
  const int64_t k = rows_are_outputs ? s[1] : s[0];
  for (int64_t o = 0; o < n; ++o) {
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += term(rows_are_outputs ? o * k + i : i * n + o, i);
    shift.push_back(sum);
  }
  return shift;
}

std::vector<float> QuantizedWeights(const Graph& graph, const QuantizerPlan::Weighted& w,
                                    const QuantizerParams& params) {
  const Tensor& t = *graph.ConstantOf(graph.node(w.node).inputs[1]);
  std::vector<float> values(t.data<float>().begin(), t.data<float>().end());
  const QuantParams q = params.WeightParams(w);
  FakeQuantizeArray(values, ExtentsOf(t.shape().dims(), q.axis), q);
  return values;
}

double LargestMagnitude(const std::vector<double>& values) {
  double m = 0;
  for (double v : values) m = std::max(m, std::fabs(v));
  return m;
}

// Mean of every channel of the given values over the data, exactly summed: the order does not
// matter.
using ChannelMeans = std::map<std::string, std::vector<double>>;
ChannelMeans MeansOf(const Graph& graph, const std::vector<Watch>& watched,
                     const std::vector<Sample>& data, int threads) {
  ExecutorOptions options;
  std::map<ValueId, int> axes;
  for (const Watch& w : watched) {
    options.taps.push_back(w.value);
    axes[w.value] = w.channel_axis;
  }
  const Executor executor(graph, options);
  const ThreadScope scope(threads);
  std::mutex mutex;
  std::map<ValueId, std::vector<FixedSum>> sums;
  std::map<ValueId, int64_t> counts;
  ParallelForEach(static_cast<int64_t>(data.size()), [&](int64_t i) {
    (void)executor.Run(
        data[static_cast<size_t>(i)].views(), [&](ValueId v, const TensorView& view) {
          const Extents e = ExtentsOf(view.shape.dims(), axes.at(v));
          std::vector<double> sum(static_cast<size_t>(e.channels), 0.0);
          const auto x = view.data<float>();
          for (int64_t o = 0; o < e.outer; ++o) {
            for (int64_t c = 0; c < e.channels; ++c) {
              double s = 0;
              for (float value : x.subspan(static_cast<size_t>((o * e.channels + c) * e.inner),
                                           static_cast<size_t>(e.inner))) {
                s += static_cast<double>(value);
              }
              sum[static_cast<size_t>(c)] += s;
            }
          }
          const std::lock_guard lock(mutex);
          auto& total = sums[v];
          total.resize(sum.size());
          for (size_t c = 0; c < sum.size(); ++c) total[c].Add(sum[c]);
          counts[v] += e.outer * e.inner;
        });
  });
  ChannelMeans means;
  for (const auto& [v, total] : sums) {
    std::vector<double>& m = means[graph.value(v).name];
    for (const FixedSum& s : total) m.push_back(s.Value() / static_cast<double>(counts.at(v)));
  }
  return means;
}

// Which inputs of a layer of the quantized graph are what: its multiplier may be approximate.
struct LayerInputs {
  size_t x = 0, weight = 1, bias = 2;
};

std::optional<LayerInputs> LayerInputsOf(const Graph& graph, const Node& node) {
  if (IsApproximate(node)) return LayerInputs{kApproxX, kApproxWeight, kApproxBias};
  const bool computes = node.Is("Conv") || node.Is("Gemm");
  if (computes && (IsQuantized(graph, node.input(0)) || IsQuantized(graph, node.input(1))))
    return LayerInputs{};
  return std::nullopt;
}

// Adds `delta` to the bias of a node of the quantized graph.
void ShiftQuantizedBias(Graph& graph, NodeId id, const LayerInputs& inputs,
                        const std::vector<double>& delta) {
  const ValueId bias = graph.node(id).inputs[inputs.bias];
  if (const auto q = DequantizerOf(graph, bias)) {
    Tensor codes = graph.ConstantOf(q->codes)->Clone();
    auto d = codes.mutable_data<int32_t>();
    for (size_t c = 0; c < d.size(); ++c) {
      const double scale = static_cast<double>(q->scale[q->scale.size() > 1 ? c : 0]);
      const double v = std::nearbyint(static_cast<double>(d[c]) + delta[c] / scale);
      d[c] = static_cast<int32_t>(std::clamp(v, -2147483000.0, 2147483000.0));
    }
    const std::string name = graph.value(q->codes).name;
    graph.node(q->node).inputs[0] = graph.AddConstant(name + "_corrected", std::move(codes));
    return;
  }
  // A float bias of an INT8 layer stays on the grid s_x * s_w that its kernels add it on.
  const auto x = DequantizerOf(graph, graph.node(id).inputs[inputs.x]);
  const auto w = DequantizerOf(graph, graph.node(id).inputs[inputs.weight]);
  Tensor values = graph.ConstantOf(bias)->Clone();
  auto d = values.mutable_data<float>();
  for (size_t c = 0; c < d.size(); ++c) {
    const float wanted = static_cast<float>(static_cast<double>(d[c]) + delta[c]);
    if (!x || !w) {
      d[c] = wanted;
      continue;
    }
    const float grid = x->scale[0] * w->scale[w->scale.size() > 1 ? c : 0];
    d[c] =
        static_cast<float>(QuantizeBias(wanted, x->scale[0], w->scale[w->scale.size() > 1 ? c : 0],
                                        graph.value(bias).name)) *
        grid;
  }
  graph.node(id).inputs[inputs.bias] =
      graph.AddConstant(graph.value(bias).name + "_corrected", std::move(values));
}

}  // namespace

int OutputChannelAxis(const Graph& graph, const Node& node) {
  return node.Is("Conv") ? 1 : static_cast<int>(graph.value(node.outputs[0]).type.dims.size()) - 1;
}

std::map<std::string, double> CorrectBiasAnalytically(Graph& graph, const QuantizerPlan& plan,
                                                      const QuantizerParams& params,
                                                      const Statistics& statistics) {
  std::map<std::string, double> corrected;
  for (const auto& w : plan.weighted) {
    const Node node = graph.node(w.node);
    if (node.Is("MatMul")) continue;
    const ValueStatistics& x = statistics.At(graph.value(node.inputs[0]).name);
    const auto shift = MeanShift(graph, node, QuantizedWeights(graph, w, params), x.ChannelMean());
    Tensor bias(DType::kFloat32, Shape{static_cast<int64_t>(shift.size())});
    auto b = bias.mutable_data<float>();
    const Tensor* old = graph.ConstantOf(node.input(2));
    for (size_t c = 0; c < b.size(); ++c) {
      b[c] = static_cast<float>(
          (old != nullptr ? static_cast<double>(old->data<float>()[c]) : 0.0) - shift[c]);
    }
    const std::string name =
        old != nullptr ? graph.value(node.inputs[2]).name + "_corrected" : node.name + ".bias";
    const ValueId constant = graph.AddConstant(name, std::move(bias));
    Node& target = graph.node(w.node);
    target.inputs.resize(3, kNoValue);
    target.inputs[2] = constant;
    corrected[node.name] = LargestMagnitude(shift);
  }
  return corrected;
}

std::map<std::string, double> CorrectBiasEmpirically(Graph& quantized, const Graph& reference,
                                                     const Dataset& data, int threads,
                                                     const Progress& progress) {
  std::map<std::string, double> corrected;
  std::vector<std::string> names;
  std::vector<Watch> watched;
  for (NodeId id : quantized.TopologicalOrder()) {
    const Node& n = quantized.node(id);
    const auto inputs = LayerInputsOf(quantized, n);
    if (!inputs || n.input(inputs->bias) == kNoValue) continue;
    const NodeId twin = reference.FindNode(n.name);
    if (twin == kNoNode) continue;
    names.push_back(n.name);
    watched.push_back(
        {reference.node(twin).outputs[0], OutputChannelAxis(reference, reference.node(twin))});
  }
  std::vector<Sample> samples(static_cast<size_t>(std::min(kBiasSamples, data.size())));
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = data.Load(static_cast<int64_t>(i));
  const ChannelMeans wanted = MeansOf(reference, watched, samples, threads);
  ProgressMeter meter("correct biases", static_cast<int64_t>(names.size()), progress);
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string& name = names[i];
    // Only what leads to this operator is run, on the INT8 kernels; its own output stays float.
    Graph part = quantized;
    const Node& node = quantized.node(quantized.FindNode(name));
    const std::string value = quantized.value(node.outputs[0]).name;
    const int axis = watched[i].channel_axis;  // the same in both graphs
    part.outputs = {node.outputs[0]};
    part.Compact();
    Lower(part, Evaluator());
    InferShapes(part, true);
    const auto got = MeansOf(part, {{part.Find(value), axis}}, samples, threads).at(value);
    const auto& want = wanted.at(value);
    OCTET_INVARIANT(got.size() == want.size());
    std::vector<double> delta(got.size());
    for (size_t c = 0; c < delta.size(); ++c) delta[c] = want[c] - got[c];
    ShiftQuantizedBias(quantized, quantized.FindNode(name), *LayerInputsOf(quantized, node), delta);
    corrected[name] = LargestMagnitude(delta);
    meter.Advance();
  }
  quantized.Compact();
  return corrected;
}

}  // namespace octet
