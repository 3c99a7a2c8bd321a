// A step: one operator implementation bound to concrete shapes, layouts and constants.
//
// The planner asks an operator's factory (runtime/ops.h) for a step, telling it what is known of
// inputs and outputs; the step says which layouts it reads and writes. What can be done once
// (packing weights, parsing attributes, choosing a kernel) happens in the factory; `run` only
// computes.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "runtime/executor.h"
#include "runtime/layout.h"
#include "tensor/tensor.h"

namespace octet {

struct InputInfo {
  bool present = false;
  DType dtype = DType::kUndefined;
  Shape shape;
  Layout layout = Layout::kPlain;    // as its producer leaves it
  const Tensor* constant = nullptr;  // plain layout; lives as long as the plan
};

struct OutputInfo {
  bool present = false;  // somebody reads it
  DType dtype = DType::kUndefined;
  Shape shape;
  bool for_images = false;  // a reader of it works on channels-last images
};

// A node the planner would like done in the same pass over the output: Relu, Clip with constant
// scalar bounds, Add of a tensor of the output's shape (input number `residual` of the request), or
// Add of a constant row to every row (right behind a MatMul only).
struct Follower {
  enum class Kind : uint8_t { kClamp, kAdd, kBias };
  Kind kind = Kind::kClamp;
  float lo = 0.0F, hi = 0.0F;    // kClamp
  size_t residual = 0;           // kAdd: index into StepRequest::inputs
  const Tensor* bias = nullptr;  // kBias: lives as long as the plan
  std::string op;                // for reports
};

struct StepRequest {
  const Graph* graph = nullptr;
  const Node* node = nullptr;
  std::vector<InputInfo> inputs;    // the node's, then residuals of followers
  std::vector<OutputInfo> outputs;  // the node's
  std::vector<Follower> followers;  // in order; the factory may take a prefix

  // True if the node has input i; residuals of followers are not meant.
  [[nodiscard]] bool has(size_t i) const { return i < node->inputs.size() && inputs[i].present; }
  // The constant behind input i, or null where it is omitted or computed.
  [[nodiscard]] const Tensor* constant(size_t i) const {
    return has(i) ? inputs[i].constant : nullptr;
  }
  [[nodiscard]] const Shape& shape(size_t i) const { return inputs.at(i).shape; }
  [[nodiscard]] DType dtype(size_t i) const { return inputs.at(i).dtype; }
  // The operator-set version of the node's domain.
  [[nodiscard]] int64_t opset() const;
};

struct StepArgs {
  std::span<const TensorView> inputs;          // raw is null where omitted
  std::span<const MutableTensorView> outputs;  // raw is null where nobody reads it
  void* scratch = nullptr;                     // 64-byte aligned
  void* state = nullptr;                       // of this run's context, from Step::new_state

  [[nodiscard]] bool has(size_t i) const { return i < inputs.size() && inputs[i].raw != nullptr; }
  template <typename T>
  [[nodiscard]] const T* in(size_t i) const {
    return static_cast<const T*>(inputs[i].raw);
  }
  template <typename T>
  [[nodiscard]] T* out(size_t i) const {
    return static_cast<T*>(outputs[i].raw);
  }
};

struct Step {
  StepInfo info;
  std::vector<Layout> input_layouts;   // as `run` wants them; one per input of the request
  std::vector<Layout> output_layouts;  // as `run` leaves them
  int64_t scratch_bytes = 0;
  bool library_threads = false;  // `run` calls a library that has threads of its own
  // Inputs, by bit, whose constants the step has a copy of its own of: `run` does not see them, and
  // nobody keeps them for it.
  uint32_t taken = 0;
  size_t fused = 0;             // how many followers are included
  std::optional<size_t> alias;  // output 0 is the bytes of this input; `run` is empty
  std::optional<size_t>
      overwrites;  // output 0 may take this input's memory if nobody else needs it
  std::function<void(const StepArgs&)> run;
  // Things a run writes that are not tensors (library handles); made once per concurrent run.
  std::function<std::shared_ptr<void>()> new_state;
};

// A step with plain layouts everywhere and this kernel name.
[[nodiscard]] Step NewStep(const StepRequest& request, std::string kernel);

// True if input i should be read channels-last: it is, and that says something.
[[nodiscard]] bool OffersChannelsLast(const StepRequest& request, size_t i);

// Throws kUnsupported: "run: node 'conv1' (Conv): <what>".
[[noreturn]] void FailStep(const StepRequest& request, std::string_view what);

// The constant integers of input i (int32 or int64). Throws kUnsupported where the input is
// computed.
[[nodiscard]] std::vector<int64_t> ConstantInts(const StepRequest& request, size_t i);
// The first element of a constant of any numeric type, as double.
[[nodiscard]] double ConstantScalar(const StepRequest& request, size_t i);
// An axis counted from the front. Throws kBadFile outside [-rank, rank).
[[nodiscard]] int Axis(const StepRequest& request, int64_t axis, int rank);

}  // namespace octet
