// How operators of ai.onnx before operator set 13 are written in 13, from ONNX's Changelog.md.
// Versions that only admitted more element types, more ranks, negative axes, optional inputs or new
// attributes with the old meaning as default need no rule.
#include "files/onnx_upgrade.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <string_view>

#include "base/error.h"
#include "graph/ops_inference.h"

namespace octet {
namespace {

class Upgrade;
using Rule = void (*)(Upgrade&, Node&);

// From `same_since` on an operator means what it means in operator set 13; below that `rule`
// applies, or, where it is null, nothing is known.
struct OpHistory {
  std::string_view op;
  int64_t same_since;
  Rule rule;
};

const OpHistory* HistoryOf(std::string_view op);

// What the rules work with: the node being rewritten (not yet in the graph's table of types), the
// graph, and inference over everything before the node.
class Upgrade {
 public:
  explicit Upgrade(Graph& graph) : graph_(graph), from_(graph.opset()), inference_(graph) {
    graph_.opsets[""] = 13;
  }

  void Run();

  [[nodiscard]] int64_t from() const { return from_; }
  [[nodiscard]] Graph& graph() { return graph_; }

  template <typename... Args>
  [[noreturn]] void Refuse(const Node& node, const Args&... args) const {
    Fail(ErrorCode::kUnsupported, "node '", node.name, "' (", node.op, " of operator set ", from_,
         ") cannot be raised to operator set 13: ", args...);
  }

  // Adds a constant input at a position, omitted ones before it.
  void SetInput(Node& node, size_t at, std::string_view what, Tensor tensor) {
    if (node.inputs.size() <= at) node.inputs.resize(at + 1, kNoValue);
    node.inputs[at] = graph_.AddConstant(Cat(node.name, "/", what), std::move(tensor));
  }
  void SetInput(Node& node, size_t at, std::string_view what, const std::vector<int64_t>& numbers) {
    SetInput(node, at, what, Tensor::Of<int64_t>({static_cast<int64_t>(numbers.size())}, numbers));
  }

  // The rank of a value.
  [[nodiscard]] size_t RankOf(const Node& node, ValueId id) const {
    if (id == kNoValue) Refuse(node, "an input is missing");
    const ValueType& type = graph_.value(id).type;
    if (!type.has_rank) Refuse(node, "the rank of '", graph_.value(id).name, "' is not known");
    return type.dims.size();
  }

  // A new node before the one being rewritten; gives its one output.
  ValueId Before(const Node& node, std::string op, std::vector<ValueId> inputs,
                 std::map<std::string, Attribute> attributes = {}) {
    const ValueId out = graph_.AddValue(Cat(node.name, "/", op));
    Node added{std::move(op),     "",    Cat(graph_.value(out).name, "/node"),
               std::move(inputs), {out}, std::move(attributes)};
    inference_.Visit(graph_.AddNode(std::move(added)), false);
    return out;
  }

 private:
  Graph& graph_;
  int64_t from_;
  ShapeInference inference_;
};

void Upgrade::Run() {
  for (NodeId id : graph_.TopologicalOrder()) {
    if (graph_.node(id).domain.empty()) {
      // The rules add nodes, which moves the table of nodes: they work on a copy.
      Node node = graph_.node(id);
      node.attributes.erase("consumed_inputs");  // operator set 1's hint for memory reuse
      const OpHistory* history = HistoryOf(node.op);
      if (history == nullptr) Refuse(node, "no rule is known for this operator");
      if (from_ < history->same_since) {
        if (history->rule == nullptr) Refuse(node, "its meaning changed, and no rule is known");
        history->rule(*this, node);
      }
      graph_.node(id) = std::move(node);
    }
    inference_.Visit(id, false);
  }
}

int64_t TakeInt(Node& node, std::string_view key, int64_t otherwise) {
  const int64_t v = node.GetInt(key, otherwise);
  node.attributes.erase(std::string(key));
  return v;
}

std::vector<int64_t> TakeInts(Node& node, std::string_view key) {
  auto v = node.GetInts(key, {});
  node.attributes.erase(std::string(key));
  return v;
}

// --- rules, by operator
// ---------------------------------------------------------------------------------

// Before 7 the second operand broadcast only if `broadcast` was set, then from dimension `axis` of
// the first on (aligned to its end without one).
void RaiseBroadcast(Upgrade& u, Node& node) {
  if (u.from() >= 7) return;
  const bool broadcast = TakeInt(node, "broadcast", 0) != 0;
  const bool has_axis = node.Has("axis");
  const int64_t axis = TakeInt(node, "axis", 0);
  if (!broadcast || !has_axis) return;
  if (node.inputs.size() != 2) u.Refuse(node, node.inputs.size(), " inputs, expected 2");
  const auto a = static_cast<int64_t>(u.RankOf(node, node.inputs[0]));
  const auto b = static_cast<int64_t>(u.RankOf(node, node.inputs[1]));
  const int64_t start = axis < 0 ? axis + a : axis;
  if (start < 0 || start + b > a) u.Refuse(node, "axis ", axis, " for ranks ", a, " and ", b);
  if (start + b == a) return;
  std::vector<int64_t> axes;
  for (int64_t i = b; i < a - start; ++i) axes.push_back(i);
  const ValueId numbers = u.graph().AddConstant(
      Cat(node.name, "/axes"), Tensor::Of<int64_t>({static_cast<int64_t>(axes.size())}, axes));
  node.inputs[1] = u.Before(node, "Unsqueeze", {node.inputs[1], numbers});
}

// Before 9 "spatial" could ask for statistics per element. More than one output meant training.
void RaiseBatchNormalization(Upgrade& u, Node& node) {
  if (TakeInt(node, "spatial", 1) == 0) u.Refuse(node, "attribute 'spatial' is 0");
  node.attributes.erase("is_test");
  while (node.outputs.size() > 1 &&
         (node.outputs.back() == kNoValue || u.graph().UsesOf(node.outputs.back()).empty())) {
    if (node.outputs.back() != kNoValue) u.graph().value(node.outputs.back()).producer = kNoNode;
    node.outputs.pop_back();
  }
  if (node.outputs.size() > 1) u.Refuse(node, "its training outputs are used");
}

// Before 6 the type was named: "FLOAT".
void RaiseCast(Upgrade& u, Node& node) {
  static constexpr std::array<std::string_view, 14> kNames = {
      "UNDEFINED", "FLOAT",  "UINT8", "INT8",    "UINT16", "INT16",  "INT32",
      "INT64",     "STRING", "BOOL",  "FLOAT16", "DOUBLE", "UINT32", "UINT64"};
  const std::string name = node.GetString("to", "");
  const auto it = std::find(kNames.begin(), kNames.end(), name);
  if (it == kNames.end()) u.Refuse(node, "attribute 'to' is '", name, "'");
  node.attributes["to"] = static_cast<int64_t>(it - kNames.begin());
}

// Before 11 the bounds were attributes.
void RaiseClip(Upgrade& u, Node& node) {
  const DType dtype =
      node.input(0) == kNoValue ? DType::kUndefined : u.graph().value(node.inputs[0]).type.dtype;
  size_t at = 1;
  for (const std::string_view key : {"min", "max"}) {
    if (node.Has(key)) {
      if (dtype != DType::kFloat32 && dtype != DType::kUndefined)
        u.Refuse(node, "its input is ", NameOf(dtype));
      u.SetInput(node, at, key, Tensor::Scalar<float>(node.GetFloat(key, 0.0F)));
      node.attributes.erase(std::string(key));
    }
    ++at;
  }
}

void RaiseConcat(Upgrade&, Node& node) {
  if (!node.Has("axis")) node.attributes["axis"] = int64_t{1};
}

// Octet runs models for inference, where Dropout passes its input on whatever its ratio.
void RaiseDropout(Upgrade&, Node& node) {
  node.attributes.erase("ratio");
  node.attributes.erase("is_test");
}

void RaiseGemm(Upgrade&, Node& node) { node.attributes.erase("broadcast"); }

// Before 13 the input was taken as a matrix, cut at `axis`, and each row normalized as a whole.
void RaiseSoftmax(Upgrade& u, Node& node) {
  const int64_t declared = TakeInt(node, "axis", 1);
  if (node.input(0) == kNoValue) u.Refuse(node, "it has no input");
  const ValueId x = node.inputs[0];
  const ValueType type = u.graph().value(x).type;
  if (type.has_rank) {
    const auto rank = static_cast<int64_t>(type.dims.size());
    const int64_t axis = declared < 0 ? declared + rank : declared;
    if (axis < 0 || axis > rank) u.Refuse(node, "axis ", declared, " of a tensor of rank ", rank);
    const auto is_one = [](int64_t d) { return d == 1; };
    if (axis < rank && std::all_of(type.dims.begin() + axis + 1, type.dims.end(), is_one)) {
      node.attributes["axis"] = axis;
      return;
    }
  }
  const ValueId shape = u.Before(node, "Shape", {x});
  const ValueId matrix = u.Before(node, "Flatten", {x}, {{"axis", declared}});
  const ValueId normalized = u.Before(node, node.op, {matrix}, {{"axis", int64_t{1}}});
  node.op = "Reshape";
  node.inputs = {normalized, shape};
  node.attributes.clear();
}

// Before 7 a slope of C numbers was per channel; now it broadcasts to the input.
void RaisePRelu(Upgrade& u, Node& node) {
  if (node.inputs.size() != 2) u.Refuse(node, node.inputs.size(), " inputs, expected 2");
  const Tensor* slope = u.graph().ConstantOf(node.inputs[1]);
  if (slope != nullptr && slope->elements() == 1) return;
  const size_t rank = u.RankOf(node, node.inputs[0]);
  if (u.RankOf(node, node.inputs[1]) != 1 || rank < 2)
    u.Refuse(node, "the slope is not a vector of channels");
  std::vector<int64_t> axes;
  for (size_t i = 2; i < rank; ++i) axes.push_back(static_cast<int64_t>(i) - 1);
  if (axes.empty()) return;
  const ValueId numbers = u.graph().AddConstant(
      Cat(node.name, "/axes"), Tensor::Of<int64_t>({static_cast<int64_t>(axes.size())}, axes));
  node.inputs[1] = u.Before(node, "Unsqueeze", {node.inputs[1], numbers});
}

// Before 11 pads (in operator set 1: paddings) and the value were attributes.
void RaisePad(Upgrade& u, Node& node) {
  const char* key = node.Has("pads") ? "pads" : "paddings";
  if (!node.Has(key)) u.Refuse(node, "attribute 'pads' is missing");
  u.SetInput(node, 1, "pads", TakeInts(node, key));
  const float value = node.GetFloat("value", 0.0F);
  node.attributes.erase("value");
  if (value == 0.0F) return;
  if (node.inputs[0] == kNoValue || u.graph().value(node.inputs[0]).type.dtype != DType::kFloat32)
    u.Refuse(node, "its input is not known as float32");
  u.SetInput(node, 2, "value", Tensor::Scalar<float>(value));
}

// axes: an attribute, now an input.
void RaiseAxes(Upgrade& u, Node& node) {
  if (node.Has("axes")) u.SetInput(node, 1, "axes", TakeInts(node, "axes"));
}

// Before 5 the shape was an attribute.
void RaiseReshape(Upgrade& u, Node& node) { u.SetInput(node, 1, "shape", TakeInts(node, "shape")); }

// Upsample and the Resize of operator set 10 map output x to input x / scale, rounded down for
// "nearest" (by Resize up, where it shrinks: what ONNX Runtime does and ONNX's test data say).
void ToResize(Upgrade& u, Node& node, bool shrinks) {
  std::string mode = node.GetString("mode", "nearest");
  if (mode == "bilinear" || mode == "trilinear") mode = "linear";
  if (mode != "nearest" && mode != "linear") u.Refuse(node, "mode is '", mode, "'");
  node.op = "Resize";
  node.attributes = {{"mode", mode}, {"coordinate_transformation_mode", std::string("asymmetric")}};
  if (mode == "nearest")
    node.attributes.emplace("nearest_mode", std::string(shrinks ? "ceil" : "floor"));
}

void RaiseUpsample(Upgrade& u, Node& node) {
  if (u.from() < 9) {
    std::vector<float> scales = node.GetFloats("scales", {});
    if (u.from() < 7)
      scales = {1.0F, 1.0F, node.GetFloat("height_scale", 1.0F),
                node.GetFloat("width_scale", 1.0F)};
    u.SetInput(node, 1, "scales", Tensor::Of<float>({static_cast<int64_t>(scales.size())}, scales));
  }
  if (node.inputs.size() != 2) u.Refuse(node, node.inputs.size(), " inputs, expected 2");
  ToResize(u, node, false);
  node.inputs = {node.inputs[0], kNoValue, node.inputs[1]};
}

void RaiseResize(Upgrade& u, Node& node) {
  if (u.from() >= 11) {
    if (node.GetString("coordinate_transformation_mode", "") == "tf_half_pixel_for_nn") {
      u.Refuse(node, "coordinate_transformation_mode is 'tf_half_pixel_for_nn', which was removed");
    }
    // What is empty there is omitted here.
    for (size_t i = 1; i < node.inputs.size(); ++i) {
      const Tensor* constant = u.graph().ConstantOf(node.inputs[i]);
      if (constant != nullptr && constant->elements() == 0) node.inputs[i] = kNoValue;
    }
    return;
  }
  if (node.inputs.size() != 2) u.Refuse(node, node.inputs.size(), " inputs, expected 2");
  const Tensor* scales = u.graph().ConstantOf(node.inputs[1]);
  if (scales == nullptr || scales->dtype() != DType::kFloat32)
    u.Refuse(node, "its scales are not constant");
  const auto data = scales->data<float>();
  const bool shrinks = std::any_of(data.begin(), data.end(), [](float s) { return s < 1.0F; });
  const bool grows = std::any_of(data.begin(), data.end(), [](float s) { return s > 1.0F; });
  if (shrinks && grows) u.Refuse(node, "it shrinks along one axis and grows along another");
  ToResize(u, node, shrinks);
  node.inputs = {node.inputs[0], kNoValue, node.inputs[1]};
}

void RaiseScatter(Upgrade&, Node& node) { node.op = "ScatterElements"; }

// Before 10 starts, ends and axes were attributes.
void RaiseSlice(Upgrade& u, Node& node) {
  const auto starts = TakeInts(node, "starts");
  const bool has_axes = node.Has("axes");
  const auto axes = TakeInts(node, "axes");
  u.SetInput(node, 1, "starts", starts);
  u.SetInput(node, 2, "ends", TakeInts(node, "ends"));
  if (has_axes) u.SetInput(node, 3, "axes", axes);
}

void RaiseSplit(Upgrade& u, Node& node) {
  if (node.Has("split")) u.SetInput(node, 1, "split", TakeInts(node, "split"));
}

// Before 10 k was an attribute; before 11 the result was always the largest, sorted.
void RaiseTopK(Upgrade& u, Node& node) {
  if (u.from() < 10) u.SetInput(node, 1, "k", {TakeInt(node, "k", 0)});
}

constexpr OpHistory kHistory[] = {
    {"Abs", 1, nullptr},
    {"Acos", 7, nullptr},
    {"Acosh", 9, nullptr},
    {"Add", 7, RaiseBroadcast},
    {"And", 7, RaiseBroadcast},
    {"ArgMax", 1, nullptr},
    {"ArgMin", 1, nullptr},
    {"Asin", 7, nullptr},
    {"Asinh", 9, nullptr},
    {"Atan", 7, nullptr},
    {"Atanh", 9, nullptr},
    {"AveragePool", 1, nullptr},
    {"BatchNormalization", 9, RaiseBatchNormalization},
    {"BitShift", 11, nullptr},
    {"Cast", 6, RaiseCast},
    {"Ceil", 1, nullptr},
    {"Celu", 12, nullptr},
    {"Clip", 11, RaiseClip},
    {"Compress", 9, nullptr},
    {"Concat", 4, RaiseConcat},
    {"ConstantOfShape", 9, nullptr},
    {"Conv", 1, nullptr},
    {"ConvInteger", 10, nullptr},
    {"ConvTranspose", 1, nullptr},
    {"Cos", 7, nullptr},
    {"Cosh", 9, nullptr},
    {"CumSum", 11, nullptr},
    {"DepthToSpace", 1, nullptr},
    {"DequantizeLinear", 10, nullptr},
    {"Det", 11, nullptr},
    {"Div", 7, RaiseBroadcast},
    {"Dropout", 12, RaiseDropout},
    {"DynamicQuantizeLinear", 11, nullptr},
    {"Einsum", 12, nullptr},
    {"Elu", 1, nullptr},
    {"Equal", 7, RaiseBroadcast},
    {"Erf", 9, nullptr},
    {"Exp", 1, nullptr},
    {"Expand", 8, nullptr},
    {"EyeLike", 9, nullptr},
    {"Flatten", 1, nullptr},
    {"Floor", 1, nullptr},
    {"GRU", 7, nullptr},
    {"Gather", 1, nullptr},
    {"GatherElements", 11, nullptr},
    {"GatherND", 11, nullptr},
    {"Gemm", 7, RaiseGemm},
    {"GlobalAveragePool", 1, nullptr},
    {"GlobalLpPool", 2, nullptr},
    {"GlobalMaxPool", 1, nullptr},
    {"Greater", 7, RaiseBroadcast},
    {"GreaterOrEqual", 12, nullptr},
    {"HardSigmoid", 1, nullptr},
    {"Hardmax", 13, RaiseSoftmax},
    {"Identity", 1, nullptr},
    {"If", 1, nullptr},
    {"InstanceNormalization", 1, nullptr},
    {"IsInf", 10, nullptr},
    {"IsNaN", 9, nullptr},
    {"LRN", 1, nullptr},
    {"LSTM", 7, nullptr},
    {"LeakyRelu", 1, nullptr},
    {"Less", 7, RaiseBroadcast},
    {"LessOrEqual", 12, nullptr},
    {"Log", 1, nullptr},
    {"LogSoftmax", 13, RaiseSoftmax},
    {"Loop", 1, nullptr},
    {"LpNormalization", 1, nullptr},
    {"LpPool", 2, nullptr},
    {"MatMul", 1, nullptr},
    {"MatMulInteger", 10, nullptr},
    {"Max", 1, nullptr},
    {"MaxPool", 1, nullptr},
    {"MaxRoiPool", 1, nullptr},
    {"MaxUnpool", 9, nullptr},
    {"Mean", 1, nullptr},
    {"MeanVarianceNormalization", 9, nullptr},
    {"Min", 1, nullptr},
    {"Mod", 10, nullptr},
    {"Mul", 7, RaiseBroadcast},
    {"Multinomial", 7, nullptr},
    {"Neg", 1, nullptr},
    {"NonMaxSuppression", 10, nullptr},
    {"NonZero", 9, nullptr},
    {"Not", 1, nullptr},
    {"OneHot", 9, nullptr},
    {"Or", 7, RaiseBroadcast},
    {"PRelu", 7, RaisePRelu},
    {"Pad", 11, RaisePad},
    {"Pow", 7, RaiseBroadcast},
    {"QLinearConv", 10, nullptr},
    {"QLinearMatMul", 10, nullptr},
    {"QuantizeLinear", 10, nullptr},
    {"RNN", 7, nullptr},
    {"RandomNormal", 1, nullptr},
    {"RandomNormalLike", 1, nullptr},
    {"RandomUniform", 1, nullptr},
    {"RandomUniformLike", 1, nullptr},
    {"Range", 11, nullptr},
    {"Reciprocal", 1, nullptr},
    {"ReduceL1", 1, nullptr},
    {"ReduceL2", 1, nullptr},
    {"ReduceLogSum", 1, nullptr},
    {"ReduceLogSumExp", 1, nullptr},
    {"ReduceMax", 1, nullptr},
    {"ReduceMean", 1, nullptr},
    {"ReduceMin", 1, nullptr},
    {"ReduceProd", 1, nullptr},
    {"ReduceSum", 13, RaiseAxes},
    {"ReduceSumSquare", 1, nullptr},
    {"Relu", 1, nullptr},
    {"Reshape", 5, RaiseReshape},
    {"Resize", 13, RaiseResize},
    {"ReverseSequence", 10, nullptr},
    {"RoiAlign", 10, nullptr},
    {"Round", 11, nullptr},
    {"Scan", 9, nullptr},
    {"Scatter", 13, RaiseScatter},
    {"ScatterElements", 11, nullptr},
    {"ScatterND", 11, nullptr},
    {"Selu", 6, nullptr},
    {"Shape", 1, nullptr},
    {"Shrink", 9, nullptr},
    {"Sigmoid", 1, nullptr},
    {"Sign", 9, nullptr},
    {"Sin", 7, nullptr},
    {"Sinh", 9, nullptr},
    {"Size", 1, nullptr},
    {"Slice", 10, RaiseSlice},
    {"Softmax", 13, RaiseSoftmax},
    {"Softplus", 1, nullptr},
    {"Softsign", 1, nullptr},
    {"SpaceToDepth", 1, nullptr},
    {"Split", 13, RaiseSplit},
    {"Sqrt", 1, nullptr},
    {"Squeeze", 13, RaiseAxes},
    {"Sub", 7, RaiseBroadcast},
    {"Sum", 1, nullptr},
    {"Tan", 7, nullptr},
    {"Tanh", 1, nullptr},
    {"ThresholdedRelu", 10, nullptr},
    {"Tile", 6, nullptr},
    {"TopK", 11, RaiseTopK},
    {"Transpose", 1, nullptr},
    {"Unique", 11, nullptr},
    {"Unsqueeze", 13, RaiseAxes},
    {"Upsample", 13, RaiseUpsample},
    {"Where", 9, nullptr},
    {"Xor", 7, RaiseBroadcast},
};

const OpHistory* HistoryOf(std::string_view op) {
  const auto* it = std::find_if(std::begin(kHistory), std::end(kHistory),
                                [&](const OpHistory& h) { return h.op == op; });
  return it == std::end(kHistory) ? nullptr : it;
}

}  // namespace

void UpgradeToOpset13(Graph& graph) {
  if (graph.opset() >= 13) return;
  Upgrade(graph).Run();
}

}  // namespace octet
