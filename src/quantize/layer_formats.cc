#include "quantize/layer_formats.h"

#include <algorithm>

#include "base/error.h"
#include "calibrate/range_search.h"
#include "passes/place_quantizers.h"
#include "quantize/layer_rules.h"

namespace octet {
namespace {

constexpr const char* kSearch = "search:";

}  // namespace

std::vector<NumberFormat> ParseFormats(const std::string& text) {
  if (!text.starts_with(kSearch)) return {NumberFormat::Parse(text)};
  std::vector<NumberFormat> formats;
  size_t begin = std::string(kSearch).size();
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const NumberFormat format = NumberFormat::Parse(text.substr(begin, end - begin));
    if (std::find(formats.begin(), formats.end(), format) != formats.end())
      Fail(ErrorCode::kInvalidArgument, "'", text, "' names ", format.Name(), " twice");
    formats.push_back(format);
    begin = end + 1;
  }
  if (formats.size() < 2) {
    Fail(ErrorCode::kInvalidArgument, "'", text,
         "' has one format; expected several, such as search:int8,e4m3,e3m4");
  }
  return formats;
}

std::vector<NumberFormat> ActivationFormats(const Recipe& recipe, const std::string& node) {
  if (const std::string* rule = RuleFor(recipe, node, &LayerRule::activation_format))
    return ParseFormats(*rule);
  if (!recipe.activation_format.empty()) return ParseFormats(recipe.activation_format);
  return {ParseTarget(recipe.target) == Target::kTensorRt ? kInt8 : kUint8};
}

std::vector<NumberFormat> WeightFormats(const Recipe& recipe, const std::string& node) {
  const std::string* rule = RuleFor(recipe, node, &LayerRule::weight_format);
  return ParseFormats(rule != nullptr ? *rule : recipe.weight_format);
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
                               int axis, const std::string& subject) {
  const int scale_axis = WeightScaleAxis(recipe, node, axis);
  const Extents extents = ExtentsOf(weight.shape().dims(), scale_axis);
  const std::string* rule = RuleFor(recipe, node, &LayerRule::weight_estimator);
  FloatSearchOptions options;
  if ((rule != nullptr ? *rule : recipe.weight_estimator) == "minmax") {
    options.candidates = 1;
    options.first = options.last = 1;
  }
  return BestWeightFormat(weight.data<float>(), extents, scale_axis, WeightFormats(recipe, node),
                          subject, options)
      .choice;
}

}  // namespace octet
