// Shared by the files of this folder: public options to what the layers below take.
#pragma once

#include "files/dataset.h"
#include "graph/graph.h"
#include "octet/octet.h"

namespace octet {

[[nodiscard]] Preprocess PreprocessOf(const DataOptions& options);
[[nodiscard]] Dataset OpenData(const Graph& graph, const DataOptions& options);
// Share of the multiply-adds that lowering turns into INT8 operators, or why it cannot be counted.
struct Int8Share {
  std::optional<double> fraction;
  std::string uncounted;
};
[[nodiscard]] Int8Share Int8ShareOfMacs(const Graph& quantized, const InputShapes& shapes);
// Shapes of the first sample, where the model leaves sizes open: what it was calibrated for.
[[nodiscard]] InputShapes ShapesOf(const Graph& graph, const Dataset& data);

}  // namespace octet
