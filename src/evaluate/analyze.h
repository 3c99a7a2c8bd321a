// `octet analyze`: which layers of a quantized model hurt.
//
// For every quantized layer two errors against the float model, at the value its quantizer sees:
//   local        the layer alone: the float model's inputs through the layer's own quantizers, its
//                own weights and bias, its own output quantizer. Says where the loss is made.
//   accumulated  the whole quantized model up to there. Says where it is felt.
// Saturation is the share of values of the quantized run that lie beyond either end of the grid, by
// more than the half step that rounding takes.
//
// Values are matched by name. The float model is prepared as quantization does it (BatchNorm
// folded) and given the channel factors of smoothing and equalization, so that both sides of every
// comparison mean the same.
#pragma once

#include <string>
#include <vector>

#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/results.h"

namespace octet {

struct AnalyzeRequest {
  int threads = 0;  // 0: all cores; results do not depend on it
  Progress progress;
};

struct Analysis {
  AnalyzeResult result;
  std::vector<LayerNote> left_out;    // quantized layers that cannot be compared, and why
  std::vector<std::string> rescaled;  // groups of channels whose factors were found again
};

// `quantized` holds QuantizeLinear/DequantizeLinear pairs (not lowered). Throws kInvalidArgument
// where it has no quantized layer, or none that the float model has too.
[[nodiscard]] Analysis AnalyzeGraphs(const Graph& reference, const Graph& quantized,
                                     const Dataset& data, const AnalyzeRequest& request = {});

}  // namespace octet
