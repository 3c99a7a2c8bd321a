#include "runtime/plan_builder.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "graph/ops.h"
#include "runtime/ops.h"

namespace octet {
namespace {

size_t At(ValueId id) { return static_cast<size_t>(id); }

bool HasEightBits(DType dtype) {
  return dtype == DType::kInt8 || dtype == DType::kUint8 || IsFloat8(dtype);
}

StepPart PartOf(const StepRequest& r, int64_t macs) {
  bool in = false, constants = false, out = false;  // of 8 bits
  for (size_t i = 0; i < r.inputs.size(); ++i) {
    if (!r.inputs[i].present || !HasEightBits(r.inputs[i].dtype)) continue;
    // Constants behind the first input may be zero points.
    (i == 0 || r.inputs[i].constant == nullptr ? in : constants) = true;
  }
  for (const OutputInfo& o : r.outputs) out = out || (o.present && HasEightBits(o.dtype));
  if (macs > 0) return in || constants ? StepPart::kEightBitLayer : StepPart::kFloatLayer;
  if (in && out) return StepPart::kOnCodes;
  return in || out ? StepPart::kConversion : StepPart::kOther;
}

class Builder {
 public:
  explicit Builder(const PlanRequest& request)
      : request_(request),
        graph_(*request.graph),
        values_(graph_.value_count()),
        native_(graph_.value_count(), Layout::kPlain),
        by_layout_(graph_.value_count(), {-1, -1}),
        for_images_(graph_.value_count(), false) {}

  std::unique_ptr<Plan> Build() {
    TakeSources();
    WalkTypes();
    KeepNeeded();
    MakeSteps();
    Place();
    return std::make_unique<Plan>(std::move(parts_));
  }

 private:
  void TakeSources();
  void WalkTypes();
  bool TypeNode(const Node& node);
  void KeepNeeded();
  void FindImages();
  void MakeSteps();
  void EmitGroup(NodeId first, const FusedGroup* group);
  void EmitNode(NodeId id) { EmitGroup(id, nullptr); }
  int BufferOf(ValueId id, Layout layout, bool for_tap);
  int NewBuffer(DType dtype, const Shape& shape);
  void ShowTaps(ValueId id, size_t step);
  void Place();
  int Root(int buffer) const;

  const PlanRequest& request_;
  const Graph& graph_;
  std::vector<PlanValue> values_;
  std::vector<Layout> native_;                 // layout a value is computed in
  std::vector<std::array<int, 2>> by_layout_;  // buffer of a value in each layout, or -1
  std::vector<NodeId> nodes_;                  // to run, in order
  std::vector<bool> for_images_;               // read by an operator that wants channels-last
  std::set<ValueId> kept_;                     // tapped or wanted: not to be fused away
  Plan::Parts parts_;
};

void Builder::TakeSources() {
  for (size_t i = 0; i < graph_.value_count(); ++i) {
    if (const ConstantPtr& constant = (*request_.known)[i]) {
      values_[i] = {true, constant->dtype(), constant->shape(), constant};
    }
  }
  for (size_t i = 0; i < request_.sources.size(); ++i) {
    const ValueId id = request_.sources[i];
    values_[At(id)] = {true, request_.source_types[i], request_.source_shapes[i], nullptr};
  }
}

// Types of every value in order; nodes of known inputs are evaluated here. A node whose output
// shape cannot be known yet, and whatever depends on it, is left to the next part.
void Builder::WalkTypes() {
  for (NodeId id : graph_.TopologicalOrder()) {
    const Node& node = graph_.node(id);
    const bool done = std::all_of(node.outputs.begin(), node.outputs.end(),
                                  [&](ValueId v) { return v == kNoValue || values_[At(v)].ready; });
    if (done) continue;
    const bool can = std::all_of(node.inputs.begin(), node.inputs.end(),
                                 [&](ValueId v) { return v == kNoValue || values_[At(v)].ready; });
    if (can && TypeNode(node)) {
      const bool known = std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) {
        return v == kNoValue || values_[At(v)].constant != nullptr;
      });
      if (!known) nodes_.push_back(id);
    } else {
      parts_.left.push_back(id);
    }
  }
}

bool Builder::TypeNode(const Node& node) {
  std::vector<ValueType> types(node.inputs.size());
  std::vector<const ValueType*> type_ptrs(node.inputs.size(), nullptr);
  std::vector<const Tensor*> constants(node.inputs.size(), nullptr);
  bool all_known = true;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] == kNoValue) continue;
    const PlanValue& v = values_[At(node.inputs[i])];
    types[i] = ValueType::Of(v.dtype, v.shape);
    type_ptrs[i] = &types[i];
    constants[i] = v.constant.get();
    all_known = all_known && v.constant != nullptr;
  }
  const OpRow* row = FindImplementation(node.op, node.domain);
  OCTET_INVARIANT(row != nullptr);
  for (size_t i = 0; i < node.inputs.size() && i < 32; ++i) {
    const bool must = (row->known_inputs >> i & 1U) != 0;
    if (must && node.inputs[i] != kNoValue && constants[i] == nullptr) return false;
  }
  const std::vector<ValueType> outputs = InferNode(graph_, node, type_ptrs, constants);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    OCTET_INVARIANT(i < outputs.size());
    if (!outputs[i].is_static() || outputs[i].dtype == DType::kUndefined) return false;
  }
  // What only asks for the shape is known whatever the data are.
  const bool of_shape = node.domain.empty() && (node.op == "Shape" || node.op == "Size");
  std::vector<Tensor> known;
  if (of_shape && !all_known) {
    const Tensor stand_in =
        Tensor::Borrow(types[0].dtype, types[0].static_shape(), nullptr, nullptr);
    known = EvaluateKnown(graph_, node, {&stand_in});
  } else if (all_known) {
    known = EvaluateKnown(graph_, node, constants);
  }
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    PlanValue& v = values_[At(node.outputs[i])];
    v = {true, outputs[i].dtype, outputs[i].static_shape(), nullptr};
    if (!known.empty()) v.constant = std::make_shared<const Tensor>(std::move(known[i]));
  }
  return true;
}

// Drops nodes nobody needs: for the wanted values, the taps and the parts that follow.
void Builder::KeepNeeded() {
  std::set<ValueId> needed(request_.taps.begin(), request_.taps.end());
  needed.insert(request_.wanted.begin(), request_.wanted.end());
  kept_ = needed;
  parts_.returned = request_.wanted;
  if (!parts_.left.empty()) {  // so that the next part need not make them again
    for (ValueId v : request_.taps) {
      if (values_[At(v)].ready && !(*request_.known)[At(v)]) parts_.returned.push_back(v);
    }
  }
  for (NodeId id : parts_.left) {
    for (ValueId v : graph_.node(id).inputs) {
      if (v == kNoValue || !values_[At(v)].ready || (*request_.known)[At(v)]) continue;
      needed.insert(v);
      if (kept_.insert(v).second) parts_.returned.push_back(v);
    }
  }
  std::vector<NodeId> keep;
  for (auto it = nodes_.rbegin(); it != nodes_.rend(); ++it) {
    const Node& node = graph_.node(*it);
    if (std::none_of(node.outputs.begin(), node.outputs.end(),
                     [&](ValueId v) { return needed.contains(v); })) {
      continue;
    }
    keep.push_back(*it);
    needed.insert(node.inputs.begin(), node.inputs.end());
  }
  nodes_.assign(keep.rbegin(), keep.rend());
  needed.erase(kNoValue);
  kept_.erase(kNoValue);
}

int Builder::NewBuffer(DType dtype, const Shape& shape) {
  Buffer b;
  b.dtype = dtype;
  b.shape = shape;
  parts_.buffers.push_back(std::move(b));
  return static_cast<int>(parts_.buffers.size()) - 1;
}

// The buffer that holds a value in a layout; a conversion is inserted the first time it is asked
// for.
int Builder::BufferOf(ValueId id, Layout layout, bool for_tap) {
  const PlanValue& v = values_[At(id)];
  if (LayoutsCoincide(v.shape)) layout = native_[At(id)];
  int& buffer = by_layout_[At(id)][static_cast<size_t>(layout)];
  if (buffer >= 0) {
    if (!for_tap) {  // a conversion made for a tap gets a reader
      for (PlannedStep& p : parts_.steps) {
        if (p.for_tap_only && p.outputs[0] == buffer) p.for_tap_only = false;
      }
    }
    return buffer;
  }
  if (layout == Layout::kPlain && (v.constant || native_[At(id)] == Layout::kPlain)) {
    // A source or a constant that is read for the first time.
    const auto at = std::find(request_.sources.begin(), request_.sources.end(), id);
    OCTET_INVARIANT(v.constant || at != request_.sources.end());
    buffer = NewBuffer(v.dtype, v.shape);
    Buffer& b = parts_.buffers[static_cast<size_t>(buffer)];
    b.place = v.constant ? Buffer::Place::kConstant : Buffer::Place::kSource;
    b.constant = v.constant;
    if (!v.constant) b.index = at - request_.sources.begin();
    return buffer;
  }
  const Layout from = native_[At(id)];
  const int source = BufferOf(id, from, for_tap);
  const int made = NewBuffer(v.dtype, v.shape);
  by_layout_[At(id)][static_cast<size_t>(layout)] = made;
  if (v.constant) {  // converted once, now
    Tensor converted(v.dtype, v.shape);
    ConvertLayout(v.constant->view(), from, converted.mutable_view(), layout);
    Buffer& b = parts_.buffers[static_cast<size_t>(made)];
    b.place = Buffer::Place::kConstant;
    b.constant = std::make_shared<const Tensor>(std::move(converted));
    return made;
  }
  PlannedStep p;
  p.step.info.node = graph_.value(id).name;
  p.step.info.op = "reorder";
  p.step.info.kernel = layout == Layout::kPlain ? "octet:to_plain" : "octet:to_channels_last";
  p.step.info.shape = v.shape.ToString();
  if (HasEightBits(v.dtype)) p.step.info.part = StepPart::kOnCodes;
  p.step.run = [from, layout](const StepArgs& a) {
    ConvertLayout(a.inputs[0], from, a.outputs[0], layout);
  };
  p.inputs = {source};
  p.outputs = {made};
  p.for_tap_only = for_tap;
  parts_.steps.push_back(std::move(p));
  return made;
}

void Builder::ShowTaps(ValueId id, size_t step) {
  if (!request_.taps.contains(id)) return;
  const int buffer = BufferOf(id, Layout::kPlain, true);
  // BufferOf may have added a conversion behind the step.
  const size_t at = std::max(step, parts_.steps.size() - 1);
  parts_.steps[at].taps.emplace_back(id, buffer);
}

void Builder::EmitGroup(NodeId first, const FusedGroup* group) {
  const Node& node = graph_.node(first);
  const OpRow* row = FindImplementation(node.op, node.domain);
  OCTET_INVARIANT(row != nullptr);
  StepRequest r;
  r.graph = &graph_;
  r.node = &node;
  std::vector<ValueId> inputs = node.inputs;
  if (group != nullptr) {
    r.followers = group->how;
    size_t next_residual = 0;
    for (Follower& f : r.followers) {
      if (f.kind != Follower::Kind::kAdd) continue;
      f.residual = inputs.size();
      inputs.push_back(group->residuals[next_residual++]);
    }
  }
  for (ValueId id : inputs) {
    if (id == kNoValue) {
      r.inputs.emplace_back();
      continue;
    }
    const PlanValue& v = values_[At(id)];
    const Layout layout = LayoutsCoincide(v.shape) ? Layout::kPlain : native_[At(id)];
    r.inputs.push_back({true, v.dtype, v.shape, layout, v.constant.get()});
  }
  for (ValueId id : node.outputs) {
    if (id == kNoValue) {
      r.outputs.emplace_back();
    } else {
      r.outputs.push_back({true, values_[At(id)].dtype, values_[At(id)].shape,
                           for_images_[At(id)] && !LayoutsCoincide(values_[At(id)].shape)});
    }
  }
  PlannedStep p;
  p.step = row->make(r);
  Step& step = p.step;
  OCTET_INVARIANT(step.input_layouts.size() == inputs.size() && step.fused <= r.followers.size());

  const NodeId last = step.fused == 0 ? first : group->followers[step.fused - 1];
  step.info.node = graph_.node(last).name;
  step.info.op = node.domain.empty() ? node.op : node.domain + "." + node.op;
  for (size_t i = 0; i < step.fused; ++i) step.info.op += "+" + r.followers[i].op;
  step.info.part = PartOf(r, step.info.macs);
  const auto shown = std::find_if(r.outputs.begin(), r.outputs.end(),
                                  [](const OutputInfo& o) { return o.present; });
  if (shown != r.outputs.end()) step.info.shape = shown->shape.ToString();
  if (!request_.explain) step.info.refused.clear();

  // Residuals of followers that were not taken are not read.
  size_t reads = node.inputs.size();
  for (size_t i = 0; i < step.fused; ++i) {
    if (r.followers[i].kind == Follower::Kind::kAdd) ++reads;
  }
  for (size_t i = 0; i < reads; ++i) {
    const bool taken = i < 32 && (step.taken >> i & 1U) != 0 && r.inputs[i].constant != nullptr;
    p.inputs.push_back(
        inputs[i] == kNoValue || taken ? -1 : BufferOf(inputs[i], step.input_layouts[i], false));
  }
  std::vector<ValueId> outputs = node.outputs;
  if (step.fused > 0) outputs[0] = graph_.node(last).outputs[0];
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i] == kNoValue) {
      p.outputs.push_back(-1);
      continue;
    }
    const PlanValue& v = values_[At(outputs[i])];
    const Layout layout = LayoutsCoincide(v.shape) ? Layout::kPlain : step.output_layouts[i];
    const int buffer = NewBuffer(v.dtype, v.shape);
    if (step.alias && i == 0)
      parts_.buffers[static_cast<size_t>(buffer)].alias = p.inputs[*step.alias];
    native_[At(outputs[i])] = layout;
    by_layout_[At(outputs[i])][static_cast<size_t>(layout)] = buffer;
    p.outputs.push_back(buffer);
  }
  const size_t at = parts_.steps.size();
  const size_t fused = step.fused;
  parts_.steps.push_back(std::move(p));
  for (ValueId id : outputs) {
    if (id != kNoValue) ShowTaps(id, at);
  }
  if (group != nullptr) {
    for (size_t i = fused; i < group->followers.size(); ++i) EmitNode(group->followers[i]);
  }
}

// Marks values whose readers, directly or through an operator that keeps its input's layout, work
// on channels-last images.
void Builder::FindImages() {
  static constexpr std::array<std::string_view, 13> kImageOps = {
      "Conv",         "ConvTranspose",      "MaxPool",
      "AveragePool",  "GlobalAveragePool",  "GlobalMaxPool",
      "QLinearConv",  "ConvInteger",        "QConv",
      "QAveragePool", "QGlobalAveragePool", "BatchNormalization",
      "GridConv"};
  static constexpr std::array<std::string_view, 5> kKeepingOps = {
      "QuantizeLinear", "DequantizeLinear", "QLookup", "Relu", "Clip"};
  for (auto it = nodes_.rbegin(); it != nodes_.rend(); ++it) {
    const Node& node = graph_.node(*it);
    const bool images = std::count(kImageOps.begin(), kImageOps.end(), node.op) > 0;
    const bool keeps = std::count(kKeepingOps.begin(), kKeepingOps.end(), node.op) > 0;
    if (images || (keeps && for_images_[At(node.outputs[0])]))
      for_images_[At(node.inputs[0])] = true;
  }
}

void Builder::MakeSteps() {
  FindImages();
  if (request_.tap_sources) {
    for (ValueId id : request_.taps) {
      const bool source =
          std::find(request_.sources.begin(), request_.sources.end(), id) != request_.sources.end();
      if (values_[At(id)].constant || source) {
        parts_.early_taps.emplace_back(id, BufferOf(id, Layout::kPlain, false));
      }
    }
  }
  const std::map<NodeId, FusedGroup> groups = FindFusedGroups(request_, nodes_, values_, kept_);
  std::map<NodeId, NodeId> first_of;  // by last node of a group
  std::set<NodeId> inside;            // every node of a group but the last
  for (const auto& [first, group] : groups) {
    inside.insert(first);
    inside.insert(group.followers.begin(), group.followers.end() - 1);
    first_of[group.followers.back()] = first;
  }
  for (NodeId id : nodes_) {
    if (inside.contains(id)) continue;
    const auto it = first_of.find(id);
    if (it == first_of.end()) {
      EmitNode(id);
    } else {
      EmitGroup(it->second, &groups.at(it->second));
    }
  }
  for (ValueId id : parts_.returned) {
    parts_.outputs.push_back(values_[At(id)].ready ? BufferOf(id, Layout::kPlain, false) : -1);
  }
}

int Builder::Root(int buffer) const {
  while (parts_.buffers[static_cast<size_t>(buffer)].alias >= 0) {
    buffer = parts_.buffers[static_cast<size_t>(buffer)].alias;
  }
  return buffer;
}

// Lifetimes, sharing of memory between an input that dies and the output that may overwrite it,
// outputs computed in place, and offsets for the rest.
void Builder::Place() {
  auto& buffers = parts_.buffers;
  auto& steps = parts_.steps;
  const auto end = static_cast<int64_t>(steps.size());
  std::vector<int64_t> first(buffers.size(), -1), last(buffers.size(), -1);
  auto touch = [&](int buffer, int64_t step) {
    if (buffer < 0) return;
    const auto root = static_cast<size_t>(Root(buffer));
    if (first[root] < 0) first[root] = step;
    last[root] = std::max(last[root], step);
  };
  for (int64_t i = 0; i < end; ++i) {
    const PlannedStep& p = steps[static_cast<size_t>(i)];
    for (int b : p.outputs) touch(b, i);
    for (int b : p.inputs) touch(b, i);
    for (const auto& [value, b] : p.taps) touch(b, i);
  }
  for (int b : parts_.outputs) touch(b, end);

  for (int64_t i = 0; i < end; ++i) {
    const PlannedStep& p = steps[static_cast<size_t>(i)];
    if (!p.step.overwrites || p.outputs[0] < 0) continue;
    const int in = p.inputs[*p.step.overwrites];
    const int from = Root(in);
    const int to = p.outputs[0];
    const Buffer& f = buffers[static_cast<size_t>(from)];
    const Buffer& t = buffers[static_cast<size_t>(to)];
    const auto readers = std::count_if(p.inputs.begin(), p.inputs.end(),
                                       [&](int b) { return b >= 0 && Root(b) == from; });
    const bool same_size =
        f.shape.elements() * SizeOf(f.dtype) == t.shape.elements() * SizeOf(t.dtype);
    if (f.place != Buffer::Place::kArena || last[static_cast<size_t>(from)] != i || readers != 1 ||
        t.alias >= 0 || !same_size) {
      continue;
    }
    buffers[static_cast<size_t>(to)].alias = from;
    last[static_cast<size_t>(from)] = last[static_cast<size_t>(to)];
  }

  for (size_t i = 0; i < parts_.outputs.size(); ++i) {
    if (parts_.outputs[i] < 0) continue;
    Buffer& root = buffers[static_cast<size_t>(Root(parts_.outputs[i]))];
    if (root.place != Buffer::Place::kArena) continue;
    root.place = Buffer::Place::kOutput;
    root.index = static_cast<int64_t>(i);
  }

  std::vector<ArenaRequest> requests;
  std::vector<size_t> owners;
  for (size_t b = 0; b < buffers.size(); ++b) {
    const Buffer& buffer = buffers[b];
    if (buffer.alias >= 0 || buffer.place != Buffer::Place::kArena || first[b] < 0) continue;
    requests.push_back({buffer.shape.elements() * SizeOf(buffer.dtype), first[b], last[b], 0});
    owners.push_back(b);
  }
  const int64_t used = AssignOffsets(requests);
  for (size_t i = 0; i < owners.size(); ++i) buffers[owners[i]].index = requests[i].offset;
  for (size_t b = 0; b < buffers.size(); ++b) {
    const Buffer& root = buffers[static_cast<size_t>(Root(static_cast<int>(b)))];
    buffers[b].place = root.place;
    buffers[b].index = root.index;
    buffers[b].constant = root.constant;
  }
  int64_t scratch = 0;
  for (const PlannedStep& p : steps) {
    scratch = std::max(scratch, p.step.scratch_bytes);
    if (p.step.library_threads) parts_.team = Team::kOpenMp;
  }
  parts_.scratch_offset = (used + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
  parts_.arena_bytes = parts_.scratch_offset + scratch;
}

}  // namespace

std::unique_ptr<Plan> MakePlan(const PlanRequest& request) { return Builder(request).Build(); }

std::vector<Tensor> EvaluateKnown(const Graph& graph, const Node& node,
                                  const std::vector<const Tensor*>& inputs) {
  const OpRow* row = FindImplementation(node.op, node.domain);
  if (row == nullptr) {
    Fail(ErrorCode::kUnsupported, "evaluate: node '", node.name, "': no operator ", node.op,
         " in domain '", node.domain, "'");
  }
  StepRequest r;
  r.graph = &graph;
  r.node = &node;
  std::vector<ValueType> types(inputs.size());
  std::vector<const ValueType*> type_ptrs(inputs.size(), nullptr);
  std::vector<TensorView> views(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr) {
      r.inputs.emplace_back();
      continue;
    }
    views[i] = inputs[i]->view();
    types[i] = ValueType::Of(views[i].dtype, views[i].shape);
    type_ptrs[i] = &types[i];
    r.inputs.push_back({true, views[i].dtype, views[i].shape, Layout::kPlain, inputs[i]});
  }
  const std::vector<ValueType> inferred = InferNode(graph, node, type_ptrs, inputs);
  std::vector<Tensor> results(node.outputs.size());
  std::vector<MutableTensorView> result_views(node.outputs.size());
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) {
      r.outputs.emplace_back();
      continue;
    }
    OCTET_INVARIANT(i < inferred.size());
    if (!inferred[i].is_static() || inferred[i].dtype == DType::kUndefined) {
      Fail(ErrorCode::kUnsupported, "evaluate: node '", node.name, "' (", node.op, "): output ", i,
           " has no known shape: ", inferred[i].ToString());
    }
    r.outputs.push_back({true, inferred[i].dtype, inferred[i].static_shape(), false});
    results[i] = Tensor(r.outputs[i].dtype, r.outputs[i].shape);
    result_views[i] = results[i].mutable_view();
  }
  const Step step = row->make(r);
  // The step may want or leave channels-last data.
  std::vector<Tensor> converted_inputs(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr || step.input_layouts[i] == Layout::kPlain) continue;
    converted_inputs[i] = Tensor(views[i].dtype, views[i].shape);
    ConvertLayout(views[i], Layout::kPlain, converted_inputs[i].mutable_view(),
                  Layout::kChannelsLast);
    views[i].raw = converted_inputs[i].raw();
  }
  if (step.alias) {
    results[0] =
        Tensor::CopyOf({result_views[0].dtype, result_views[0].shape, views[*step.alias].raw});
  } else {
    const Arena scratch(step.scratch_bytes);
    const std::shared_ptr<void> state = step.new_state ? step.new_state() : nullptr;
    step.run({views, result_views, scratch.at(0), state.get()});
  }
  for (size_t i = 0; i < results.size(); ++i) {
    if (node.outputs[i] == kNoValue || step.output_layouts[i] == Layout::kPlain) continue;
    Tensor plain(results[i].dtype(), results[i].shape());
    ConvertLayout(results[i].view(), Layout::kChannelsLast, plain.mutable_view(), Layout::kPlain);
    results[i] = std::move(plain);
  }
  return results;
}

}  // namespace octet
