#include "evaluate/analyze.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "evaluate/branch.h"
#include "evaluate/progress.h"
#include "evaluate/rescaling.h"
#include "evaluate/run_samples.h"
#include "graph/ops.h"
#include "numerics/error_stats.h"
#include "numerics/rounding.h"
#include "passes/prepare.h"
#include "passes/quantizers.h"
#include "runtime/executor.h"

namespace octet {
namespace {

// Whether the quantized model has this node of the float model: by its name or, as other programs
// rename, by the value it makes, which may be behind a quantizer now.
bool IsKept(const Graph& reference, const Node& n, const Graph& quantized) {
  const auto same = [&](NodeId id) {
    return id != kNoNode && quantized.node(id).Is(n.op, n.domain);
  };
  if (same(quantized.FindNode(n.name))) return true;
  const auto maker = [&](ValueId v) {
    return v == kNoValue ? kNoNode : quantized.value(v).producer;
  };
  NodeId id = n.outputs.empty() || n.outputs[0] == kNoValue
                  ? kNoNode
                  : maker(quantized.Find(reference.value(n.outputs[0]).name));
  while (id != kNoNode && (IsQuantized(quantized, quantized.node(id).outputs[0]) ||
                           quantized.node(id).Is("QuantizeLinear"))) {
    id = maker(quantized.node(id).input(0));
  }
  return same(id);
}

// The float model as it was when quantizers were placed: other programs fold less.
Graph Prepare(const Graph& reference, const Graph& quantized, std::vector<std::string>& rescaled) {
  Graph g = reference;
  SimplifyForQuantizers(g, EvaluateNode,
                        {.keep = [&](const Node& n) { return IsKept(g, n, quantized); }});
  InferShapes(g, false);
  rescaled = AlignRescaling(g, quantized);
  return g;
}

bool IsLayer(const Node& n) {
  static constexpr std::array kOps = {"Conv", "ConvTranspose", "Gemm",        "MatMul",
                                      "Add",  "Concat",        "AveragePool", "GlobalAveragePool"};
  if (n.domain == "octet") return n.op == "ApproxConv" || n.op == "ApproxMatMul";
  return n.domain.empty() && std::find(kOps.begin(), kOps.end(), n.op) != kOps.end();
}

// Reads at least one dequantized activation or weight, or codes themselves.
bool IsQuantizedLayer(const Graph& graph, const Node& n) {
  if (!IsLayer(n)) return false;
  return n.domain == "octet" || std::any_of(n.inputs.begin(), n.inputs.end(),
                                            [&](ValueId v) { return IsQuantized(graph, v); });
}

// Positions among the outputs of the two graphs that are run.
struct Watched {
  std::optional<QuantizerInfo> grid;  // of the output
  size_t reference = 0,
         local = 0;  // of the probe: float value; codes, or a float value without a grid
  size_t real = 0,
         test = 0;  // of the quantized graph: before the quantizer; codes, or `real` again
};

class Probe {
 public:
  Probe(Graph reference, const Graph& quantized)
      : probe_(std::move(reference)), quantized_(quantized) {
    for (size_t i = 0; i < probe_.value_count(); ++i) {
      const auto v = static_cast<ValueId>(i);
      const Value& value = probe_.value(v);
      const bool computed =
          value.producer != kNoNode ||
          std::find(probe_.inputs.begin(), probe_.inputs.end(), v) != probe_.inputs.end();
      if (computed) float_values_[value.name] = v;
    }
    probe_.outputs.clear();
    quantized_.outputs.clear();
    const auto uses = quantized_.UseMap();
    for (NodeId id : quantized_.TopologicalOrder()) {
      if (IsQuantizedLayer(quantized_, quantized_.node(id)))
        Watch(id, FindLayerEnd(quantized_, uses, id));
    }
  }

  const Graph& probe() const { return probe_; }
  const Graph& quantized() const { return quantized_; }
  const std::vector<Watched>& watched() const { return watched_; }
  std::vector<AnalyzeResult::Layer>& layers() { return layers_; }
  std::vector<LayerNote>& left_out() { return left_out_; }

 private:
  void Watch(NodeId id, const LayerEnd& end) {
    const Node& n = quantized_.node(id);
    const std::string& name = quantized_.value(end.real).name;
    const auto reference = float_values_.find(name);
    if (reference == float_values_.end()) {
      left_out_.push_back({n.name, n.op, "the float model has no value '" + name + "'"});
      return;
    }
    Watched w;
    ValueId test = end.real;
    if (end.quantizer != kNoNode) {
      w.grid = QuantizerOf(quantized_, end.quantizer);
      test = w.grid->codes;
    } else if (end.fake != kNoValue) {
      test = end.fake;
    }
    // Every dequantized activation on the way back starts from the float model's value of that
    // name.
    const ValueId layer_output = n.outputs[0];
    Branch branch(quantized_, probe_, [&](ValueId v) -> std::optional<ValueId> {
      if (v == test || v == end.real || v == layer_output || InTail(v, layer_output, end.real))
        return std::nullopt;
      const auto it = float_values_.find(quantized_.value(v).name);
      return it == float_values_.end() ? std::nullopt : std::optional(it->second);
    });
    ValueId local = kNoValue;
    try {
      local = branch.Copy(test, n.name + "/local/");
    } catch (const Error& e) {
      left_out_.push_back({n.name, n.op, e.what()});
      return;
    }
    w.reference = Position(probe_, reference->second);
    w.local = Position(probe_, local);
    w.real = Position(quantized_, end.real);
    w.test = Position(quantized_, test);
    watched_.push_back(std::move(w));
    layers_.push_back({n.name, n.op, name, 0, 0, 0, 0, 0});
  }

  // Between the layer's node and the end of its activation functions.
  bool InTail(ValueId v, ValueId layer_output, ValueId end) const {
    for (ValueId t = end; t != layer_output;) {
      if (t == v) return true;
      const Node& n = quantized_.node(quantized_.value(t).producer);
      ValueId back = kNoValue;
      for (ValueId in : n.inputs) {
        if (in != kNoValue && quantized_.ConstantOf(in) == nullptr) back = in;
      }
      if (back == kNoValue) return false;
      t = back;
    }
    return false;
  }

  static size_t Position(Graph& graph, ValueId v) {
    const auto it = std::find(graph.outputs.begin(), graph.outputs.end(), v);
    const auto position = static_cast<size_t>(it - graph.outputs.begin());
    if (it == graph.outputs.end()) graph.outputs.push_back(v);
    return position;
  }

  Graph probe_;
  Graph quantized_;
  std::map<std::string, ValueId> float_values_;
  std::vector<Watched> watched_;
  std::vector<AnalyzeResult::Layer> layers_;
  std::vector<LayerNote> left_out_;
};

std::vector<float> RealValues(const Tensor& t, const std::optional<QuantizerInfo>& grid) {
  std::vector<float> real;
  real.reserve(static_cast<size_t>(t.elements()));
  const auto dequantize = [&](auto codes) {
    for (auto c : codes) real.push_back(DequantizeOne(c, grid->scale[0], grid->zero_point[0]));
  };
  if (!grid) {
    real.assign(t.data<float>().begin(), t.data<float>().end());
  } else if (t.dtype() == DType::kUint8) {
    dequantize(t.data<uint8_t>());
  } else {
    dequantize(t.data<int8_t>());
  }
  return real;
}

struct SampleErrors {
  ErrorStats local, accumulated;
  int64_t saturated = 0, elements = 0;
};

int64_t CountSaturated(std::span<const float> real, const QuantizerInfo& grid) {
  const double scale = grid.scale[0];
  const double lo = (grid.qmin() - grid.zero_point[0] - 0.5) * scale;
  const double hi = (grid.qmax() - grid.zero_point[0] + 0.5) * scale;
  return std::count_if(real.begin(), real.end(), [&](float v) {
    return static_cast<double>(v) < lo || static_cast<double>(v) > hi;
  });
}

}  // namespace

Analysis AnalyzeGraphs(const Graph& reference, const Graph& quantized, const Dataset& data,
                       const AnalyzeRequest& request) {
  RequireSamples(data, "analyze");
  Analysis analysis;
  Probe probe(Prepare(reference, quantized, analysis.rescaled), quantized);
  const std::vector<Watched>& watched = probe.watched();
  if (watched.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "analyze: the second model has no quantized layer that the first has too",
         probe.left_out().empty()
             ? std::string(": it has no quantizers before Conv, Gemm, MatMul, Add or pooling")
             : Cat(" (", probe.left_out()[0].node, ": ", probe.left_out()[0].text, ")"));
  }
  const ThreadScope threads(request.threads);
  const Executor float_run(probe.probe()), quantized_run(probe.quantized());
  const auto float_order = MatchInputs(probe.probe(), data, "the float model");
  const auto quantized_order = MatchInputs(probe.quantized(), data, "the quantized model");

  // Per sample, so that the sums do not depend on which thread came first.
  std::vector<std::vector<SampleErrors>> errors(static_cast<size_t>(data.size()));
  ProgressMeter meter(request.progress, "analyze", data.size());
  ParallelForEach(data.size(), [&](int64_t i) {
    const Sample sample = data.Load(i);
    const auto r = float_run.Run(InputViews(sample, float_order));
    const auto q = quantized_run.Run(InputViews(sample, quantized_order));
    auto& mine = errors[static_cast<size_t>(i)];
    mine.resize(watched.size());
    for (size_t k = 0; k < watched.size(); ++k) {
      const Watched& w = watched[k];
      const auto expected = r[w.reference].data<float>();
      mine[k].local.Add(expected, RealValues(r[w.local], w.grid));
      mine[k].accumulated.Add(expected, RealValues(q[w.test], w.grid));
      mine[k].elements = q[w.real].elements();
      if (w.grid) mine[k].saturated = CountSaturated(q[w.real].data<float>(), *w.grid);
    }
    meter.Step();
  });

  AnalyzeResult& result = analysis.result;
  result.samples = data.size();
  result.layers = std::move(probe.layers());
  analysis.left_out = std::move(probe.left_out());
  for (size_t k = 0; k < watched.size(); ++k) {
    SampleErrors total;
    for (const auto& sample : errors) {
      total.local.Merge(sample[k].local);
      total.accumulated.Merge(sample[k].accumulated);
      total.saturated += sample[k].saturated;
      total.elements += sample[k].elements;
    }
    AnalyzeResult::Layer& layer = result.layers[k];
    layer.local_sqnr_db = total.local.SqnrDb();
    layer.accumulated_sqnr_db = total.accumulated.SqnrDb();
    layer.l1 = total.accumulated.L1();
    layer.cosine = total.accumulated.Cosine();
    if (total.elements > 0) {
      layer.saturated = static_cast<double>(total.saturated) / static_cast<double>(total.elements);
    }
  }
  result.ranking.resize(result.layers.size());
  std::iota(result.ranking.begin(), result.ranking.end(), size_t{0});
  std::stable_sort(result.ranking.begin(), result.ranking.end(), [&](size_t a, size_t b) {
    return result.layers[a].local_sqnr_db < result.layers[b].local_sqnr_db;
  });
  return analysis;
}

}  // namespace octet
