#include "quantize/road.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/parallel.h"
#include "calibrate/range.h"
#include "files/multiplier_table.h"
#include "graph/ops.h"
#include "numerics/approx_multiplier.h"
#include "passes/approximate.h"
#include "passes/guard_float8.h"
#include "passes/place_quantizers.h"
#include "passes/prepare.h"
#include "quantize/activation_ranges.h"
#include "quantize/batchnorm.h"
#include "quantize/bias_correction.h"
#include "quantize/calibration.h"
#include "quantize/format_search.h"
#include "quantize/layer_formats.h"
#include "quantize/layer_multiplier.h"
#include "quantize/layer_rules.h"
#include "quantize/rescale.h"
#include "quantize/result_ranges.h"
#include "runtime/executor.h"

namespace octet {
namespace {

PlacementOptions Placement(const Graph& graph, const Recipe& recipe) {
  PlacementOptions options;
  options.target = ParseTarget(recipe.target);
  options.quantize_outputs = recipe.quantize_outputs;
  options.computed_products = recipe.matmul == "all";
  options.compute_only = recipe.placement == "compute";
  if (options.target == Target::kOnnxRuntime && recipe.placement == "auto") {
    std::vector<NumberFormat> formats = ActivationFormats(recipe, "").formats;
    for (const LayerRule& rule : recipe.layers) {
      if (!rule.activation_format) continue;
      for (const NumberFormat& f : ParseFormats(*rule.activation_format).formats)
        formats.push_back(f);
    }
    options.compute_only = std::any_of(formats.begin(), formats.end(),
                                       [](const NumberFormat& f) { return f.is_float(); });
  }
  for (NodeId id : graph.TopologicalOrder()) {
    const std::string& name = graph.node(id).name;
    const bool* skip = RuleFor(recipe, name, &LayerRule::skip);
    if (skip != nullptr && *skip) options.excluded.insert(name);
    if (ActivationFormats(recipe, name).stays_float()) options.float_inputs.insert(name);
  }
  return options;
}

// What is quantized: by placement, less the weights that stay float32.
QuantizerPlan PlanFor(const Graph& graph, const Recipe& recipe) {
  QuantizerPlan plan = PlanQuantizers(graph, Placement(graph, recipe));
  // Outputs go by the recipe alone.
  std::erase_if(plan.activations, [&](const QuantizerPlan::Activation& a) {
    return graph.UsesOf(a.value).empty() && ActivationFormats(recipe, "").stays_float();
  });
  std::erase_if(plan.weighted, [&](const QuantizerPlan::Weighted& w) {
    const std::string& name = graph.node(w.node).name;
    if (!WeightFormats(recipe, name).stays_float()) return false;
    if (ActivationFormats(recipe, name).stays_float())
      plan.skipped.push_back({name, graph.node(w.node).op, "float32 by the recipe"});
    return true;
  });
  return plan;
}

std::vector<std::string> NodesMatched(const Graph& graph, const LayerRule& rule) {
  std::vector<std::string> names;
  for (NodeId id : graph.TopologicalOrder()) {
    const std::string& name = graph.node(id).name;
    if (fnmatch(rule.match.c_str(), name.c_str(), 0) == 0) names.push_back(name);
  }
  return names;
}

// What became of a node that preparation took away.
std::string FateOf(const std::string& node, const std::vector<FoldedNode>& folded) {
  for (const FoldedNode& f : folded) {
    if (f.node == node) return Cat(f.op, " '", node, "' was folded into '", f.into, "'");
  }
  return Cat("'", node, "' does nothing, is computed of constants alone, or is not needed");
}

// A rule must match a node of the model; the warnings name those that match none of what is left
// of it.
std::vector<std::string> CheckRulesMatch(const Graph& original, const Graph& prepared,
                                         const std::vector<FoldedNode>& folded,
                                         const Recipe& recipe) {
  std::vector<std::string> warnings;
  for (const LayerRule& rule : recipe.layers) {
    if (!NodesMatched(prepared, rule).empty()) continue;
    const std::vector<std::string> gone = NodesMatched(original, rule);
    if (gone.empty()) {
      Fail(ErrorCode::kInvalidArgument, "recipe '", recipe.name, "': the rule '", rule.match,
           "' matches no node of the model");
    }
    std::string text = Cat("the rule '", rule.match, "' has no effect: ");
    for (size_t i = 0; i < gone.size(); ++i)
      text += Cat(i > 0 ? ", " : "", FateOf(gone[i], folded));
    warnings.push_back(std::move(text));
  }
  return warnings;
}

int InputChannelAxis(const Graph& graph, const Node& node) {
  return node.Is("Conv") ? 1 : static_cast<int>(graph.value(node.inputs[0]).type.dims.size()) - 1;
}

std::vector<Watch> WatchedValues(const Graph& graph, const QuantizerPlan& plan,
                                 const Recipe& recipe) {
  std::vector<Watch> watched;
  std::set<ValueId> seen;
  for (const auto& a : plan.activations) {
    if (seen.insert(a.value).second) watched.push_back({a.value, a.channel_axis});
  }
  for (const auto& w : plan.weighted) {
    const Node& n = graph.node(w.node);
    // Of a float input the analytic correction asks.
    if (seen.insert(n.inputs[0]).second)
      watched.push_back({n.inputs[0], InputChannelAxis(graph, n)});
    if (MultiplierOf(recipe, n.name) == "exact") continue;
    if (seen.insert(n.outputs[0]).second)
      watched.push_back({n.outputs[0], OutputChannelAxis(graph, n)});
  }
  if (recipe.smooth != Switch::kOff) {
    const bool clips = ParseTarget(recipe.target) == Target::kOctet;
    for (const ChannelGroup& g : FindChannelGroups(graph, clips).groups) {
      for (NodeId id : g.consumers) {
        const ValueId v = graph.node(id).inputs[0];
        if (seen.insert(v).second) watched.push_back({v, g.values.at(v).axis});
      }
    }
  }
  return watched;
}

void CheckWeightsFinite(const Graph& graph) {
  for (NodeId id : graph.TopologicalOrder()) {
    for (ValueId v : graph.node(id).inputs) {
      const Tensor* t = graph.ConstantOf(v);
      if (t == nullptr || t->dtype() != DType::kFloat32 || t->elements() < 16) continue;
      const auto d = t->data<float>();
      const auto bad = std::find_if(d.begin(), d.end(), [](float x) { return !std::isfinite(x); });
      if (bad != d.end()) {
        Fail(ErrorCode::kBadData, "weight '", graph.value(v).name, "' of node '",
             graph.node(id).name, "' holds ", *bad, " at element ", bad - d.begin(),
             "; expected finite numbers");
      }
    }
  }
}

// Largest |Δ| of the outputs over their range, on up to two samples.
double OutputDifference(const Graph& before, const Graph& after, const Dataset& data) {
  const Executor a(before);
  const Executor b(after);
  double difference = 0;
  for (int64_t i = 0; i < std::min<int64_t>(2, data.size()); ++i) {
    const Sample sample = data.Load(i);
    const std::vector<TensorView> inputs = sample.views();
    const auto x = a.Run(inputs);
    const auto y = b.Run(inputs);
    for (size_t o = 0; o < x.size(); ++o) {
      if (x[o].dtype() != DType::kFloat32) continue;
      const auto p = x[o].data<float>();
      const auto q = y[o].data<float>();
      if (p.empty()) continue;
      const auto [lo, hi] = std::minmax_element(p.begin(), p.end());
      double largest = 0;
      for (size_t e = 0; e < p.size(); ++e)
        largest = std::max(largest, static_cast<double>(std::fabs(p[e] - q[e])));
      const double range = static_cast<double>(*hi) - static_cast<double>(*lo);
      difference = std::max(difference, range > 0 ? largest / range : largest);
    }
  }
  return difference;
}

// Per operator: of what its result consists once rescaled by folding: function preserved to float
// rounding.
constexpr double kSameFunction = 1e-3;

class Road {
 public:
  Road(Graph& graph, const Dataset* data, const Recipe& recipe, const RoadOptions& options)
      : graph_(graph), data_(data), recipe_(recipe), options_(options) {}

  QuantizeResult Run() {
    const auto start = std::chrono::steady_clock::now();
    const ThreadScope scope(options_.threads);
    recipe_.Check();
    const Graph original = graph_;
    const std::vector<FoldedNode> folded = Prepare(graph_, recipe_.fold_batchnorm);
    for (const FoldedNode& f : folded) {
      if (f.op == "BatchNormalization") result_.folded_batchnorm.push_back(f.node);
    }
    result_.warnings = CheckRulesMatch(original, graph_, folded, recipe_);
    Stage("fold");
    const bool clips = ParseTarget(recipe_.target) == Target::kOctet;
    const bool equalize =
        recipe_.equalize == Switch::kOn ||
        (recipe_.equalize == Switch::kAuto && recipe_.weight_granularity == "tensor");
    if (equalize) {
      result_.equalized_groups = Equalize(graph_, clips);
      if (recipe_.equalize == Switch::kOn && result_.equalized_groups == 0) {
        Fail(ErrorCode::kInvalidArgument,
             "equalization was asked for, but no channels can be rescaled");
      }
    }
    Stage("equalize");
    Calibrate();
    if (SmoothIfAsked()) CalibrateAgain();
    Stage("smooth");
    CheckStillTheSame(original);
    Insert();
    result_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(result_);
  }

 private:
  void Stage(const std::string& name) {
    graph_.Verify("after " + name);
    InferShapes(graph_, true);
    if (options_.on_stage) options_.on_stage(name, graph_);
  }

  // Layer by layer what its multiplier and its formats are, by all rules, before anything runs.
  void CheckMultipliers() {
    const Target target = ParseTarget(recipe_.target);
    for (const auto& w : plan_.weighted) {
      const Node& node = graph_.node(w.node);
      const LayerMultiplier layer{
          MultiplierOf(recipe_, node.name), ActivationFormats(recipe_, node.name),
          WeightFormats(recipe_, node.name), Cat(" of layer '", node.name, "'")};
      CheckLayerMultiplier(recipe_.name, target, layer);
      const Multiplier m = Multiplier::Parse(layer.text);
      const int64_t scales = WeightScaleAxis(recipe_, node.name, w.axis) < 0
                                 ? 1
                                 : graph_.ConstantOf(node.inputs[1])->shape()[w.axis];
      CheckTableCount(recipe_.name, layer, scales);
      if (m.kind == MultiplierKind::kTable && !tables_.contains(m.file))
        tables_[m.file] = ReadMultiplierTable(m.file);
    }
  }

  void Calibrate() {
    plan_ = PlanFor(graph_, recipe_);
    if (plan_.weighted.empty() && plan_.activations.empty()) {
      std::string why;
      for (const auto& s : plan_.skipped) why += "\n  " + s.op + " '" + s.node + "': " + s.reason;
      Fail(ErrorCode::kUnsupported, "nothing can be quantized in this model:",
           why.empty() ? " it has no Conv, Gemm or MatMul" : why);
    }
    CheckMultipliers();
    if (options_.statistics != nullptr) {
      if (result_.equalized_groups > 0) {
        Fail(ErrorCode::kInvalidArgument,
             "statistics were given, but equalization rescales what they describe; set 'equalize: "
             "off' or give the data");
      }
      statistics_ = *options_.statistics;
      result_.samples = static_cast<int64_t>(statistics_.samples().size());
      return;
    }
    if (data_ == nullptr)
      Fail(ErrorCode::kInvalidArgument, "quantize: neither data nor statistics were given");
    CalibrationResult collected = Collect("calibrate");
    statistics_ = std::move(collected.statistics);
    result_.warnings.insert(result_.warnings.end(), collected.warnings.begin(),
                            collected.warnings.end());
    result_.samples = data_->size();
  }

  CalibrationResult Collect(const std::string& stage) const {
    const CalibrationOptions calibration{.threads = options_.threads,
                                         .allow_noise = options_.allow_noise,
                                         .progress = options_.progress,
                                         .stage = stage};
    const auto watched = WatchedValues(graph_, plan_, recipe_);
    return options_.collect ? options_.collect(graph_, watched, *data_, calibration)
                            : CollectStatistics(graph_, watched, *data_, calibration);
  }

  // After smoothing the statistics describe channels that are no more.
  void CalibrateAgain() {
    plan_ = PlanFor(graph_, recipe_);
    statistics_ = Collect("calibrate again").statistics;
  }

  // True where the graph was changed.
  bool SmoothIfAsked() {
    if (recipe_.smooth == Switch::kOff) return false;
    if (data_ == nullptr) {
      if (recipe_.smooth == Switch::kOn) {
        Fail(ErrorCode::kInvalidArgument,
             "smoothing needs the calibration data, not statistics alone");
      }
      result_.warnings.push_back(
          "not smoothed: that needs the calibration data, not statistics alone");
      return false;
    }
    auto smoothed =
        Smooth(graph_, statistics_, recipe_, *data_, options_.threads, options_.progress);
    result_.smoothing = std::move(smoothed.rows);
    result_.not_smoothed = std::move(smoothed.skipped);
    if (smoothed.changed) InferShapes(graph_, true);
    return smoothed.changed;
  }

  void CheckStillTheSame(const Graph& original) {
    if (data_ == nullptr) return;
    result_.float_difference = OutputDifference(original, graph_, *data_);
    if (result_.float_difference > kSameFunction) {
      Fail(ErrorCode::kInternal,
           "folding and rescaling changed the float model: its outputs differ by ",
           result_.float_difference, " of their range; expected at most ", kSameFunction);
    }
  }

  // Whether a value or a weight is to get the best of several formats.
  bool SearchesFormats() const {
    const auto searches = [](const std::string& text) {
      return !text.empty() && ParseFormats(text).choice == FormatRequest::Choice::kSearch;
    };
    return searches(recipe_.activation_format) || searches(recipe_.weight_format) ||
           std::any_of(recipe_.layers.begin(), recipe_.layers.end(), [&](const LayerRule& r) {
             return searches(r.activation_format.value_or("")) ||
                    searches(r.weight_format.value_or(""));
           });
  }

  // By the error of outputs; what is left out goes by that of the tensor.
  void SearchByOutput(const ActivationRanges& ranges) {
    if (recipe_.search_by != "output" || !SearchesFormats()) return;
    if (data_ == nullptr) {
      result_.warnings.push_back(
          "formats searched by the error of tensors: that of outputs needs the data, not "
          "statistics alone");
      return;
    }
    formats_ =
        SearchFormats(graph_, plan_, ranges, recipe_, *data_, options_.threads, options_.progress);
  }

  void ChooseActivations(const ActivationRanges& ranges) {
    result_.activations.resize(plan_.activations.size());
    for (const auto& [grid, members] : ranges.grids()) {
      const auto found = formats_.activations.find(grid);
      const GridChoice choice = found != formats_.activations.end()
                                    ? ranges.Choose(grid, found->second)
                                    : ranges.Best(grid, ranges.RequestOf(grid).formats);
      for (size_t m = 0; m < members.size(); ++m) {
        const ValueId value = plan_.activations[members[m]].value;
        auto& row = result_.activations[members[m]];
        row.value = graph_.value(value).name;
        row.format = choice.format.Name();
        row.method = MethodName(choice.ranges[m].method);
        row.clipped_fraction = choice.ranges[m].clipped_fraction;
        row.lo = choice.lo;
        row.hi = choice.hi;
        row.scale = choice.grid.scale;
        row.zero_point = choice.grid.zero_point;
        params_.activations[value] = choice.grid;
        params_.activation_formats[value] = choice.format;
        if (choice.limit > 0) params_.activation_limits[value] = choice.limit;
      }
    }
  }

  static std::string MethodName(RangeMethod method) {
    RangeEstimator e;
    e.method = method;
    return e.Name();
  }

  // The bias of a layer of 8-bit integers lies on an int32 grid.
  bool HasIntegerBias(const Node& node, const NumberFormat& weight_format) const {
    if (!params_.activations.contains(node.inputs[0])) return false;
    const NumberFormat& input = params_.ActivationFormat(node.inputs[0]);
    return graph_.ConstantOf(node.input(2)) != nullptr && !weight_format.is_float() &&
           weight_format.bits() == 8 && !input.is_float() && input.bits() == 8;
  }

  void ChooseWeights() {
    params_.bias =
        ParseTarget(recipe_.target) == Target::kTensorRt ? BiasForm::kGridFloat : BiasForm::kInt32;
    for (const auto& w : plan_.weighted) {
      const Node& node = graph_.node(w.node);
      FormatRequest request = WeightFormats(recipe_, node.name);
      if (const auto found = formats_.weights.find(w.node); found != formats_.weights.end())
        request = {{found->second}, FormatRequest::Choice::kGiven};
      WeightScaleChoice weight =
          ChooseWeight(recipe_, node.name, *graph_.ConstantOf(node.inputs[1]), w.axis,
                       graph_.value(node.inputs[1]).name, request);
      std::vector<float>& scale = weight.params.scale;
      QuantizeResult::Layer row;
      row.node = node.name;
      row.op = node.op;
      row.format = weight.params.format.Name();
      row.dead_channels = static_cast<int64_t>(weight.dead.size());
      if (HasIntegerBias(node, weight.params.format)) {
        row.raised_scales = static_cast<int64_t>(
            RaiseScalesForBias(scale, params_.activations.at(node.inputs[0]).scale,
                               graph_.ConstantOf(node.input(2))->data<float>(), node.name)
                .size());
      }
      const auto [lo, hi] = std::minmax_element(scale.begin(), scale.end());
      row.weight_scale_min = *lo;
      row.weight_scale_max = *hi;
      params_.weight_formats[w.node] = weight.params.format;
      if (!weight.params.limit.empty())
        params_.weight_limits[w.node] = std::move(weight.params.limit);
      params_.weight_scales[w.node] = std::move(scale);
      result_.layers.push_back(std::move(row));
    }
  }

  // The results of approximate multipliers are in the format of their operands, on the range of
  // the exact ones or what is found better.
  void Approximate(const Graph& reference) {
    std::map<std::string, ApproximateLayer> layers;
    bool rounds = false;
    for (auto& row : result_.layers) {
      row.multiplier = MultiplierOf(recipe_, row.node);
      const Multiplier multiplier = Multiplier::Parse(row.multiplier);
      if (multiplier.kind == MultiplierKind::kExact) continue;
      ApproximateLayer layer;
      layer.multiplier = row.multiplier;
      if (multiplier.kind == MultiplierKind::kTable) {
        layer.table = tables_.at(multiplier.file);
      } else {
        const Node& node = reference.node(reference.FindNode(row.node));
        const std::string& output = reference.value(node.outputs[0]).name;
        layer.result_format = ActivationFormats(recipe_, row.node).formats[0];
        const FloatFormat& format = layer.result_format.floating();
        const float absmax =
            EstimateRange(output, statistics_.At(output), RangeEstimator::Parse("minmax"),
                          layer.result_format, true)
                .hi;
        layer.result_scale = FloatScaleFor(format, absmax, output);
        if (format.bias_rule == BiasRule::kIntegerRound) layer.result_limit = absmax;
        rounds = true;
      }
      layers[row.node] = std::move(layer);
    }
    if (layers.empty()) return;
    if (rounds && recipe_.result_range == "search") {
      if (data_ != nullptr) {
        Graph approximate = graph_;
        ApproximateLayers(approximate, layers);
        SearchResultRanges(reference, approximate, *data_, options_.threads, options_.progress,
                           layers);
      } else {
        result_.warnings.push_back(
            "results of approximate multipliers on the range of exact ones: better ones are found "
            "with the data, not statistics alone");
      }
    }
    for (auto& row : result_.layers) {
      if (const auto it = layers.find(row.node); it != layers.end() && it->second.table.empty())
        row.result_scale = it->second.result_scale;
    }
    ApproximateLayers(graph_, layers);
  }

  void Reestimate() {
    if (data_ == nullptr) {
      Fail(ErrorCode::kInvalidArgument,
           "reestimate_batchnorm needs the calibration data, not statistics alone");
    }
    InferShapes(graph_, true);
    if (ReestimateBatchNorm(graph_, *data_, options_.threads, options_.progress) == 0) {
      Fail(ErrorCode::kInvalidArgument,
           "reestimate_batchnorm was asked for, but the model has no BatchNormalization");
    }
  }

  void Insert() {
    const ActivationRanges ranges(graph_, plan_, recipe_, statistics_, data_, options_.threads);
    SearchByOutput(ranges);
    ChooseActivations(ranges);
    ChooseWeights();
    std::map<std::string, double> corrections;
    const Graph reference = graph_;
    if (recipe_.bias_correction != "none") {
      corrections = CorrectBiasAnalytically(graph_, plan_, params_, statistics_);
    }
    result_.computed_products = static_cast<int64_t>(plan_.products.size());
    for (const auto& s : plan_.skipped) result_.kept_float.push_back({s.node, s.op, s.reason});
    InsertQuantizers(graph_, plan_, params_);
    if (ParseTarget(recipe_.target) == Target::kOnnxRuntime) GuardFloat8Quantizers(graph_);
    Approximate(reference);
    if (recipe_.bias_correction == "empirical" && data_ == nullptr) {
      result_.warnings.push_back(
          "biases corrected analytically: the empirical way needs the data, not statistics alone");
    } else if (recipe_.bias_correction == "empirical") {
      InferShapes(graph_, true);
      corrections =
          CorrectBiasEmpirically(graph_, reference, *data_, options_.threads, options_.progress);
    }
    if (recipe_.reestimate_batchnorm) Reestimate();
    for (auto& row : result_.layers) {
      if (const auto it = corrections.find(row.node); it != corrections.end())
        row.bias_shift = it->second;
    }
    Stage("quantize");
  }

  Graph& graph_;
  const Dataset* data_;
  const Recipe& recipe_;
  const RoadOptions& options_;
  QuantizerPlan plan_;
  QuantizerParams params_;
  Statistics statistics_;
  FormatSearchResult formats_;
  std::map<std::string, std::vector<int64_t>> tables_;  // of multipliers, by file
  QuantizeResult result_;
};

}  // namespace

EvaluateFn Evaluator() {
  return [](const Graph& graph, const Node& node, std::span<const Tensor* const> inputs) {
    return EvaluateNode(graph, node, inputs);
  };
}

std::vector<FoldedNode> Prepare(Graph& graph, bool fold_batchnorm) {
  std::string unsupported;
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    if (!CanRun(graph, n)) {
      unsupported += Cat("\n  node '", n.name, "': ", n.domain.empty() ? "" : n.domain + ".", n.op);
    }
  }
  if (!unsupported.empty()) {
    Fail(ErrorCode::kUnsupported, "the model uses operators that Octet does not run (operator set ",
         graph.opset(), "):", unsupported);
  }
  CheckWeightsFinite(graph);
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& n = graph.node(id);
    if (n.Is("QuantizeLinear") || n.Is("QLinearConv") || n.domain == "octet") {
      Fail(ErrorCode::kInvalidArgument, "the model is quantized already: node '", n.name, "' is ",
           n.op, "; expected a float model");
    }
  }
  std::vector<FoldedNode> folded =
      SimplifyForQuantizers(graph, Evaluator(), {.fold_batchnorm = fold_batchnorm});
  InferShapes(graph, true);
  graph.Verify("after fold");
  return folded;
}

QuantizeResult QuantizeGraph(Graph& graph, const Dataset* data, const Recipe& recipe,
                             const RoadOptions& options) {
  return Road(graph, data, recipe, options).Run();
}

CalibrationResult CalibrateGraph(const Graph& graph, const Dataset& data, const Recipe& recipe,
                                 const CalibrationOptions& options) {
  const QuantizerPlan plan = PlanFor(graph, recipe);
  return CollectStatistics(graph, WatchedValues(graph, plan, recipe), data, options);
}

}  // namespace octet
