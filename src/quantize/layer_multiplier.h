// Whether a multiplier and the formats of its layer's operands go together: asked of every rule of
// a recipe when it is read, and of every layer, by all rules that match it, before anything runs.
#pragma once

#include <cstdint>
#include <string>

#include "passes/place_quantizers.h"
#include "quantize/layer_formats.h"

namespace octet {

struct LayerMultiplier {
  std::string text;  // numerics/approx_multiplier.h
  FormatRequest x, w;
  std::string where;  // behind the multiplier in messages: " of the rule 'conv_*'", or nothing
};

// Throws kInvalidArgument, naming the recipe, the multiplier, where it stands and both formats, and
// what to write instead.
void CheckLayerMultiplier(const std::string& recipe, Target target, const LayerMultiplier& layer);
// The same of a layer whose weight has `scales` scales: products rounded on scales that are no
// powers of two need a table for each.
void CheckTableCount(const std::string& recipe, const LayerMultiplier& layer, int64_t scales);

}  // namespace octet
