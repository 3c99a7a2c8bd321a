#include "quantize/activation_ranges.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "calibrate/range_search.h"
#include "quantize/layer_rules.h"
#include "runtime/executor.h"

namespace octet {

ActivationRanges::ActivationRanges(const Graph& graph, const QuantizerPlan& plan,
                                   const Recipe& recipe, const Statistics& statistics,
                                   const Dataset* data, int threads)
    : graph_(graph),
      plan_(plan),
      recipe_(recipe),
      statistics_(statistics),
      data_(data),
      threads_(threads) {
  for (size_t i = 0; i < plan.activations.size(); ++i)
    grids_[plan.activations[i].grid].push_back(i);
}

FormatRequest ActivationRanges::RequestOf(int grid) const {
  std::optional<FormatRequest> asked;
  std::string first;
  for (size_t i : grids_.at(grid)) {
    const QuantizerPlan::Activation& a = plan_.activations[i];
    for (const Graph::Use& use : graph_.UsesOf(a.value)) {
      if (!a.readers.empty() &&
          std::find(a.readers.begin(), a.readers.end(), use.node) == a.readers.end())
        continue;
      const std::string& node = graph_.node(use.node).name;
      FormatRequest request = ActivationFormats(recipe_, node);
      if (asked && *asked != request) {
        Fail(ErrorCode::kInvalidArgument, "recipe '", recipe_.name, "': '", node, "' and '", first,
             "' read '", graph_.value(a.value).name,
             "' or what shares its grid, but ask for different activation formats");
      }
      if (!asked) first = node;
      asked = std::move(request);
    }
  }
  FormatRequest request = asked ? *asked : ActivationFormats(recipe_, "");
  const bool second_operand =
      std::any_of(grids_.at(grid).begin(), grids_.at(grid).end(),
                  [&](size_t i) { return plan_.activations[i].second_operand; });
  if (second_operand && IsAutomatic(recipe_, first)) request.formats = {kInt8};
  // Of several, floats without a sign are for values of which none is negative.
  const bool negative = std::any_of(grids_.at(grid).begin(), grids_.at(grid).end(), [&](size_t i) {
    return statistics_.At(graph_.value(plan_.activations[i].value).name).min() < 0;
  });
  const auto cannot_hold = [](const NumberFormat& f) { return f.is_float() && !f.is_signed(); };
  if (negative && !std::all_of(request.formats.begin(), request.formats.end(), cannot_hold))
    std::erase_if(request.formats, cannot_hold);
  return request;
}

// By the rules of who reads a value; of a graph output, which nobody reads, of who makes it.
// Cross-entropy is of logits: those that a rule's operator reads or makes.
RangeEstimator ActivationRanges::EstimatorOf(ValueId v) const {
  const bool is_logits = IsLogits(v);
  const auto rule_of = [&](NodeId node) {
    const std::string* rule = RuleFor(recipe_, graph_.node(node).name, &LayerRule::estimator);
    return RangeEstimator::Parse(rule != nullptr ? *rule : recipe_.estimator);
  };
  const std::vector<Graph::Use> uses = graph_.UsesOf(v);
  if (const NodeId producer = graph_.value(v).producer; producer != kNoNode) {
    const RangeEstimator made = rule_of(producer);
    if (uses.empty() || (is_logits && made.method == RangeMethod::kCrossEntropy)) return made;
  }
  for (const Graph::Use& use : uses) {
    const Node& n = graph_.node(use.node);
    if (RuleFor(recipe_, n.name, &LayerRule::estimator) == nullptr) continue;
    const RangeEstimator read = rule_of(use.node);
    if (read.method == RangeMethod::kCrossEntropy && !is_logits) {
      if (IsLogits(n.outputs[0])) continue;
      Fail(ErrorCode::kInvalidArgument, "recipe '", recipe_.name, "': cross-entropy for '", n.name,
           "', which neither reads nor makes logits: '", graph_.value(v).name,
           "' does not lead to Softmax or an output alone");
    }
    return read;
  }
  return RangeEstimator::Parse(recipe_.estimator);
}

bool ActivationRanges::IsLogits(ValueId v) const {
  const std::vector<Graph::Use> uses = graph_.UsesOf(v);
  return (graph_.IsOutput(v) || !uses.empty()) &&
         std::all_of(uses.begin(), uses.end(), [&](const Graph::Use& use) {
           const Node& n = graph_.node(use.node);
           if (n.Is("Softmax") || n.Is("LogSoftmax")) return true;
           const bool moves = n.Is("Reshape") || n.Is("Flatten") || n.Is("Squeeze") ||
                              n.Is("Unsqueeze") || n.Is("Identity");
           return moves && use.input == 0 && IsLogits(n.outputs[0]);
         });
}

RangeChoice ActivationRanges::LogitsRange(ValueId v, const NumberFormat& format) const {
  const std::string& name = graph_.value(v).name;
  if (data_ == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "recipe '", recipe_.name, "': cross-entropy of '", name,
         "' needs the calibration data, not statistics alone");
  }
  Graph part = graph_;
  part.outputs = {v};
  part.Compact();
  const Executor executor(part);
  const ThreadScope scope(threads_);
  std::vector<Tensor> samples(static_cast<size_t>(std::min(kLogitsSamples, data_->size())));
  ParallelForEach(static_cast<int64_t>(samples.size()), [&](int64_t i) {
    const Sample sample = data_->Load(i);
    samples[static_cast<size_t>(i)] = std::move(executor.Run(sample.views())[0]);
  });
  // Classes lie along the last axis that has more than one element.
  int64_t classes = 1;
  std::vector<float> logits;
  for (const Tensor& t : samples) {
    for (int axis = t.shape().rank(); axis-- > 0 && classes == 1;) classes = t.shape()[axis];
    logits.insert(logits.end(), t.data<float>().begin(), t.data<float>().end());
  }
  const DataRange range = CrossEntropySearch(logits, classes, format, name);
  return GivenRange(name, statistics_.At(name), range.lo, range.hi, RangeMethod::kCrossEntropy,
                    format, format.is_signed());
}

RangeChoice ActivationRanges::Range(ValueId v, const NumberFormat& format) const {
  const RangeEstimator estimator = EstimatorOf(v);
  const std::string& name = graph_.value(v).name;
  const ValueStatistics& statistics = statistics_.At(name);
  if (format.is_float() && !format.is_signed() && statistics.min() < 0) {
    Fail(ErrorCode::kInvalidArgument, "recipe '", recipe_.name, "': '", name, "' goes down to ",
         statistics.min(), ", which the unsigned format ", format.Name(), " cannot hold");
  }
  if (estimator.method == RangeMethod::kCrossEntropy) return LogitsRange(v, format);
  return EstimateRange(name, statistics, estimator, format, format.is_signed());
}

GridChoice ActivationRanges::Choose(int grid, const NumberFormat& format) const {
  GridChoice choice;
  choice.format = format;
  const std::vector<size_t>& members = grids_.at(grid);
  for (size_t i : members) {
    const RangeChoice range = Range(plan_.activations[i].value, format);
    choice.lo = std::min(choice.lo, range.lo);
    choice.hi = std::max(choice.hi, range.hi);
    choice.error += range.mse;
    choice.ranges.push_back(range);
  }
  const std::string& name = graph_.value(plan_.activations[members[0]].value).name;
  const bool symmetric = format.is_float() || format.is_signed();
  const float absmax = std::max(-choice.lo, choice.hi);
  choice.grid = symmetric ? ScaleZero{ChooseScale(absmax, format, {}, name), 0}
                          : ChooseAsymmetric(choice.lo, choice.hi, format.integer(), name);
  if (format.is_float() && format.floating().bias_rule == BiasRule::kIntegerRound)
    choice.limit = FloatLimitFor(format.floating(), absmax, choice.grid.scale);
  return choice;
}

GridChoice ActivationRanges::Best(int grid, const std::vector<NumberFormat>& formats) const {
  GridChoice best = Choose(grid, formats[0]);
  for (size_t i = 1; i < formats.size(); ++i) {
    GridChoice other = Choose(grid, formats[i]);
    if (other.error < best.error) best = std::move(other);
  }
  return best;
}

}  // namespace octet
