#include "quantize/rescale.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"
#include "base/parallel.h"
#include "calibrate/smoothing_factors.h"
#include "graph/ops.h"
#include "passes/place_quantizers.h"
#include "quantize/calibration.h"
#include "quantize/layer_formats.h"
#include "quantize/layer_rules.h"
#include "quantize/probe.h"

namespace octet {
namespace {

// A rescaling must lower the error by this much to be worth a changed model under `smooth: auto`:
// the error of a few samples is known to a few percent.
constexpr double kWorthwhile = 0.95;

std::vector<float> SweepAlphas() {
  std::vector<float> alphas;
  for (int i = 1; i <= 19; ++i) alphas.push_back(static_cast<float>(i) * 0.05F);
  return alphas;
}

// Per-channel extrema of a group's activation, from the statistics of one of its readers' inputs.
struct Extrema {
  std::vector<float> lo, hi;
  [[nodiscard]] std::vector<float> AbsMax() const {
    std::vector<float> a(lo.size());
    for (size_t c = 0; c < a.size(); ++c) a[c] = std::max(std::fabs(lo[c]), std::fabs(hi[c]));
    return a;
  }
};

// The statistics describe the model before any rescaling; by value, what its channels were divided
// by since.
struct Measured {
  const Statistics& statistics;
  std::map<std::string, std::vector<float>> divided;
};

Extrema ExtremaOf(const Graph& graph, const ChannelGroup& group, const Measured& measured,
                  NodeId consumer) {
  const ValueId v = graph.node(consumer).inputs[0];
  const std::string& name = graph.value(v).name;
  const ValueStatistics& s = measured.statistics.At(name);
  const int64_t repeat = group.values.at(v).repeat;
  const auto n = static_cast<size_t>(group.channels);
  Extrema e{std::vector<float>(n, 0.0F), std::vector<float>(n, 0.0F)};
  for (int64_t k = 0; k < s.channels(); ++k) {
    const auto c = static_cast<size_t>(k / repeat);
    e.lo[c] = std::min(e.lo[c], s.channel_min()[static_cast<size_t>(k)]);
    e.hi[c] = std::max(e.hi[c], s.channel_max()[static_cast<size_t>(k)]);
  }
  if (const auto it = measured.divided.find(name); it != measured.divided.end()) {
    for (size_t c = 0; c < n; ++c) {
      e.lo[c] /= it->second[c];
      e.hi[c] /= it->second[c];
    }
  }
  return e;
}

std::vector<float> GroupAbsMax(const Graph& graph, const ChannelGroup& group,
                               const Measured& measured) {
  std::vector<float> a(static_cast<size_t>(group.channels), 0.0F);
  for (NodeId id : group.consumers) MaxInto(a, ExtremaOf(graph, group, measured, id).AbsMax());
  return a;
}

// Everything about one candidate scaling of all groups: factors per group.
using Factors = std::vector<std::vector<float>>;

Factors FactorsFor(const Graph& graph, const std::vector<ChannelGroup>& groups,
                   const Measured& measured, float alpha) {
  Factors factors;
  for (const ChannelGroup& g : groups) {
    SmoothingOptions options;
    options.alpha = alpha;
    factors.push_back(
        SmoothingFactors(GroupAbsMax(graph, g, measured), ConsumerWeightAbsMax(graph, g), options));
  }
  return factors;
}

// Twins of the readers of groups, and which group each is of.
struct GroupProbe {
  Probe probe;
  std::vector<size_t> group;
};

// The float graph, and beside every reader of a group the same operator once more with its input
// divided by the factors and quantized, its weights multiplied and quantized: what the layer alone
// loses.
GroupProbe BuildProbe(const Graph& graph, const std::vector<ChannelGroup>& groups,
                      const Factors& factors, const Measured& measured, const Recipe& recipe) {
  GroupProbe result{Probe(graph), {}};
  Graph& g = result.probe.graph();
  for (size_t i = 0; i < groups.size(); ++i) {
    const ChannelGroup& group = groups[i];
    for (NodeId consumer : group.consumers) {
      const Node original = g.node(consumer);
      const ValueId x = original.inputs[0];
      const int64_t repeat = group.values.at(x).repeat;
      std::vector<float> expanded;
      for (float f : factors[i]) expanded.insert(expanded.end(), static_cast<size_t>(repeat), f);

      const NodeId twin = result.probe.AddTwin(consumer);
      result.group.push_back(i);
      const int axis = group.values.at(x).axis;
      const ValueId scaled = ScaleWithMul(g, x, {axis, 1}, std::array{twin}, expanded);

      const Extrema e = ExtremaOf(graph, group, measured, consumer);
      float lo = 0, hi = 0;
      for (size_t c = 0; c < factors[i].size(); ++c) {
        lo = std::min(lo, e.lo[c] / factors[i][c]);
        hi = std::max(hi, e.hi[c] / factors[i][c]);
      }
      QuantizerParams params;
      QuantizerPlan plan;
      params.bias = BiasForm::kFloat;
      const std::string& subject = g.value(x).name;
      // Of several formats the first: what smoothing does is much the same for all.
      if (const FormatRequest asked = ActivationFormats(recipe, original.name);
          !asked.stays_float()) {
        const NumberFormat& format = asked.formats[0];
        params.activation_format = format;
        if (format.is_float() || format.is_signed()) {
          params.activations[scaled] = {ChooseScale(std::max(-lo, hi), format, {}, subject), 0};
        } else {
          params.activations[scaled] = ChooseAsymmetric(lo, hi, format.integer(), subject);
        }
        plan.activations.push_back({scaled, 0, axis, {twin}});
      }
      if (const FormatRequest asked = WeightFormats(recipe, original.name); !asked.stays_float()) {
        params.weight_format = asked.formats[0];
        const Tensor& w = *g.ConstantOf(g.node(twin).inputs[1]);
        const int weight_axis = WeightChannelAxis(g, g.node(twin));
        const int scale_axis = WeightScaleAxis(recipe, original.name, weight_axis);
        params.weight_scales[twin] =
            ChooseWeightScales(w.data<float>(), ExtentsOf(w.shape().dims(), scale_axis), scale_axis,
                               params.weight_format, original.name)
                .params.scale;
        plan.weighted.push_back({twin, weight_axis});
      }
      InsertQuantizersInPlace(g, plan, params);
    }
  }
  return result;
}

// Relative error (noise / signal, mean over a group's readers) of every group under the given
// factors.
std::vector<double> MeasureErrors(const GroupProbe& probe, size_t groups, const Dataset& data) {
  const std::vector<ErrorStats> stats = probe.probe.Measure(data, kProbeSamples);
  std::vector<double> errors(groups, 0.0);
  std::vector<int> readers(groups, 0);
  for (size_t b = 0; b < stats.size(); ++b) {
    errors[probe.group[b]] += RelativeError(stats[b]);
    ++readers[probe.group[b]];
  }
  for (size_t g = 0; g < groups; ++g) errors[g] /= std::max(1, readers[g]);
  return errors;
}

const float* FixedAlpha(const Graph& graph, const ChannelGroup& group, const Recipe& recipe) {
  for (NodeId id : group.consumers) {
    if (const float* a = RuleFor(recipe, graph.node(id).name, &LayerRule::alpha)) return a;
  }
  return recipe.alpha ? &*recipe.alpha : nullptr;
}

void DescribeGroup(const Graph& graph, const ChannelGroup& group, SmoothingRow& row) {
  row.group = group.name;
  for (NodeId id : group.producers) row.producers.push_back(graph.node(id).name);
  for (NodeId id : group.consumers) row.consumers.push_back(graph.node(id).name);
}

}  // namespace

std::vector<ValueId> SmoothingInputs(const Graph& graph, bool allow_clips) {
  std::set<ValueId> inputs;
  for (const ChannelGroup& g : FindChannelGroups(graph, allow_clips).groups) {
    for (NodeId id : g.consumers) inputs.insert(graph.node(id).inputs[0]);
  }
  return {inputs.begin(), inputs.end()};
}

namespace {

// One sweep over all groups at once, each judged on its own readers. Applies what helps; returns a
// row per group. `forced`: the best α is applied even where it does not help.
std::vector<SmoothingRow> SmoothRound(Graph& graph, const GroupSearch& search, Measured& measured,
                                      const Recipe& recipe, const Dataset& data, bool forced,
                                      ProgressMeter& meter) {
  const auto& groups = search.groups;
  // α of each candidate; NaN is "as it was"; a fixed α replaces the sweep for its group.
  std::vector<float> candidates = {std::numeric_limits<float>::quiet_NaN()};
  std::set<float> wanted;
  for (const ChannelGroup& g : groups) {
    if (const float* fixed = FixedAlpha(graph, g, recipe)) {
      wanted.insert(*fixed);
    } else {
      for (float alpha : SweepAlphas()) wanted.insert(alpha);
    }
  }
  candidates.insert(candidates.end(), wanted.begin(), wanted.end());

  std::vector<SmoothingRow> rows(groups.size());
  for (size_t g = 0; g < groups.size(); ++g) DescribeGroup(graph, groups[g], rows[g]);
  Factors chosen(groups.size());
  std::vector<double> best(groups.size(), std::numeric_limits<double>::infinity());
  for (float alpha : candidates) {
    const bool as_it_was = std::isnan(alpha);
    Factors factors;
    if (as_it_was) {
      for (const auto& g : groups) factors.emplace_back(static_cast<size_t>(g.channels), 1.0F);
    } else {
      factors = FactorsFor(graph, groups, measured, alpha);
    }
    const GroupProbe probe = BuildProbe(graph, groups, factors, measured, recipe);
    const auto errors = MeasureErrors(probe, groups.size(), data);
    for (size_t g = 0; g < groups.size(); ++g) {
      const float* fixed = FixedAlpha(graph, groups[g], recipe);
      if (!as_it_was && fixed != nullptr && *fixed != alpha) continue;
      rows[g].alphas.push_back(alpha);
      rows[g].errors.push_back(errors[g]);
      if (as_it_was) {
        if (!forced) best[g] = errors[g] * kWorthwhile;
      } else if (errors[g] < best[g]) {
        best[g] = errors[g];
        rows[g].chosen = alpha;
        chosen[g] = factors[g];
      }
    }
    meter.Advance();
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    if (chosen[g].empty()) continue;
    rows[g].applied = true;
    for (NodeId id : groups[g].consumers) {
      auto& divided = measured.divided[graph.value(graph.node(id).inputs[0]).name];
      if (divided.empty()) divided.assign(chosen[g].size(), 1.0F);
    }
    std::set<std::string> names;
    for (NodeId id : groups[g].consumers) names.insert(graph.value(graph.node(id).inputs[0]).name);
    for (const std::string& name : names) {
      auto& divided = measured.divided[name];
      for (size_t c = 0; c < divided.size(); ++c) divided[c] *= chosen[g][c];
    }
    ScaleChannels(graph, groups[g], chosen[g]);
  }
  graph.Compact();
  InferShapes(graph, true);
  return rows;
}

}  // namespace

SmoothingResult Smooth(Graph& graph, const Statistics& statistics, const Recipe& recipe,
                       const Dataset& data, int threads, const Progress& progress) {
  SmoothingResult result;
  const bool allow_clips = ParseTarget(recipe.target) == Target::kOctet;
  const ThreadScope scope(threads);
  Measured measured{statistics, {}};
  ProgressMeter meter("smooth", kSmoothingRounds * 20, progress);
  for (int round = 0; round < kSmoothingRounds; ++round) {
    const GroupSearch search = FindChannelGroups(graph, allow_clips);
    if (round == 0) {
      for (const auto& s : search.skipped) result.skipped.push_back({s.value, "", s.reason});
      if (search.groups.empty() && recipe.smooth == Switch::kOn) {
        std::string why;
        for (const auto& s : search.skipped) why += "\n  " + s.value + ": " + s.reason;
        Fail(ErrorCode::kInvalidArgument,
             "smoothing was asked for, but no channels can be rescaled:", why);
      }
    }
    if (search.groups.empty()) return result;
    const bool forced = round == 0 && recipe.smooth == Switch::kOn;
    auto rows = SmoothRound(graph, search, measured, recipe, data, forced, meter);
    bool changed = false;
    for (SmoothingRow& row : rows) {
      row.round = round + 1;
      changed = changed || row.applied;
      if (round == 0 || row.applied) result.rows.push_back(std::move(row));
    }
    result.changed = result.changed || changed;
    // A fixed α is a definition, not a search.
    if (!changed || recipe.alpha) break;
  }
  return result;
}

int64_t Equalize(Graph& graph, bool allow_clips) {
  // Every step leaves its own group even and may disturb its neighbours (a depthwise convolution
  // reads one group and makes the next): repeated until nothing moves by more than a percent, as
  // Nagel et al. 2019 §4.1 do.
  constexpr int kMostRounds = 40;
  int64_t equalized = 0;
  for (int round = 0; round < kMostRounds; ++round) {
    const GroupSearch search = FindChannelGroups(graph, allow_clips);
    int64_t groups = 0;
    float largest = 1;
    for (const ChannelGroup& g : search.groups) {
      // A normalization's range is not to be had from weights.
      const bool weighted = std::all_of(g.producers.begin(), g.producers.end(), [&](NodeId id) {
        return ContractedChannels(graph, graph.node(id)).has_value();
      });
      if (!weighted || g.producers.empty()) continue;
      const auto factors =
          EqualizationFactors(ProducerWeightAbsMax(graph, g), ConsumerWeightAbsMax(graph, g));
      for (float f : factors) largest = std::max({largest, f, 1 / f});
      ScaleChannels(graph, g, factors);
      ++groups;
    }
    equalized = std::max(equalized, groups);
    graph.Compact();
    InferShapes(graph, true);
    if (largest < 1.01F) break;
  }
  return equalized;
}

}  // namespace octet
