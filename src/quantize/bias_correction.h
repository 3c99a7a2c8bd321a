// Bias correction: quantized weights shift the mean of every output channel; the bias takes the
// shift back.
//
// Analytic (Nagel et al. 2019, §4.2.1, with measured instead of assumed input means):
//   E[y_q] - E[y] = sum over taps of (w_q - w) * E[x_channel], from the statistics of calibration.
// Taps that fall on zero padding are counted as if they read the mean: exact away from the border.
// Empirical: the quantized model is run, operator after operator in execution order, and the mean
// of each output channel is moved to that of the float model: what quantized activations and
// approximate products shift is taken back too.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "calibrate/statistics.h"
#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/results.h"
#include "passes/place_quantizers.h"

namespace octet {

// Of the output of a Conv, Gemm or MatMul of the float graph.
[[nodiscard]] int OutputChannelAxis(const Graph& graph, const Node& node);

// Subtracts the analytic shift from the biases of the float graph before quantizers are inserted;
// operators without a bias get one (MatMul has no place for it and is left). Returns the largest
// |correction| by node.
std::map<std::string, double> CorrectBiasAnalytically(Graph& graph, const QuantizerPlan& plan,
                                                      const QuantizerParams& params,
                                                      const Statistics& statistics);

// Corrects the biases (int32 codes or float) of the quantized graph. `reference` is the float graph
// that it was made from: same node names. Runs up to kBiasSamples samples. Returns the largest
// |correction| by node.
inline constexpr int64_t kBiasSamples = 64;
std::map<std::string, double> CorrectBiasEmpirically(Graph& quantized, const Graph& reference,
                                                     const Dataset& data, int threads,
                                                     const Progress& progress);

}  // namespace octet
