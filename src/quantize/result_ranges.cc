#include "quantize/result_ranges.h"

#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "quantize/calibration.h"
#include "quantize/probe.h"

namespace octet {
namespace {

// Powers of two below the range of exact results: no sum has products so much smaller than itself
// that more would keep anything.
constexpr int kMostHalvings = 12;
// A scale that errs this many times the best so far, and every smaller one, saturates.
constexpr double kHopeless = 8;

ApproximateLayer Halved(ApproximateLayer layer, int times) {
  layer.result_scale = std::ldexp(layer.result_scale, -times);
  layer.result_limit = std::ldexp(layer.result_limit, -times);
  return layer;
}

}  // namespace

void SearchResultRanges(const Graph& reference, const QuantizerPlan& plan,
                        const QuantizerParams& params, const Dataset& data, int threads,
                        const Progress& progress, std::map<std::string, ApproximateLayer>& layers) {
  struct Candidate {
    const QuantizerPlan::Weighted* weighted;
    ApproximateLayer* layer;
    int halvings = 0;
    double least = std::numeric_limits<double>::infinity();
    bool hopeless = false;
  };
  std::vector<Candidate> candidates;
  for (const QuantizerPlan::Weighted& w : plan.weighted) {
    const auto layer = layers.find(reference.node(w.node).name);
    if (layer != layers.end() && layer->second.table.empty())
      candidates.push_back({&w, &layer->second});
  }
  const ThreadScope scope(threads);
  ProgressMeter meter("search results", kMostHalvings + 1, progress);
  for (int halvings = 0; halvings <= kMostHalvings; ++halvings) {
    Probe probe(reference);
    std::vector<Candidate*> measured;
    std::map<std::string, ApproximateLayer> twins;
    for (Candidate& c : candidates) {
      if (c.hopeless) continue;
      const NodeId node = c.weighted->node;
      const ValueId x = reference.node(node).inputs[0];
      const NodeId twin = probe.AddTwin(node);
      QuantizerPlan one;
      QuantizerParams own = params;
      one.activations.push_back({x, 0, -1, {twin}});
      one.weighted.push_back({twin, c.weighted->axis});
      own.weight_scales[twin] = params.weight_scales.at(node);
      own.weight_formats[twin] = params.WeightFormat(node);
      if (const auto limit = params.weight_limits.find(node); limit != params.weight_limits.end())
        own.weight_limits[twin] = limit->second;
      InsertQuantizersInPlace(probe.graph(), one, own);
      twins[probe.graph().node(twin).name] = Halved(*c.layer, halvings);
      measured.push_back(&c);
    }
    meter.Advance();
    if (measured.empty()) break;
    ApproximateLayers(probe.graph(), twins);
    const std::vector<ErrorStats> stats = probe.Measure(data, kProbeSamples);
    for (size_t i = 0; i < stats.size(); ++i) {
      Candidate& c = *measured[i];
      const double error = RelativeError(stats[i]);
      if (error < c.least) {
        c.least = error;
        c.halvings = halvings;
      }
      c.hopeless = error > kHopeless * c.least;
    }
  }
  for (const Candidate& c : candidates) *c.layer = Halved(*c.layer, c.halvings);
}

}  // namespace octet
