// Number formats of a recipe: one, several to choose from, or none; and how a weight gets its
// scales.
#pragma once

#include <string>
#include <vector>

#include "calibrate/range.h"
#include "numerics/qparams.h"
#include "octet/recipe.h"
#include "tensor/tensor.h"

namespace octet {

// What a recipe asks of a value or a weight.
struct FormatRequest {
  enum class Choice : uint8_t {
    kGiven,   // "e4m3"
    kSearch,  // "search:int8,e5m2,e4m3": the best of them, by the recipe's search_by
    // "vote:e4m3": every split of its bits into exponent and mantissa; "vote:A,B,...": these. Of
    // each channel the one of least squared error; the most channels win (spec/fp8.md 3).
    kVote,
  };
  std::vector<NumberFormat> formats;  // none: "float32", not quantized
  Choice choice = Choice::kGiven;

  [[nodiscard]] bool stays_float() const { return formats.empty(); }
  friend bool operator==(const FormatRequest&, const FormatRequest&) = default;
};

// Throws kInvalidArgument.
[[nodiscard]] FormatRequest ParseFormats(const std::string& text);

// What a recipe asks of the input and the weight of a node; rules of the node first.
[[nodiscard]] FormatRequest ActivationFormats(const Recipe& recipe, const std::string& node);
// Whether neither the recipe nor a rule of the node names a format for its input.
[[nodiscard]] bool IsAutomatic(const Recipe& recipe, const std::string& node);
[[nodiscard]] FormatRequest WeightFormats(const Recipe& recipe, const std::string& node);
[[nodiscard]] RangeEstimator WeightEstimatorOf(const Recipe& recipe, const std::string& node);
// "exact", or the text of another multiplier.
[[nodiscard]] std::string MultiplierOf(const Recipe& recipe, const std::string& node);
// The axis that a node's weight has scales along: `axis`, or -1 for one scale.
[[nodiscard]] int WeightScaleAxis(const Recipe& recipe, const std::string& node, int axis);

// Format and scales of a weight by the recipe's weight_estimator; of several formats that the
// request leaves open the one of least squared error, or of most votes. The request has a format.
[[nodiscard]] WeightScaleChoice ChooseWeight(const Recipe& recipe, const std::string& node,
                                             const Tensor& weight, int axis,
                                             const std::string& subject,
                                             const FormatRequest& request);

}  // namespace octet
