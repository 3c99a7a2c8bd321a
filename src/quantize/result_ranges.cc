#include "quantize/result_ranges.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "graph/ops.h"
#include "quantize/calibration.h"
#include "quantize/probe.h"
#include "runtime/approx_node.h"
#include "runtime/executor.h"

namespace octet {
namespace {

// Powers of two below the range of exact results: no sum has products so much smaller than itself
// that more would keep anything.
constexpr int kMostHalvings = 12;
// A scale that errs this many times the best so far, and every smaller one, saturates.
constexpr double kHopeless = 8;
// Of codes and results that are kept; layers beyond it wait for another run of the float model.
constexpr int64_t kKeptBytes = int64_t{256} << 20;

ApproximateLayer Halved(ApproximateLayer layer, int times) {
  layer.result_scale = std::ldexp(layer.result_scale, -times);
  layer.result_limit = std::ldexp(layer.result_limit, -times);
  return layer;
}

// Sums of squares, of a layer's results less exact ones and of these.
struct Noise {
  double error = 0, signal = 0;
};
Noise NoiseOf(std::span<const float> exact, std::span<const float> results) {
  Noise noise;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double a = static_cast<double>(exact[i]), b = static_cast<double>(results[i]);
    noise.error += (b - a) * (b - a);
    noise.signal += a * a;
  }
  return noise;
}

struct Candidate {
  ApproximateLayer* layer;
  NodeId node, reference;  // in the approximate and in the float graph
  size_t x = 0, y = 0;     // codes and exact results among what a run gives
  int halvings = 0;
  double least = std::numeric_limits<double>::infinity();
  bool hopeless = false;
};

class Search {
 public:
  Search(const Graph& reference, const Graph& approximate, const Dataset& data)
      : reference_(reference),
        approximate_(approximate),
        data_(data),
        samples_(std::min(kProbeSamples, data.size())) {}

  // Codes and results of as many of the candidates from `begin` on as there is room for. Returns
  // the end of them.
  size_t Keep(std::vector<Candidate>& candidates, size_t begin) {
    Graph graph = reference_;
    graph.outputs.clear();
    std::map<ValueId, size_t> codes;  // outputs, by the value in the approximate graph
    int64_t bytes = 0;
    size_t end = begin;
    for (; end < candidates.size(); ++end) {
      Candidate& c = candidates[end];
      const ValueId y = reference_.node(c.reference).outputs[0];
      const int64_t more = samples_ * (BytesOf(InputOf(c), 1) + BytesOf(y, sizeof(float)));
      if (end > begin && bytes + more > kKeptBytes) break;
      bytes += more;
      const auto [at, added] = codes.try_emplace(InputCodes(c), graph.outputs.size());
      if (added) graph.outputs.push_back(AddQuantize(graph, c));
      c.x = at->second;
      c.y = graph.outputs.size();
      graph.outputs.push_back(y);
    }
    graph.opsets["octet"] = 1;
    graph.Compact();
    const Executor executor(graph);
    kept_.clear();
    kept_.resize(static_cast<size_t>(samples_));
    ParallelForEach(samples_, [&](int64_t i) {
      kept_[static_cast<size_t>(i)] = executor.Run(data_.Load(i).views());
    });
    return end;
  }

  // The error of every candidate's results at its scale halved so often; nothing where its products
  // cannot be held there.
  std::vector<std::optional<double>> Measure(const std::vector<Candidate*>& candidates,
                                             int halvings) const {
    std::vector<std::optional<Executor>> layers(candidates.size());
    ParallelForEach(static_cast<int64_t>(candidates.size()), [&](int64_t i) {
      const Candidate& c = *candidates[static_cast<size_t>(i)];
      const Shape shape = kept_[0][c.x].shape();
      try {
        Executor layer(LayerGraph(c, halvings));
        (void)layer.Explain({&shape, 1});  // makes its tables
        layers[static_cast<size_t>(i)] = std::move(layer);
      } catch (const Error& e) {
        if (halvings == 0 || e.code() != ErrorCode::kUnsupported) throw;
      }
    });
    std::vector<Noise> by_run(candidates.size() * kept_.size());
    ParallelForEach(static_cast<int64_t>(by_run.size()), [&](int64_t i) {
      const size_t at = static_cast<size_t>(i) / kept_.size();
      if (!layers[at]) return;
      const std::vector<Tensor>& kept = kept_[static_cast<size_t>(i) % kept_.size()];
      const TensorView x = kept[candidates[at]->x].view();
      by_run[static_cast<size_t>(i)] =
          NoiseOf(kept[candidates[at]->y].data<float>(), layers[at]->Run({&x, 1})[0].data<float>());
    });
    std::vector<std::optional<double>> errors(candidates.size());
    for (size_t at = 0; at < candidates.size(); ++at) {
      if (!layers[at]) continue;
      Noise all;
      for (size_t s = 0; s < kept_.size(); ++s) {
        all.error += by_run[at * kept_.size() + s].error;
        all.signal += by_run[at * kept_.size() + s].signal;
      }
      errors[at] = all.signal > 0 ? all.error / all.signal : 0.0;
    }
    return errors;
  }

 private:
  // Of a value where its shape is known for the first sample; else all there is room for.
  int64_t BytesOf(ValueId value, int64_t size) {
    if (shapes_.node_count() == 0) {
      shapes_ = reference_;
      const Sample sample = data_.Load(0);
      for (size_t i = 0; i < shapes_.inputs.size(); ++i)
        shapes_.value(shapes_.inputs[i]).type =
            ValueType::Of(sample.views()[i].dtype, sample.views()[i].shape);
      InferShapes(shapes_, true);
    }
    const ValueType& type = shapes_.value(value).type;
    return type.is_static() ? type.static_shape().elements() * size : kKeptBytes;
  }

  ValueId InputCodes(const Candidate& c) const {
    return approximate_.node(c.node).inputs[kApproxX];
  }
  ValueId InputOf(const Candidate& c) const { return reference_.node(c.reference).inputs[0]; }

  // The codes of the float model's own value, by the quantizer that the approximate graph has.
  ValueId AddQuantize(Graph& graph, const Candidate& c) const {
    const Value& codes = approximate_.value(InputCodes(c));
    const Node& quantize = approximate_.node(codes.producer);
    OCTET_INVARIANT(quantize.op == "Quantize" && quantize.domain == "octet");
    std::vector<ValueId> inputs = {InputOf(c)};
    for (size_t i = 1; i < quantize.inputs.size(); ++i)
      inputs.push_back(graph.AddConstant(Cat(quantize.name, "_", i),
                                         approximate_.value(quantize.inputs[i]).constant));
    const ValueId out = graph.AddValue(codes.name, codes.type);
    graph.AddOp(quantize.op, std::move(inputs), {out}, quantize.attributes, quantize.name,
                quantize.domain);
    return out;
  }

  // The layer alone, a function of its codes. Its bias is that of the float model.
  Graph LayerGraph(const Candidate& c, int halvings) const {
    const Node& node = approximate_.node(c.node);
    Graph g;
    g.opsets = approximate_.opsets;
    const Value& codes = approximate_.value(node.inputs[kApproxX]);
    std::vector<ValueId> inputs = {g.AddInput(codes.name, codes.type)};
    for (const size_t i : {kApproxXScale, kApproxWeight, kApproxWeightScale}) {
      const Value& value = approximate_.value(node.inputs[i]);
      OCTET_INVARIANT(value.constant != nullptr);
      inputs.push_back(g.AddConstant(value.name, value.constant));
    }
    const ValueId bias = reference_.node(c.reference).input(2);
    if (bias != kNoValue) {
      const Value& value = reference_.value(bias);
      if (value.constant == nullptr)
        Fail(ErrorCode::kUnsupported, "search results: the bias of '", node.name,
             "' is computed; expected a constant");
      inputs.push_back(g.AddConstant(value.name, value.constant));
    }
    const ApproximateLayer layer = Halved(*c.layer, halvings);
    std::map<std::string, Attribute> attributes = node.attributes;
    attributes["result_scale"] = layer.result_scale;
    if (layer.result_limit > 0) attributes["result_limit"] = layer.result_limit;
    const ValueId y = g.AddValue(approximate_.value(node.outputs[0]).name);
    g.AddOp(node.op, std::move(inputs), {y}, std::move(attributes), node.name, node.domain);
    g.outputs = {y};
    return g;
  }

  const Graph& reference_;
  const Graph& approximate_;
  const Dataset& data_;
  int64_t samples_;
  Graph shapes_;                           // of the float model, for the first sample
  std::vector<std::vector<Tensor>> kept_;  // by sample
};

}  // namespace

void SearchResultRanges(const Graph& reference, const Graph& approximate, const Dataset& data,
                        int threads, const Progress& progress,
                        std::map<std::string, ApproximateLayer>& layers) {
  std::vector<Candidate> candidates;
  for (auto& [name, layer] : layers) {
    if (layer.table.empty())
      candidates.push_back({&layer, approximate.FindNode(name), reference.FindNode(name)});
  }
  const ThreadScope scope(threads);
  Search search(reference, approximate, data);
  ProgressMeter meter("search results", static_cast<int64_t>(candidates.size()), progress);
  for (size_t begin = 0; begin < candidates.size();) {
    const size_t end = search.Keep(candidates, begin);
    for (int halvings = 0; halvings <= kMostHalvings; ++halvings) {
      std::vector<Candidate*> measured;
      for (size_t i = begin; i < end; ++i)
        if (!candidates[i].hopeless) measured.push_back(&candidates[i]);
      if (measured.empty()) break;
      const std::vector<std::optional<double>> errors = search.Measure(measured, halvings);
      for (size_t i = 0; i < errors.size(); ++i) {
        Candidate& c = *measured[i];
        if (errors[i] && *errors[i] < c.least) {
          c.least = *errors[i];
          c.halvings = halvings;
        }
        c.hopeless = !errors[i] || *errors[i] > kHopeless * c.least;
        if (c.hopeless) meter.Advance();
      }
    }
    for (; begin < end; ++begin)
      if (!candidates[begin].hopeless) meter.Advance();
  }
  for (const Candidate& c : candidates) *c.layer = Halved(*c.layer, c.halvings);
}

}  // namespace octet
