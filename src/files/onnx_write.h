// Graphs into ONNX files: the same bytes for the same graph, the lowest IR version that its
// operator set needs, whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet {

struct OnnxWriteOptions {
  // Where all constants together have more bytes than this, those of 1 KiB and above go into
  // NAME.data beside the model, each at a multiple of 4 KiB. A model file itself cannot exceed 2
  // GiB.
  int64_t external_data_threshold = int64_t{1} << 30;
  // Entries of the model's metadata_props; they replace what it had under the same keys.
  std::map<std::string, std::string> metadata;
};

// Writes a model and gives the files it consists of: the model, then, where there is any, its
// external data. What the reader kept in Graph::model_residue is written again; the producer is
// "octet". Nodes are in topological order, constants that nothing uses are left out. Throws kIo
// where it cannot be written (nothing is then left behind), kUnsupported where ONNX cannot hold it.
std::vector<std::filesystem::path> WriteOnnx(const Graph& graph, const std::filesystem::path& path,
                                             const OnnxWriteOptions& options = {});

// The bytes of the model with all constants inside.
[[nodiscard]] std::string SerializeOnnx(const Graph& graph, const OnnxWriteOptions& options = {});

}  // namespace octet
