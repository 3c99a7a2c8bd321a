// A plan: the steps of (a part of) a graph for concrete input shapes, with every buffer placed.
//
// Immutable once built, so any number of threads may run it; what a run writes lives in a context,
// and contexts are pooled.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "base/parallel.h"
#include "graph/graph.h"
#include "runtime/arena.h"
#include "runtime/step.h"

namespace octet {

// What a plan is made for.
struct PlanRequest {
  const Graph* graph = nullptr;
  const std::vector<ConstantPtr>* known =
      nullptr;                   // by ValueId: constants, and nodes of constants alone
  std::vector<ValueId> sources;  // values given at run time
  std::vector<DType> source_types;
  std::vector<Shape> source_shapes;
  std::vector<ValueId> wanted;  // values to return
  std::set<ValueId> taps;       // values to show as they are made
  bool tap_sources = true;  // show tapped sources and constants too: the first part of a graph does
  bool explain = false;
};

// A piece of memory a step reads or writes.
struct Buffer {
  enum class Place : uint8_t { kArena, kSource, kConstant, kOutput };
  DType dtype = DType::kUndefined;
  Shape shape;
  Place place = Place::kArena;
  int64_t index = 0;  // kArena: byte offset; kSource, kOutput: position in the request
  ConstantPtr constant;
  int alias = -1;  // the buffer whose bytes these are, or -1
};

struct PlannedStep {
  Step step;
  std::vector<int> inputs, outputs;           // buffers; -1 where omitted
  bool for_tap_only = false;                  // a layout conversion nobody but a tap needs
  std::vector<std::pair<ValueId, int>> taps;  // shown after the step: value and plain buffer
};

class Plan {
 public:
  // Called by MakePlan.
  struct Parts {
    std::vector<Buffer> buffers;
    std::vector<PlannedStep> steps;
    std::vector<std::pair<ValueId, int>> early_taps;  // sources and constants
    std::vector<ValueId> returned;  // the wanted values, then those that the nodes left over read
    std::vector<int> outputs;       // buffer of each returned value; -1: left to a later part
    std::vector<NodeId>
        left;  // nodes that need values of this part to know their shapes, and all after
    int64_t arena_bytes = 0;
    int64_t scratch_offset = 0;
    Team team = Team::kCrew;  // of the loops of all steps
  };
  explicit Plan(Parts parts);
  ~Plan();

  // Returns the values of returned() (an empty tensor where left to a later part). `seconds`, if
  // given, gets the time of each step.
  [[nodiscard]] std::vector<Tensor> Run(std::span<const TensorView> sources,
                                        const std::function<void(ValueId, const TensorView&)>& tap,
                                        std::vector<double>* seconds) const;
  [[nodiscard]] std::vector<StepInfo> Explain() const;
  [[nodiscard]] const std::vector<NodeId>& left() const { return parts_.left; }
  [[nodiscard]] const std::vector<ValueId>& returned() const { return parts_.returned; }
  [[nodiscard]] bool returns(size_t i) const { return parts_.outputs[i] >= 0; }
  [[nodiscard]] int64_t arena_bytes() const { return parts_.arena_bytes; }
  // Of constants that are read at run time, each counted once.
  [[nodiscard]] int64_t constant_bytes() const;

 private:
  struct Context;
  [[nodiscard]] std::unique_ptr<Context> TakeContext() const;

  Parts parts_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Context>> idle_;
};

// Plans as much of the graph as has shapes that can be known now; the rest is in Plan::left().
[[nodiscard]] std::unique_ptr<Plan> MakePlan(const PlanRequest& request);

}  // namespace octet
