// Number formats of a recipe: one, or several to choose from; and how a weight gets its scales.
#pragma once

#include <string>
#include <vector>

#include "numerics/qparams.h"
#include "octet/recipe.h"
#include "tensor/tensor.h"

namespace octet {

// "e4m3": one. "search:int8,e5m2,e4m3": all of them, at least two. Throws kInvalidArgument.
[[nodiscard]] std::vector<NumberFormat> ParseFormats(const std::string& text);

// What a recipe asks of the input and the weight of a node; rules of the node first.
[[nodiscard]] std::vector<NumberFormat> ActivationFormats(const Recipe& recipe,
                                                          const std::string& node);
[[nodiscard]] std::vector<NumberFormat> WeightFormats(const Recipe& recipe,
                                                      const std::string& node);
// "exact", or the text of another multiplier.
[[nodiscard]] std::string MultiplierOf(const Recipe& recipe, const std::string& node);
// The axis that a node's weight has scales along: `axis`, or -1 for one scale.
[[nodiscard]] int WeightScaleAxis(const Recipe& recipe, const std::string& node, int axis);

// Format and scales of a weight. The recipe's weight_estimator: minmax (the largest magnitudes), or
// mse (of 111 ranges from 0.1 to 1.2 of them, the one of least squared error; spec/fp8.md 3). Of
// several formats the one of least squared error.
[[nodiscard]] WeightScaleChoice ChooseWeight(const Recipe& recipe, const std::string& node,
                                             const Tensor& weight, int axis,
                                             const std::string& subject);

}  // namespace octet
