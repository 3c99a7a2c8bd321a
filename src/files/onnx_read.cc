// ModelProto to Graph. Every name is resolved here, so that the graph knows indices only; what the
// graph has no place for is kept as residue for the writer.
#include "files/onnx_read.h"

#include <google/protobuf/io/coded_stream.h>
#include <onnx/onnx_pb.h>

#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "files/onnx_tensor.h"
#include "files/onnx_upgrade.h"
#include "graph/ops.h"

namespace octet {
namespace {

constexpr int64_t kNewestIrVersion = 13;

constexpr std::string_view kAdvice =
    "; control flow over values around it is outside what Octet does. An If that only asks for "
    "shapes goes away where the model is exported, or simplified, for fixed input shapes";

std::string NormalDomain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

ValueType TypeOf(const onnx::TypeProto& proto, const std::string& what) {
  if (!proto.has_tensor_type()) {
    Fail(ErrorCode::kUnsupported, what, ": it is not a tensor (TypeProto case ",
         static_cast<int>(proto.value_case()), ")");
  }
  const auto& tensor = proto.tensor_type();
  const auto dtype = DTypeOfOnnx(tensor.elem_type());
  if (!dtype && tensor.elem_type() != 0) {
    Fail(ErrorCode::kUnsupported, what, ": element type ", OnnxTypeName(tensor.elem_type()));
  }
  ValueType type = ValueType::Unranked(dtype.value_or(DType::kUndefined));
  if (!tensor.has_shape()) return type;
  type.has_rank = true;
  bool any_symbol = false;
  for (const auto& dim : tensor.shape().dim()) {
    // A negative number is how some exporters say "unknown".
    type.dims.push_back(dim.has_dim_value() && dim.dim_value() >= 0 ? dim.dim_value()
                                                                    : kUnknownDim);
    type.symbols.push_back(dim.dim_param());
    any_symbol = any_symbol || !dim.dim_param().empty();
  }
  if (!any_symbol) type.symbols.clear();
  return type;
}

// Reads one GraphProto; nested graphs (If, Loop) get a reader of their own.
class GraphReader {
 public:
  GraphReader(ExternalData& external, const std::map<std::string, int64_t>& opsets, bool nested)
      : external_(external), nested_(nested) {
    graph_.opsets = opsets;
  }

  Graph Read(onnx::GraphProto& proto);

 private:
  void ReadInitializers(onnx::GraphProto& proto);
  void ReadInputs(const onnx::GraphProto& proto);
  void DeclareOutputs(onnx::NodeProto& proto);
  void ReadNode(onnx::NodeProto& proto);
  void ReadOutputs(const onnx::GraphProto& proto);
  Tensor ReadConstantNode(onnx::NodeProto& proto, const std::string& what);
  Attribute ReadAttribute(onnx::AttributeProto& proto, const std::string& node);
  // A value of this name, which must be new and not empty.
  void Declare(const std::string& name, std::string_view what) {
    if (name.empty()) Fail(ErrorCode::kBadFile, what, " without a name");
    if (graph_.Find(name) != kNoValue)
      Fail(ErrorCode::kBadFile, what, " '", name, "': the name is taken already");
  }

  ExternalData& external_;
  bool nested_;
  Graph graph_;
};

Graph GraphReader::Read(onnx::GraphProto& proto) {
  graph_.name = proto.name();
  if (proto.sparse_initializer_size() > 0) {
    Fail(ErrorCode::kUnsupported, "initializer '", proto.sparse_initializer(0).values().name(),
         "' is sparse");
  }
  ReadInitializers(proto);
  ReadInputs(proto);
  for (auto& node : *proto.mutable_node()) DeclareOutputs(node);
  for (auto& node : *proto.mutable_node()) ReadNode(node);
  for (const auto& info : proto.value_info()) {
    const ValueId id = graph_.Find(info.name());
    if (id == kNoValue || graph_.value(id).constant != nullptr || !info.type().has_tensor_type())
      continue;
    if (!DTypeOfOnnx(info.type().tensor_type().elem_type()))
      continue;  // its producer will say so, if need be
    graph_.value(id).type = TypeOf(info.type(), info.name());
  }
  ReadOutputs(proto);
  graph_.Verify("after import");
  return std::move(graph_);
}

void GraphReader::ReadInitializers(onnx::GraphProto& proto) {
  for (auto& initializer : *proto.mutable_initializer()) {
    Declare(initializer.name(), "initializer");
    graph_.AddConstant(
        initializer.name(),
        TakeTensor(initializer, external_, Cat("initializer '", initializer.name(), "'")));
  }
}

void GraphReader::ReadInputs(const onnx::GraphProto& proto) {
  for (const auto& input : proto.input()) {
    // Up to IR version 3 every initializer is listed as an input too; later that makes it a default
    // value, which Octet takes as the value.
    if (graph_.ConstantOf(graph_.Find(input.name())) != nullptr) continue;
    Declare(input.name(), "graph input");
    // The inputs of a nested graph may be untyped.
    const std::string what = Cat("graph input '", input.name(), "'");
    const bool typed = !nested_ || input.has_type();
    const ValueType type = typed ? TypeOf(input.type(), what) : ValueType{};
    if (!nested_ && type.dtype == DType::kUndefined) {
      Fail(ErrorCode::kBadFile, what, ": it has no element type");
    }
    graph_.AddInput(input.name(), type);
  }
}

std::string NameForMessages(const onnx::NodeProto& proto) {
  if (!proto.name().empty()) return Cat("node '", proto.name(), "' (", proto.op_type(), ")");
  return Cat("node of '", proto.output_size() > 0 ? proto.output(0) : "", "' (", proto.op_type(),
             ")");
}

bool IsConstantNode(const onnx::NodeProto& proto) {
  return proto.op_type() == "Constant" && NormalDomain(proto.domain()).empty();
}

void GraphReader::DeclareOutputs(onnx::NodeProto& proto) {
  const std::string what = NameForMessages(proto);
  if (IsConstantNode(proto)) {
    if (proto.output_size() != 1)
      Fail(ErrorCode::kBadFile, what, ": ", proto.output_size(), " outputs, expected 1");
    Declare(proto.output(0), Cat(what, ": output"));
    graph_.AddConstant(proto.output(0), ReadConstantNode(proto, what));
    return;
  }
  for (const auto& output : proto.output()) {
    if (output.empty()) continue;
    Declare(output, Cat(what, ": output"));
    graph_.AddValue(output);
  }
}

void GraphReader::ReadNode(onnx::NodeProto& proto) {
  if (IsConstantNode(proto)) return;
  const std::string what = NameForMessages(proto);
  if (proto.op_type().empty()) Fail(ErrorCode::kBadFile, what, ": it has no operator");
  Node node;
  node.op = proto.op_type();
  node.domain = NormalDomain(proto.domain());
  node.name = proto.name();
  if (!graph_.opsets.contains(node.domain)) {
    Fail(ErrorCode::kBadFile, what, ": its domain '", node.domain,
         "' is not among the model's opset_import");
  }
  for (const auto& input : proto.input()) {
    const ValueId id = input.empty() ? kNoValue : graph_.Find(input);
    if (!input.empty() && id == kNoValue) {
      if (nested_)
        Fail(ErrorCode::kUnsupported, what, ": it reads '", input, "' of the enclosing graph",
             kAdvice);
      Fail(ErrorCode::kBadFile, what, ": it reads '", input, "', which nothing defines");
    }
    node.inputs.push_back(id);
  }
  for (const auto& output : proto.output()) node.outputs.push_back(graph_.Find(output));
  for (auto& attribute : *proto.mutable_attribute()) {
    if (node.Has(attribute.name()))
      Fail(ErrorCode::kBadFile, what, ": attribute '", attribute.name(), "' twice");
    node.attributes.emplace(attribute.name(), ReadAttribute(attribute, what));
  }
  graph_.AddNode(std::move(node));
}

void GraphReader::ReadOutputs(const onnx::GraphProto& proto) {
  for (const auto& output : proto.output()) {
    const ValueId id = graph_.Find(output.name());
    if (id == kNoValue) {
      if (nested_)
        Fail(ErrorCode::kUnsupported, "nested graph output '", output.name(),
             "' is of the enclosing graph", kAdvice);
      Fail(ErrorCode::kBadFile, "graph output '", output.name(), "', which nothing defines");
    }
    graph_.outputs.push_back(id);
    const bool typed = output.type().value_case() != onnx::TypeProto::VALUE_NOT_SET;
    if (typed && !output.type().has_tensor_type()) {
      Fail(ErrorCode::kUnsupported, "graph output '", output.name(), "' is not a tensor");
    }
    Value& value = graph_.value(id);
    if (value.producer == kNoNode || !output.type().has_tensor_type()) continue;
    if (DTypeOfOnnx(output.type().tensor_type().elem_type()))
      value.type = TypeOf(output.type(), output.name());
  }
}

Tensor GraphReader::ReadConstantNode(onnx::NodeProto& proto, const std::string& what) {
  if (proto.attribute_size() != 1) {
    Fail(ErrorCode::kBadFile, what, ": ", proto.attribute_size(), " attributes, expected 1");
  }
  auto& attribute = *proto.mutable_attribute(0);
  const auto is = [&](std::string_view key, bool has) {
    if (attribute.name() != key) return false;
    if (!has) Fail(ErrorCode::kBadFile, what, ": attribute '", key, "' is of another type");
    return true;
  };
  const auto vector = [](int size) { return Shape{static_cast<int64_t>(size)}; };
  if (is("value", attribute.has_t())) return TakeTensor(*attribute.mutable_t(), external_, what);
  if (is("value_float", attribute.has_f())) return Tensor::Scalar<float>(attribute.f());
  if (is("value_int", attribute.has_i())) return Tensor::Scalar<int64_t>(attribute.i());
  if (is("value_floats", true)) {
    const auto& list = attribute.floats();
    return Tensor::Of<float>(vector(list.size()),
                             std::span(list.data(), static_cast<size_t>(list.size())));
  }
  if (is("value_ints", true)) {
    const std::vector<int64_t> list(attribute.ints().begin(), attribute.ints().end());
    return Tensor::Of<int64_t>(vector(attribute.ints_size()), list);
  }
  Fail(ErrorCode::kUnsupported, what, ": attribute '", attribute.name(),
       "'; it holds no tensor of numbers");
}

// Before IR version 2 an attribute did not say its type.
onnx::AttributeProto::AttributeType AttributeTypeOf(const onnx::AttributeProto& proto) {
  using Proto = onnx::AttributeProto;
  if (proto.type() != Proto::UNDEFINED) return proto.type();
  if (proto.has_f()) return Proto::FLOAT;
  if (proto.has_i()) return Proto::INT;
  if (proto.has_s()) return Proto::STRING;
  if (proto.has_t()) return Proto::TENSOR;
  if (proto.has_g()) return Proto::GRAPH;
  if (proto.floats_size() > 0) return Proto::FLOATS;
  if (proto.ints_size() > 0) return Proto::INTS;
  if (proto.strings_size() > 0) return Proto::STRINGS;
  return Proto::UNDEFINED;
}

Attribute GraphReader::ReadAttribute(onnx::AttributeProto& proto, const std::string& node) {
  const std::string what = Cat(node, ": attribute '", proto.name(), "'");
  if (proto.name().empty()) Fail(ErrorCode::kBadFile, node, ": an attribute without a name");
  if (!proto.ref_attr_name().empty()) {
    Fail(ErrorCode::kBadFile, what, " refers to '", proto.ref_attr_name(),
         "' outside of a function");
  }
  using Proto = onnx::AttributeProto;
  switch (AttributeTypeOf(proto)) {
    case Proto::FLOAT:
      return proto.f();
    case Proto::INT:
      return static_cast<int64_t>(proto.i());
    case Proto::STRING:
      return proto.s();
    case Proto::FLOATS:
      return std::vector<float>(proto.floats().begin(), proto.floats().end());
    case Proto::INTS:
      return std::vector<int64_t>(proto.ints().begin(), proto.ints().end());
    case Proto::STRINGS:
      return std::vector<std::string>(proto.strings().begin(), proto.strings().end());
    case Proto::TENSOR:
      return std::make_shared<const Tensor>(TakeTensor(*proto.mutable_t(), external_, what));
    case Proto::GRAPH: {
      GraphReader reader(external_, graph_.opsets, true);
      try {
        Graph nested = reader.Read(*proto.mutable_g());
        UpgradeToOpset13(nested);
        return std::make_shared<const Graph>(std::move(nested));
      } catch (const Error& error) {
        Fail(error.code(), what, ": ", error.what());
      }
    }
    default:
      Fail(ErrorCode::kUnsupported, what, ": attribute type ", static_cast<int>(proto.type()));
  }
}

std::map<std::string, int64_t> OpsetsOf(const onnx::ModelProto& model) {
  std::map<std::string, int64_t> opsets;
  for (const auto& import : model.opset_import()) {
    const auto [it, added] = opsets.emplace(NormalDomain(import.domain()), import.version());
    if (!added && it->second != import.version()) {
      Fail(ErrorCode::kBadFile, "opset_import names domain '", import.domain(), "' with versions ",
           it->second, " and ", import.version());
    }
  }
  if (model.ir_version() < 3)
    opsets.emplace("", 1);  // before IR version 3 there was no opset_import
  const auto it = opsets.find("");
  if (it == opsets.end()) Fail(ErrorCode::kUnsupported, "opset_import lacks the domain ai.onnx");
  if (it->second < 1)
    Fail(ErrorCode::kBadFile, "operator set ", it->second, " of ai.onnx; expected 1 or above");
  if (it->second > kNewestOpset) {
    Fail(ErrorCode::kUnsupported, "operator set ", it->second, " of ai.onnx; the newest known is ",
         kNewestOpset, ": export the model with that one or an older one");
  }
  return opsets;
}

// What is left of the model when the graph is taken out; names and descriptions of the graph stay.
std::string ResidueOf(onnx::ModelProto& model) {
  auto* graph = model.mutable_graph();
  graph->clear_node();
  graph->clear_initializer();
  graph->clear_sparse_initializer();
  graph->clear_input();
  graph->clear_output();
  graph->clear_value_info();
  graph->clear_quantization_annotation();
  return model.SerializePartialAsString();
}

}  // namespace

Graph ParseOnnx(std::span<const std::byte> bytes,
                const std::filesystem::path& folder_for_external_data) {
  if (std::cmp_greater(bytes.size(), std::numeric_limits<int>::max())) {
    Fail(ErrorCode::kBadFile, "an ONNX message of ", bytes.size(),
         " bytes; 2 GiB is the most there can be");
  }
  onnx::ModelProto model;
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  stream.SetTotalBytesLimit(std::numeric_limits<int>::max());
  if (!model.ParsePartialFromCodedStream(&stream) || !stream.ConsumedEntireMessage()) {
    Fail(ErrorCode::kBadFile, "not an ONNX model, or cut short or damaged: its ", bytes.size(),
         " bytes do not parse as a ModelProto");
  }
  if (!model.has_ir_version() || model.ir_version() < 1 || !model.has_graph()) {
    Fail(ErrorCode::kBadFile,
         "not an ONNX model: ", model.has_graph() ? "no ir_version" : "no graph");
  }
  if (model.ir_version() > kNewestIrVersion) {
    Fail(ErrorCode::kUnsupported, "IR version ", model.ir_version(), "; the newest known is ",
         kNewestIrVersion);
  }
  ExternalData external(folder_for_external_data);
  GraphReader reader(external, OpsetsOf(model), false);
  Graph graph = reader.Read(*model.mutable_graph());
  graph.model_residue = ResidueOf(model);
  UpgradeToOpset13(graph);
  graph.Verify("after import");
  InferShapes(graph, /*strict=*/false);
  return graph;
}

Graph ReadOnnx(const std::filesystem::path& path) {
  const MappedFile file(path);
  try {
    return ParseOnnx(file.bytes(), path.parent_path());
  } catch (const Error& error) {
    Fail(error.code(), "cannot read '", path.string(), "': ", error.what());
  }
}

}  // namespace octet
