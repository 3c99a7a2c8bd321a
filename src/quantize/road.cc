#include "quantize/road.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "base/error.h"
#include "calibrate/range.h"
#include "files/multiplier_table.h"
#include "graph/ops.h"
#include "numerics/approx_multiplier.h"
#include "passes/approximate.h"
#include "passes/guard_float8.h"
#include "passes/place_quantizers.h"
#include "quantize/batchnorm.h"
#include "quantize/bias_correction.h"
#include "quantize/calibration.h"
#include "quantize/layer_formats.h"
#include "quantize/layer_rules.h"
#include "quantize/rescale.h"
#include "runtime/executor.h"

namespace octet {
namespace {

PlacementOptions Placement(const Graph& graph, const Recipe& recipe) {
  PlacementOptions options;
  options.target = ParseTarget(recipe.target);
  options.quantize_outputs = recipe.quantize_outputs;
  if (options.target == Target::kOnnxRuntime) {
    std::vector<NumberFormat> formats = ActivationFormats(recipe, "");
    for (const LayerRule& rule : recipe.layers) {
      if (!rule.activation_format) continue;
      for (const NumberFormat& f : ParseFormats(*rule.activation_format)) formats.push_back(f);
    }
    options.compute_only = std::any_of(formats.begin(), formats.end(),
                                       [](const NumberFormat& f) { return f.is_float(); });
  }
  for (NodeId id : graph.TopologicalOrder()) {
    const std::string& name = graph.node(id).name;
    const bool* skip = RuleFor(recipe, name, &LayerRule::skip);
    if (skip != nullptr && *skip) options.excluded.insert(name);
  }
  return options;
}

void CheckRulesMatch(const Graph& graph, const Recipe& recipe) {
  for (const LayerRule& rule : recipe.layers) {
    bool matched = false;
    for (NodeId id : graph.TopologicalOrder()) {
      matched = matched || fnmatch(rule.match.c_str(), graph.node(id).name.c_str(), 0) == 0;
    }
    if (!matched) {
      Fail(ErrorCode::kInvalidArgument, "recipe '", recipe.name, "': the rule '", rule.match,
           "' matches no node of the model");
    }
  }
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
    std::vector<TensorView> inputs;
    for (const Tensor& t : sample.inputs) inputs.push_back(t.view());
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
    recipe_.Check();
    const Graph original = graph_;
    result_.folded_batchnorm = Prepare(graph_, recipe_.fold_batchnorm);
    Stage("fold");
    CheckRulesMatch(graph_, recipe_);
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

  void Calibrate() {
    plan_ = PlanQuantizers(graph_, Placement(graph_, recipe_));
    if (plan_.weighted.empty()) {
      std::string why;
      for (const auto& s : plan_.skipped) why += "\n  " + s.op + " '" + s.node + "': " + s.reason;
      Fail(ErrorCode::kUnsupported, "nothing can be quantized in this model:",
           why.empty() ? " it has no Conv, Gemm or MatMul" : why);
    }
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
    result_.warnings = std::move(collected.warnings);
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
    plan_ = PlanQuantizers(graph_, Placement(graph_, recipe_));
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

  RangeEstimator EstimatorFor(ValueId v) const {
    for (const Graph::Use& use : graph_.UsesOf(v)) {
      if (const std::string* e =
              RuleFor(recipe_, graph_.node(use.node).name, &LayerRule::estimator)) {
        return RangeEstimator::Parse(*e);
      }
    }
    return RangeEstimator::Parse(recipe_.estimator);
  }

  // Formats that the readers of a value ask for: all must ask for the same.
  std::vector<NumberFormat> FormatsFor(const std::vector<size_t>& grid) const {
    std::optional<std::vector<NumberFormat>> asked;
    std::string first;
    for (size_t i : grid) {
      for (const Graph::Use& use : graph_.UsesOf(plan_.activations[i].value)) {
        const std::string& node = graph_.node(use.node).name;
        std::vector<NumberFormat> formats = ActivationFormats(recipe_, node);
        if (asked && *asked != formats) {
          Fail(ErrorCode::kInvalidArgument, "recipe '", recipe_.name, "': '", node, "' and '",
               first, "' read '", graph_.value(plan_.activations[i].value).name,
               "' or what shares its grid, but ask for different activation formats");
        }
        if (!asked) first = node;
        asked = std::move(formats);
      }
    }
    return asked ? *asked : ActivationFormats(recipe_, "");
  }

  // Of several formats the one of least expected error, summed over the values of the grid.
  NumberFormat BestFormatFor(const std::vector<size_t>& grid) const {
    const std::vector<NumberFormat> formats = FormatsFor(grid);
    if (formats.size() == 1) return formats[0];
    NumberFormat best;
    double least = std::numeric_limits<double>::infinity();
    for (const NumberFormat& format : formats) {
      double error = 0;
      for (size_t i : grid) {
        const ValueId v = plan_.activations[i].value;
        const std::string& name = graph_.value(v).name;
        error +=
            EstimateRange(name, statistics_.At(name), EstimatorFor(v), format, format.is_signed())
                .mse;
      }
      if (error < least) {
        least = error;
        best = format;
      }
    }
    return best;
  }

  // Values that share a grid get one format and the union of their ranges.
  void ChooseActivations() {
    std::map<int, std::vector<size_t>> grids;
    for (size_t i = 0; i < plan_.activations.size(); ++i)
      grids[plan_.activations[i].grid].push_back(i);
    result_.activations.resize(plan_.activations.size());
    for (const auto& [unused, members] : grids) {
      const NumberFormat format = BestFormatFor(members);
      const bool symmetric = format.is_float() || format.is_signed();
      float lo = 0, hi = 0;
      for (size_t i : members) {
        const ValueId v = plan_.activations[i].value;
        const std::string& name = graph_.value(v).name;
        const ValueStatistics& statistics = statistics_.At(name);
        const RangeChoice choice =
            EstimateRange(name, statistics, EstimatorFor(v), format, symmetric);
        if (format.is_float() && !format.is_signed() && statistics.min() < 0) {
          Fail(ErrorCode::kInvalidArgument, "recipe '", recipe_.name, "': '", name,
               "' goes down to ", statistics.min(), ", which the unsigned format ", format.Name(),
               " cannot hold");
        }
        lo = std::min(lo, choice.lo);
        hi = std::max(hi, choice.hi);
        auto& row = result_.activations[i];
        row.value = name;
        row.format = format.Name();
        row.method = MethodName(choice.method);
        row.clipped_fraction = choice.clipped_fraction;
      }
      for (size_t i : members) {
        auto& row = result_.activations[i];
        const ValueId value = plan_.activations[i].value;
        const float absmax = std::max(-lo, hi);
        const ScaleZero grid = symmetric ? ScaleZero{ChooseScale(absmax, format, {}, row.value), 0}
                                         : ChooseAsymmetric(lo, hi, format.integer(), row.value);
        params_.activations[value] = grid;
        params_.activation_formats[value] = format;
        if (format.is_float() && format.floating().bias_rule == BiasRule::kIntegerRound) {
          params_.activation_limits[value] = FloatLimitFor(format.floating(), absmax, grid.scale);
        }
        row.lo = lo;
        row.hi = hi;
        row.scale = grid.scale;
        row.zero_point = grid.zero_point;
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
    const NumberFormat& input = params_.ActivationFormat(node.inputs[0]);
    return graph_.ConstantOf(node.input(2)) != nullptr && !weight_format.is_float() &&
           weight_format.bits() == 8 && !input.is_float() && input.bits() == 8;
  }

  void ChooseWeights() {
    params_.bias =
        ParseTarget(recipe_.target) == Target::kTensorRt ? BiasForm::kGridFloat : BiasForm::kInt32;
    for (const auto& w : plan_.weighted) {
      const Node& node = graph_.node(w.node);
      WeightScaleChoice weight =
          ChooseWeight(recipe_, node.name, *graph_.ConstantOf(node.inputs[1]), w.axis,
                       graph_.value(node.inputs[1]).name);
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

  // The results of approximate multipliers are in the format of their operands, on the range of the
  // exact ones.
  void Approximate(const Graph& reference) {
    std::map<std::string, ApproximateLayer> layers;
    for (auto& row : result_.layers) {
      row.multiplier = MultiplierOf(recipe_, row.node);
      const Multiplier multiplier = Multiplier::Parse(row.multiplier);
      if (multiplier.kind == MultiplierKind::kExact) continue;
      ApproximateLayer layer;
      layer.multiplier = row.multiplier;
      if (multiplier.kind == MultiplierKind::kTable) {
        layer.table = ReadMultiplierTable(multiplier.file);
      } else {
        const Node& node = reference.node(reference.FindNode(row.node));
        const std::string& output = reference.value(node.outputs[0]).name;
        layer.result_format = ActivationFormats(recipe_, row.node)[0];
        const FloatFormat& format = layer.result_format.floating();
        const float absmax =
            EstimateRange(output, statistics_.At(output), RangeEstimator::Parse("minmax"),
                          layer.result_format, true)
                .hi;
        layer.result_scale = FloatScaleFor(format, absmax, output);
        if (format.bias_rule == BiasRule::kIntegerRound) layer.result_limit = absmax;
      }
      layers[row.node] = std::move(layer);
    }
    if (!layers.empty()) ApproximateLayers(graph_, layers);
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
    ChooseActivations();
    ChooseWeights();
    std::map<std::string, double> corrections;
    const Graph reference = graph_;
    if (recipe_.bias_correction != "none") {
      corrections = CorrectBiasAnalytically(graph_, plan_, params_, statistics_);
    }
    for (const auto& s : plan_.skipped) result_.kept_float.push_back({s.node, s.op, s.reason});
    InsertQuantizers(graph_, plan_, params_);
    if (ParseTarget(recipe_.target) == Target::kOnnxRuntime) GuardFloat8Quantizers(graph_);
    if (recipe_.bias_correction == "empirical" && data_ == nullptr) {
      result_.warnings.push_back(
          "biases corrected analytically: the empirical way needs the data, not statistics alone");
    } else if (recipe_.bias_correction == "empirical") {
      InferShapes(graph_, true);
      corrections =
          CorrectBiasEmpirically(graph_, reference, *data_, options_.threads, options_.progress);
    }
    if (recipe_.reestimate_batchnorm) Reestimate();
    Approximate(reference);
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
  QuantizeResult result_;
};

}  // namespace

EvaluateFn Evaluator() {
  return [](const Graph& graph, const Node& node, std::span<const Tensor* const> inputs) {
    return EvaluateNode(graph, node, inputs);
  };
}

std::vector<std::string> Prepare(Graph& graph, bool fold_batchnorm) {
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
  RemoveIdentities(graph);
  FoldConstants(graph, Evaluator());
  InferShapes(graph, true);
  std::vector<std::string> folded;
  if (fold_batchnorm) folded = FoldBatchNorm(graph);
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
  const QuantizerPlan plan = PlanQuantizers(graph, Placement(graph, recipe));
  return CollectStatistics(graph, WatchedValues(graph, plan, recipe), data, options);
}

}  // namespace octet
