#include "quantize/layer_formats.h"

#include <algorithm>

#include "base/error.h"
#include "calibrate/range_search.h"
#include "passes/place_quantizers.h"
#include "quantize/layer_rules.h"

namespace octet {
namespace {

constexpr const char* kFloat = "float32";
constexpr const char* kSearch = "search:";
constexpr const char* kVote = "vote:";

// The formats of a list, which names none twice.
std::vector<NumberFormat> ParseList(const std::string& text, size_t begin) {
  std::vector<NumberFormat> formats;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const NumberFormat format = NumberFormat::Parse(text.substr(begin, end - begin));
    if (std::find(formats.begin(), formats.end(), format) != formats.end())
      Fail(ErrorCode::kInvalidArgument, "'", text, "' names ", format.Name(), " twice");
    formats.push_back(format);
    begin = end + 1;
  }
  return formats;
}

}  // namespace

FormatRequest ParseFormats(const std::string& text) {
  using Choice = FormatRequest::Choice;
  if (text == kFloat) return {};
  if (text.starts_with(kVote)) {
    std::vector<NumberFormat> formats = ParseList(text, std::string(kVote).size());
    if (formats.size() > 1) return {formats, Choice::kVote};
    if (!formats[0].is_float()) {
      Fail(ErrorCode::kInvalidArgument, "'", text, "': ", formats[0].Name(),
           " has no mantissa to vote for; expected a float format, such as vote:e4m3, or several");
    }
    std::vector<NumberFormat> splits;
    for (const FloatFormat& f : SplitsOf(formats[0].floating())) splits.emplace_back(f);
    return {splits, Choice::kVote};
  }
  if (!text.starts_with(kSearch)) return {{NumberFormat::Parse(text)}, Choice::kGiven};
  std::vector<NumberFormat> formats = ParseList(text, std::string(kSearch).size());
  if (formats.size() < 2) {
    Fail(ErrorCode::kInvalidArgument, "'", text,
         "' has one format; expected several, such as search:int8,e4m3,e3m4");
  }
  return {formats, Choice::kSearch};
}

FormatRequest ActivationFormats(const Recipe& recipe, const std::string& node) {
  if (const std::string* rule = RuleFor(recipe, node, &LayerRule::activation_format))
    return ParseFormats(*rule);
  if (!recipe.activation_format.empty()) return ParseFormats(recipe.activation_format);
  return {{ParseTarget(recipe.target) == Target::kTensorRt ? kInt8 : kUint8},
          FormatRequest::Choice::kGiven};
}

bool IsAutomatic(const Recipe& recipe, const std::string& node) {
  return recipe.activation_format.empty() &&
         RuleFor(recipe, node, &LayerRule::activation_format) == nullptr;
}

FormatRequest WeightFormats(const Recipe& recipe, const std::string& node) {
  const std::string* rule = RuleFor(recipe, node, &LayerRule::weight_format);
  return ParseFormats(rule != nullptr ? *rule : recipe.weight_format);
}

RangeEstimator WeightEstimatorOf(const Recipe& recipe, const std::string& node) {
  const std::string* rule = RuleFor(recipe, node, &LayerRule::weight_estimator);
  return RangeEstimator::Parse(rule != nullptr ? *rule : recipe.weight_estimator);
}

std::string MultiplierOf(const Recipe& recipe, const std::string& node) {
  const std::string* rule = RuleFor(recipe, node, &LayerRule::multiplier);
  return rule != nullptr ? *rule : recipe.multiplier;
}

int WeightScaleAxis(const Recipe& recipe, const std::string& node, int axis) {
  const std::string* rule = RuleFor(recipe, node, &LayerRule::weight_granularity);
  return (rule != nullptr ? *rule : recipe.weight_granularity) == "channel" ? axis : -1;
}

WeightScaleChoice ChooseWeight(const Recipe& recipe, const std::string& node, const Tensor& weight,
                               int axis, const std::string& subject, const FormatRequest& request) {
  const int scale_axis = WeightScaleAxis(recipe, node, axis);
  const Extents extents = ExtentsOf(weight.shape().dims(), scale_axis);
  const auto choose =
      request.choice == FormatRequest::Choice::kVote ? VotedWeightFormat : BestWeightFormat;
  return choose(weight.data<float>(), extents, scale_axis, request.formats, subject,
                WeightEstimatorOf(recipe, node))
      .choice;
}

}  // namespace octet
