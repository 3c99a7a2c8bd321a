// `octet verify` on layers with approximate multipliers: what the kernels gave against the
// definition, int64 sums over the table one by one (docs/multipliers.md), and against exact
// products of the same codes. And the operands of one layer as files.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "files/dataset.h"
#include "files/multiplier_table.h"
#include "graph/graph.h"
#include "octet/results.h"

namespace octet {

[[nodiscard]] bool HasApproximateLayers(const Graph& graph);

// Results of runs against the definition, layer by layer.
class ProductChecker {
 public:
  // Of all approximate layers of `graph` as it runs.
  explicit ProductChecker(const Graph& graph);
  ~ProductChecker();
  ProductChecker(ProductChecker&&) noexcept;
  ProductChecker& operator=(ProductChecker&&) noexcept;

  // The same with the codes that every layer reads and the results that it makes among its outputs.
  [[nodiscard]] const Graph& graph() const;
  // What a run of graph() gave for a sample.
  void Add(const std::vector<Tensor>& outputs);
  // Over all that were added. Do not depend on threads.
  [[nodiscard]] std::vector<VerifyResult::Products> Results() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// `graph` as it runs, lowered where it has quantizers. All samples run, each layer on the codes
// that the run gave it. Empty where no layer is approximate.
[[nodiscard]] std::vector<VerifyResult::Products> CheckProducts(const Graph& graph,
                                                                const Dataset& data,
                                                                const Progress& progress);

// Of the first sample. Throws kInvalidArgument, naming the layers there are, where none is called
// so.
std::vector<std::filesystem::path> DumpOperands(const Graph& graph, const Dataset& data,
                                                const std::string& layer,
                                                const std::filesystem::path& folder,
                                                OperandFiles files);

}  // namespace octet
