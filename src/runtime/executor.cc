#include "runtime/executor.h"

#include <algorithm>
#include <chrono>
#include <list>
#include <mutex>
#include <set>

#include "base/error.h"
#include "base/parallel.h"
#include "graph/ops.h"
#include "passes/fuse_dynamic.h"
#include "passes/fuse_float.h"
#include "passes/simplify.h"
#include "runtime/ops.h"
#include "runtime/plan.h"
#include "runtime/plan_builder.h"
#include "runtime/subnormals.h"

namespace octet {
namespace {

// Plans kept per executor. Calibration and evaluation use one or two input shapes; a detector fed
// with pictures of many sizes should not keep packed weights for each.
constexpr size_t kMaxPlans = 8;

void RefuseUnsupported(const Graph& graph) {
  std::string missing;
  int count = 0;
  for (size_t i = 0; i < graph.node_count(); ++i) {
    const Node& node = graph.node(static_cast<NodeId>(i));
    if (node.removed || CanRun(graph, node)) continue;
    const auto opset = graph.opsets.find(node.domain);
    missing +=
        Cat(count++ > 0 ? ", " : "", "node '", node.name, "' (operator ", node.op, ", domain '",
            node.domain.empty() ? "ai.onnx" : node.domain, "', opset ",
            opset == graph.opsets.end() ? "not declared" : std::to_string(opset->second), ")");
  }
  if (count > 0) {
    Fail(ErrorCode::kUnsupported, "run: ", count, count == 1 ? " node has" : " nodes have",
         " an operator that cannot be run: ", missing);
  }
}

// Folded constants above this size (dequantized weights) are made again for another plan rather
// than kept beside what the steps have packed.
constexpr int64_t kKeptFoldedBytes = 64 << 10;

// Constants, and whatever nodes compute from constants alone; by ValueId.
std::vector<ConstantPtr> FoldConstants(const Graph& graph, std::span<const ValueId> taps) {
  std::vector<ConstantPtr> known(graph.value_count());
  for (size_t i = 0; i < known.size(); ++i)
    known[i] = graph.value(static_cast<ValueId>(i)).constant;
  for (NodeId id : graph.TopologicalOrder()) {
    const Node& node = graph.node(id);
    std::vector<const Tensor*> inputs;
    bool all_known = true;
    for (ValueId v : node.inputs) {
      inputs.push_back(v == kNoValue ? nullptr : known[static_cast<size_t>(v)].get());
      all_known = all_known && (v == kNoValue || inputs.back() != nullptr);
    }
    if (!all_known) continue;
    std::vector<Tensor> results = EvaluateKnown(graph, node, inputs);
    for (size_t i = 0; i < results.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      known[static_cast<size_t>(node.outputs[i])] =
          std::make_shared<const Tensor>(std::move(results[i]));
    }
  }
  FlushSubnormalWeights(graph, taps, known);
  return known;
}

using PlanKey = std::vector<int64_t>;

}  // namespace

struct Executor::Impl {
  Graph graph;
  ExecutorOptions options;
  // What is known before anything runs, for plans to come; large folded values may be dropped from
  // it. Snapshots stay whole.
  using Known = std::shared_ptr<const std::vector<ConstantPtr>>;
  mutable Known known;
  mutable bool known_is_whole = true;
  mutable std::mutex mutex;

  // A value at a boundary between parts of the graph: the caller's input, or what an earlier part
  // returned.
  using Available = std::map<ValueId, TensorView>;

  Impl(const Graph& g, ExecutorOptions o) : graph(g), options(std::move(o)) {
    RefuseUnsupported(graph);
    for (ValueId id : options.taps) {
      if (id < 0 || static_cast<size_t>(id) >= graph.value_count()) {
        Fail(ErrorCode::kInvalidArgument, "run: tap ", id, " is not a value of the graph; it has ",
             graph.value_count());
      }
    }
    InferShapes(graph, false);
    const std::set<ValueId> kept(options.taps.begin(), options.taps.end());
    FoldIntoLayers(graph, [&](const Node& n) {
      return std::any_of(n.inputs.begin(), n.inputs.end(),
                         [&](ValueId v) { return kept.contains(v); });
    });
    FuseDynamic(graph, kept);
    FuseFloat(graph, kept);
    known = std::make_shared<const std::vector<ConstantPtr>>(FoldConstants(graph, options.taps));
    // Flushed initializers take the place of the originals, which need not be held as well.
    for (size_t i = 0; i < known->size(); ++i) {
      ConstantPtr& initializer = graph.value(static_cast<ValueId>(i)).constant;
      if (initializer) initializer = (*known)[i];
    }
  }

  void CheckInput(size_t i, DType dtype, const Shape& shape) const {
    const Value& input = graph.value(graph.inputs[i]);
    const ValueType& type = input.type;
    bool fits = type.dtype == DType::kUndefined || type.dtype == dtype;
    if (fits && type.has_rank) {
      fits = static_cast<int>(type.dims.size()) == shape.rank();
      for (int d = 0; fits && d < shape.rank(); ++d) {
        const int64_t want = type.dims[static_cast<size_t>(d)];
        fits = want == kUnknownDim || want == shape[d];
      }
    }
    if (!fits) {
      Fail(ErrorCode::kBadData, "run: input '", input.name, "' is ", NameOf(dtype),
           shape.ToString(), ", expected ", type.ToString());
    }
  }

  // A plan, and what was known when it was made.
  struct Made {
    std::shared_ptr<const Plan> plan;
    Known known;  // null where no nodes were left over
  };
  mutable std::list<std::pair<PlanKey, Made>> plans;  // most recently used first

  Made GetPlan(const Available& available, bool first_part) const {
    PlanRequest request;
    request.graph = &graph;
    request.wanted = graph.outputs;
    request.taps = {options.taps.begin(), options.taps.end()};
    request.tap_sources = first_part;
    request.explain = options.explain;
    PlanKey key = {MaxThreads(), first_part ? 1 : 0};
    for (const auto& [id, view] : available) {
      request.sources.push_back(id);
      request.source_types.push_back(view.dtype);
      request.source_shapes.push_back(view.shape);
      key.push_back(id);
      key.push_back(static_cast<int64_t>(view.dtype));
      key.push_back(view.shape.rank());
      key.insert(key.end(), view.shape.dims().begin(), view.shape.dims().end());
    }
    const std::lock_guard lock(mutex);
    for (auto it = plans.begin(); it != plans.end(); ++it) {
      if (it->first != key) continue;
      plans.splice(plans.begin(), plans, it);
      return plans.front().second;
    }
    // Library kernels are made for a number of threads: the one they will run with.
    const ThreadScope scope(MaxThreads());
    if (!known_is_whole) {
      known = std::make_shared<const std::vector<ConstantPtr>>(FoldConstants(graph, options.taps));
      known_is_whole = true;
    }
    request.known = known.get();
    Made made{MakePlan(request), nullptr};
    if (made.plan->left().empty()) {
      DropLargeFolded();
    } else {
      made.known = known;
    }
    plans.emplace_front(key, std::move(made));
    if (plans.size() > kMaxPlans) plans.pop_back();
    return plans.front().second;
  }

  void DropLargeFolded() const {
    std::vector<ConstantPtr> kept = *known;
    for (size_t i = 0; i < kept.size(); ++i) {
      const bool folded = graph.value(static_cast<ValueId>(i)).constant == nullptr;
      if (!folded || !kept[i] || kept[i]->view().bytes() <= kKeptFoldedBytes) continue;
      kept[i].reset();
      known_is_whole = false;
    }
    known = std::make_shared<const std::vector<ConstantPtr>>(std::move(kept));
  }

  // For inputs of these shapes.
  std::shared_ptr<const Plan> PlanFor(std::span<const Shape> input_shapes) const;
  std::vector<Tensor> Run(std::span<const TensorView> inputs, const Tap& tap,
                          std::vector<double>* seconds) const;
  void RunLeft(const Made& made, Available& available, std::vector<Tensor>& owned,
               const Tap& tap) const;
};

// Evaluates those nodes that a plan had to leave because their output shape depends on data, and
// whose inputs are here now.
void Executor::Impl::RunLeft(const Made& made, Available& available, std::vector<Tensor>& owned,
                             const Tap& tap) const {
  bool progress = false;
  for (NodeId id : made.plan->left()) {
    const Node& node = graph.node(id);
    std::vector<Tensor> views;
    std::vector<const Tensor*> inputs;
    views.reserve(node.inputs.size());
    bool ready = true;
    for (ValueId v : node.inputs) {
      if (v == kNoValue) {
        inputs.push_back(nullptr);
        continue;
      }
      if (const ConstantPtr& constant = (*made.known)[static_cast<size_t>(v)]) {
        inputs.push_back(constant.get());
        continue;
      }
      const auto it = available.find(v);
      ready = it != available.end();
      if (!ready) break;
      views.push_back(Tensor::Borrow(it->second.dtype, it->second.shape, it->second.raw, nullptr));
      inputs.push_back(&views.back());
    }
    if (!ready) continue;
    progress = true;
    std::vector<Tensor> results = EvaluateKnown(graph, node, inputs);
    for (size_t i = 0; i < results.size(); ++i) {
      const ValueId v = node.outputs[i];
      if (v == kNoValue) continue;
      owned.push_back(std::move(results[i]));
      available[v] = owned.back().view();
      if (tap && std::count(options.taps.begin(), options.taps.end(), v) > 0)
        tap(v, owned.back().view());
    }
  }
  OCTET_INVARIANT(progress);
}

std::vector<Tensor> Executor::Impl::Run(std::span<const TensorView> inputs, const Tap& tap,
                                        std::vector<double>* seconds) const {
  if (inputs.size() != graph.inputs.size()) {
    Fail(ErrorCode::kInvalidArgument, "run: got ", inputs.size(), " inputs, expected ",
         graph.inputs.size());
  }
  Available available;
  for (size_t i = 0; i < inputs.size(); ++i) {
    CheckInput(i, inputs[i].dtype, inputs[i].shape);
    available[graph.inputs[i]] = inputs[i];
  }
  std::vector<Tensor> owned;  // what earlier parts returned
  owned.reserve(
      graph.value_count());  // views stay valid: a Tensor's memory does not move, nor do these
  for (bool first_part = true;; first_part = false) {
    const Made made = GetPlan(available, first_part);
    const Plan* plan = made.plan.get();
    std::vector<TensorView> sources;
    sources.reserve(available.size());
    for (const auto& [id, view] : available) sources.push_back(view);
    std::vector<Tensor> results = plan->Run(sources, tap, seconds);
    if (plan->left().empty()) {
      results.resize(graph.outputs.size());
      return results;
    }
    for (size_t i = 0; i < results.size(); ++i) {
      if (!plan->returns(i) || available.contains(plan->returned()[i])) continue;
      owned.push_back(std::move(results[i]));
      available[plan->returned()[i]] = owned.back().view();
    }
    const auto start = std::chrono::steady_clock::now();
    RunLeft(made, available, owned, tap);
    if (seconds != nullptr) {
      seconds->push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
  }
}

Executor::Executor(const Graph& graph, ExecutorOptions options)
    : impl_(std::make_unique<Impl>(graph, std::move(options))) {}
Executor::~Executor() = default;
Executor::Executor(Executor&&) noexcept = default;
Executor& Executor::operator=(Executor&&) noexcept = default;

const Graph& Executor::graph() const { return impl_->graph; }

std::vector<Tensor> Executor::Run(std::span<const TensorView> inputs, const Tap& tap) const {
  return impl_->Run(inputs, tap, nullptr);
}

std::shared_ptr<const Plan> Executor::Impl::PlanFor(std::span<const Shape> input_shapes) const {
  if (input_shapes.size() != graph.inputs.size()) {
    Fail(ErrorCode::kInvalidArgument, "explain: got ", input_shapes.size(),
         " input shapes, expected ", graph.inputs.size());
  }
  Available available;
  for (size_t i = 0; i < input_shapes.size(); ++i) {
    const DType dtype = graph.value(graph.inputs[i]).type.dtype;
    CheckInput(i, dtype, input_shapes[i]);
    available[graph.inputs[i]] = {dtype, input_shapes[i], nullptr};
  }
  return GetPlan(available, true).plan;
}

std::vector<StepInfo> Executor::Explain(std::span<const Shape> input_shapes) const {
  return impl_->PlanFor(input_shapes)->Explain();
}

int64_t Executor::ActivationBytes(std::span<const Shape> input_shapes) const {
  return impl_->PlanFor(input_shapes)->arena_bytes();
}

int64_t Executor::ConstantBytes(std::span<const Shape> input_shapes) const {
  return impl_->PlanFor(input_shapes)->constant_bytes();
}

std::vector<double> Executor::Profile(std::span<const TensorView> inputs) const {
  std::vector<double> seconds;
  (void)impl_->Run(inputs, {}, &seconds);
  return seconds;
}

std::vector<Tensor> EvaluateNode(const Graph& graph, const Node& node,
                                 std::span<const Tensor* const> inputs) {
  return EvaluateKnown(graph, node, {inputs.begin(), inputs.end()});
}

bool CanRun(const Graph& /*graph*/, const Node& node) {
  return FindImplementation(node.op, node.domain) != nullptr &&
         FindOp(node.op, node.domain) != nullptr;
}

}  // namespace octet
