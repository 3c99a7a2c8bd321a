// Runs a graph. A plan is made per concrete set of input shapes (and kept); taps are values the
// caller wants to see, and the plan does not fuse across them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet {

// Called with each tapped value as it is made, in logical (NCHW) layout and the value's own dtype;
// the view is valid during the call only.
using Tap = std::function<void(ValueId, const TensorView&)>;

struct ExecutorOptions {
  std::vector<ValueId> taps;
  bool explain = false;  // keep, per step, which kernel was taken and why others were refused
};

// Which part of a model's time a step belongs to. Layers are what multiplies and adds.
enum class StepPart : uint8_t {
  kEightBitLayer,  // activations or weights of 8 bits
  kFloatLayer,     // every other layer
  kOnCodes,        // no layer: 8 bits in and out
  kConversion,     // no layer: 8 bits in or out, not both
  kOther,          // no layer, no 8 bits
};

// What one step of a plan is, for --explain, bench and memory reports.
struct StepInfo {
  std::string node;    // name of the graph node (the last of a fused group)
  std::string op;      // "Conv+Clip", "octet.QConv", "reorder"
  std::string kernel;  // implementation: "onednn:brgconv:avx512_core", "octet_conv_..."
  std::string shape;   // of the first output
  StepPart part = StepPart::kOther;
  int64_t macs = 0;                  // multiply-adds
  int64_t packed_bytes = 0;          // of weights as the kernel keeps them
  std::vector<std::string> refused;  // "kernel: reason"
};

class Executor {
 public:
  // Keeps its own (cheap) copy of the graph. Throws kUnsupported for operators that cannot run,
  // naming every one of them.
  explicit Executor(const Graph& graph, ExecutorOptions options = {});
  ~Executor();
  Executor(Executor&&) noexcept;
  Executor& operator=(Executor&&) noexcept;

  [[nodiscard]] const Graph& graph() const;

  // Inputs in the order of graph().inputs; outputs in the order of graph().outputs. May be called
  // from several threads at once. Throws kBadData where dtype, rank or a fixed dimension does not
  // fit the input's declared type, naming the input.
  [[nodiscard]] std::vector<Tensor> Run(std::span<const TensorView> inputs,
                                        const Tap& tap = {}) const;

  // The steps for these input shapes; makes the plan.
  [[nodiscard]] std::vector<StepInfo> Explain(std::span<const Shape> input_shapes) const;
  // Memory of one run's activations and scratch, for these input shapes; makes the plan.
  [[nodiscard]] int64_t ActivationBytes(std::span<const Shape> input_shapes) const;
  // Memory of constants that steps read as they are, or that folding made and are kept.
  [[nodiscard]] int64_t ConstantBytes(std::span<const Shape> input_shapes) const;
  // Seconds per step of one run, in the order of Explain(), then of what is behind sizes that
  // depend on data, if anything: for the benchmark's breakdown.
  [[nodiscard]] std::vector<double> Profile(std::span<const TensorView> inputs) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Evaluates one node on known inputs (null where omitted): what constant folding is handed.
[[nodiscard]] std::vector<Tensor> EvaluateNode(const Graph& graph, const Node& node,
                                               std::span<const Tensor* const> inputs);
// True if src/runtime/ops can run it.
[[nodiscard]] bool CanRun(const Graph& graph, const Node& node);

}  // namespace octet
