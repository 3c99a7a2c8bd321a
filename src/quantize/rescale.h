// Rescaling channels of the float model before quantization: smoothing (from activations and
// weights, α chosen by real quantization error) and cross-layer equalization (from weights alone).
#pragma once

#include <string>
#include <vector>

#include "calibrate/statistics.h"
#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/recipe.h"
#include "octet/results.h"
#include "passes/channel_groups.h"

namespace octet {

// Values whose per-channel extrema smoothing needs: the inputs of the operators that contract a
// group.
[[nodiscard]] std::vector<ValueId> SmoothingInputs(const Graph& graph, bool allow_clips);

struct SmoothingResult {
  std::vector<SmoothingRow> rows;  // one per group
  std::vector<LayerNote> skipped;  // inputs of weighted operators in no group, and why
  bool changed = false;
};

// Smooths every group for which that lowers the error of its readers' outputs, each with inputs and
// weights quantized as the recipe says, over up to kProbeSamples samples. With a fixed α
// (recipe or layer rule) and `smooth: on` it is applied as asked; with `auto` only where it helps.
// The graph must have shapes. Throws kInvalidArgument for `smooth: on` where there is no group at
// all.
[[nodiscard]] SmoothingResult Smooth(Graph& graph, const Statistics& statistics,
                                     const Recipe& recipe, const Dataset& data, int threads,
                                     const Progress& progress);
// Groups are judged independently; what one round changes for a group's neighbours (a depthwise
// convolution reads one group and makes the next) the following rounds take into account, until
// none helps.
inline constexpr int kSmoothingRounds = 5;

// Equalizes every group whose producers have weights. Returns how many groups.
int64_t Equalize(Graph& graph, bool allow_clips);

}  // namespace octet
