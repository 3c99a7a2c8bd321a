// Graph to ModelProto.
#include "files/onnx_write.h"

#include <onnx/onnx_pb.h>

#include <array>
#include <limits>
#include <span>
#include <utility>

#include "base/checked_math.h"
#include "base/file.h"
#include "files/onnx_tensor.h"
#include "files/output_files.h"

namespace octet {
namespace {

constexpr int64_t kLeastExternal =
    1024;  // smaller tensors stay inside: shape inference needs their values
constexpr int64_t kAlignment = 4096;  // a page, so that the data can be mapped

// IR version by ai.onnx operator set: the releases 1.8 (IR 7) to 1.18 (IR 11).
int64_t IrVersionOf(int64_t opset) {
  if (opset <= 14) return 7;
  if (opset <= 18) return 8;
  if (opset <= 20) return 9;
  if (opset <= 22) return 10;
  return 11;
}

void SetType(const ValueType& type, onnx::TypeProto* proto) {
  auto* tensor = proto->mutable_tensor_type();
  tensor->set_elem_type(OnnxOfDType(type.dtype));
  if (!type.has_rank) return;
  auto* shape = tensor->mutable_shape();
  for (size_t i = 0; i < type.dims.size(); ++i) {
    auto* dim = shape->add_dim();
    if (type.dims[i] >= 0) {
      dim->set_dim_value(type.dims[i]);
    } else if (i < type.symbols.size() && !type.symbols[i].empty()) {
      dim->set_dim_param(type.symbols[i]);
    }
  }
}

// Where tensors go that are not written into the model: offsets are given out as they come.
class DataLayout {
 public:
  explicit DataLayout(std::string file_name) : file_name_(std::move(file_name)) {}

  struct Piece {
    const Tensor* tensor;
    int64_t offset;
  };

  void Place(const Tensor& tensor, onnx::TensorProto* proto) {
    end_ = (end_ + kAlignment - 1) / kAlignment * kAlignment;
    pieces_.push_back({&tensor, end_});
    proto->clear_raw_data();
    proto->set_data_location(onnx::TensorProto::EXTERNAL);
    const auto add = [&](const char* key, std::string value) {
      auto* entry = proto->add_external_data();
      entry->set_key(key);
      entry->set_value(std::move(value));
    };
    add("location", file_name_);
    add("offset", std::to_string(end_));
    add("length", std::to_string(tensor.bytes()));
    end_ += tensor.bytes();
  }

  [[nodiscard]] const std::vector<Piece>& pieces() const { return pieces_; }

 private:
  std::string file_name_;
  std::vector<Piece> pieces_;
  int64_t end_ = 0;
};

void WriteGraph(const Graph& graph, DataLayout* external, onnx::GraphProto* proto);

void SetAttribute(const std::string& name, const Attribute& attribute,
                  onnx::AttributeProto* proto) {
  using Proto = onnx::AttributeProto;
  proto->set_name(name);
  if (const auto* i = std::get_if<int64_t>(&attribute)) {
    proto->set_type(Proto::INT);
    proto->set_i(*i);
  } else if (const auto* f = std::get_if<float>(&attribute)) {
    proto->set_type(Proto::FLOAT);
    proto->set_f(*f);
  } else if (const auto* s = std::get_if<std::string>(&attribute)) {
    proto->set_type(Proto::STRING);
    proto->set_s(*s);
  } else if (const auto* ints = std::get_if<std::vector<int64_t>>(&attribute)) {
    proto->set_type(Proto::INTS);
    for (int64_t v : *ints) proto->add_ints(v);
  } else if (const auto* floats = std::get_if<std::vector<float>>(&attribute)) {
    proto->set_type(Proto::FLOATS);
    for (float v : *floats) proto->add_floats(v);
  } else if (const auto* strings = std::get_if<std::vector<std::string>>(&attribute)) {
    proto->set_type(Proto::STRINGS);
    for (const std::string& v : *strings) proto->add_strings(v);
  } else if (const auto* tensor = std::get_if<ConstantPtr>(&attribute)) {
    proto->set_type(Proto::TENSOR);
    *proto->mutable_t() = MakeTensorProto((*tensor)->view());
  } else {
    proto->set_type(Proto::GRAPH);
    WriteGraph(*std::get<std::shared_ptr<const Graph>>(attribute), nullptr, proto->mutable_g());
  }
}

void WriteNode(const Graph& graph, const Node& node, onnx::NodeProto* proto) {
  proto->set_name(node.name);
  proto->set_op_type(node.op);
  if (!node.domain.empty()) proto->set_domain(node.domain);
  const auto name_of = [&](ValueId id) {
    return id == kNoValue ? std::string() : graph.value(id).name;
  };
  for (ValueId id : node.inputs) proto->add_input(name_of(id));
  for (ValueId id : node.outputs) proto->add_output(name_of(id));
  for (const auto& [name, attribute] : node.attributes)
    SetAttribute(name, attribute, proto->add_attribute());
}

// Constants that a node or an output reads, in the order of their ids.
std::vector<ValueId> UsedConstants(const Graph& graph) {
  std::vector<bool> used(graph.value_count(), false);
  const auto mark = [&](const std::vector<ValueId>& ids) {
    for (ValueId id : ids) {
      if (id != kNoValue) used[static_cast<size_t>(id)] = true;
    }
  };
  for (size_t n = 0; n < graph.node_count(); ++n) mark(graph.node(static_cast<NodeId>(n)).inputs);
  mark(graph.outputs);
  std::vector<ValueId> constants;
  for (size_t v = 0; v < used.size(); ++v) {
    const auto id = static_cast<ValueId>(v);
    if (used[v] && graph.ConstantOf(id) != nullptr) constants.push_back(id);
  }
  return constants;
}

void WriteValue(const Value& value, onnx::ValueInfoProto* proto) {
  proto->set_name(value.name);
  if (value.type.dtype != DType::kUndefined) SetType(value.type, proto->mutable_type());
}

void WriteGraph(const Graph& graph, DataLayout* external, onnx::GraphProto* proto) {
  proto->set_name(graph.name.empty() ? "graph" : graph.name);
  for (ValueId id : graph.inputs) WriteValue(graph.value(id), proto->add_input());
  for (ValueId id : graph.outputs) WriteValue(graph.value(id), proto->add_output());
  for (ValueId id : UsedConstants(graph)) {
    const Tensor& tensor = *graph.value(id).constant;
    auto* initializer = proto->add_initializer();
    const bool outside = external != nullptr && tensor.bytes() >= kLeastExternal;
    if (outside) {
      initializer->set_data_type(OnnxOfDType(tensor.dtype()));
      for (int64_t d : tensor.shape().dims()) initializer->add_dims(d);
      external->Place(tensor, initializer);
    } else {
      *initializer = MakeTensorProto(tensor.view());
    }
    initializer->set_name(graph.value(id).name);
  }
  for (NodeId n : graph.TopologicalOrder()) {
    const Node& node = graph.node(n);
    WriteNode(graph, node, proto->add_node());
    for (ValueId id : node.outputs) {
      if (id == kNoValue || graph.IsOutput(id) || graph.value(id).type.dtype == DType::kUndefined)
        continue;
      WriteValue(graph.value(id), proto->add_value_info());
    }
  }
}

// Domains that nodes use, nested graphs included, beside those the graph imports.
void CollectDomains(const Graph& graph, std::map<std::string, int64_t>* domains, bool* float8) {
  for (size_t n = 0; n < graph.node_count(); ++n) {
    const Node& node = graph.node(static_cast<NodeId>(n));
    if (node.removed) continue;
    if (!domains->contains(node.domain)) {
      // Of these there is one version only.
      if (node.domain != "octet" && node.domain != "com.microsoft") {
        Fail(ErrorCode::kInternal, "write ONNX: node '", node.name, "' is of the domain '",
             node.domain, "', which the graph does not import");
      }
      domains->emplace(node.domain, 1);
    }
    for (const auto& [name, attribute] : node.attributes) {
      const auto* nested = std::get_if<std::shared_ptr<const Graph>>(&attribute);
      if (nested != nullptr) CollectDomains(**nested, domains, float8);
    }
  }
  for (size_t v = 0; v < graph.value_count(); ++v) {
    *float8 = *float8 || IsFloat8(graph.value(static_cast<ValueId>(v)).type.dtype);
  }
}

void SetMetadata(const std::map<std::string, std::string>& metadata, onnx::ModelProto* model) {
  for (const auto& [key, value] : metadata) {
    onnx::StringStringEntryProto* entry = nullptr;
    for (auto& present : *model->mutable_metadata_props()) {
      if (present.key() == key) entry = &present;
    }
    if (entry == nullptr) entry = model->add_metadata_props();
    entry->set_key(key);
    entry->set_value(value);
  }
}

onnx::ModelProto MakeModel(const Graph& graph, const OnnxWriteOptions& options,
                           DataLayout* external) {
  onnx::ModelProto model;
  if (!graph.model_residue.empty() && !model.ParsePartialFromString(graph.model_residue)) {
    Fail(ErrorCode::kInternal, "write ONNX: the residue of the model that was read does not parse");
  }
  std::map<std::string, int64_t> domains = graph.opsets;
  bool float8 = false;
  CollectDomains(graph, &domains, &float8);
  int64_t ir_version = IrVersionOf(graph.opset());
  if (model.functions_size() > 0) ir_version = std::max<int64_t>(ir_version, 8);
  if (float8) ir_version = std::max<int64_t>(ir_version, 9);
  model.set_ir_version(ir_version);
  model.set_producer_name("octet");
  model.clear_producer_version();
  model.clear_training_info();  // it speaks of nodes and initializers that may be gone
  model.clear_opset_import();
  for (const auto& [domain, version] : domains) {
    auto* import = model.add_opset_import();
    import->set_domain(domain);
    import->set_version(version);
  }
  SetMetadata(options.metadata, &model);
  WriteGraph(graph, external, model.mutable_graph());
  return model;
}

std::string Serialize(const onnx::ModelProto& model) {
  const size_t size = model.ByteSizeLong();
  if (std::cmp_greater(size, std::numeric_limits<int32_t>::max())) {
    Fail(ErrorCode::kUnsupported, "write ONNX: a model of ", size,
         " bytes; above 2 GiB its constants must be external data");
  }
  std::string bytes;
  if (!model.SerializePartialToString(&bytes))
    Fail(ErrorCode::kInternal, "write ONNX: protobuf cannot serialize it");
  return bytes;
}

void WriteData(const std::filesystem::path& path, const DataLayout& layout) {
  static constexpr std::array<std::byte, kAlignment> kZeros{};
  AtomicFile file(path);
  for (const auto& piece : layout.pieces()) {
    const uint64_t gap = static_cast<uint64_t>(piece.offset) - file.offset();
    file.Write(std::span(kZeros).first(static_cast<size_t>(gap)));
    file.Write(std::span(static_cast<const std::byte*>(piece.tensor->raw()),
                         static_cast<size_t>(piece.tensor->bytes())));
  }
  file.Commit();
}

int64_t ConstantBytes(const Graph& graph) {
  int64_t total = 0;
  for (ValueId id : UsedConstants(graph)) {
    total = CheckedAdd(total, graph.value(id).constant->bytes())
                .value_or(std::numeric_limits<int64_t>::max());
  }
  return total;
}

}  // namespace

std::string SerializeOnnx(const Graph& graph, const OnnxWriteOptions& options) {
  return Serialize(MakeModel(graph, options, nullptr));
}

std::vector<std::filesystem::path> WriteOnnx(const Graph& graph, const std::filesystem::path& path,
                                             const OnnxWriteOptions& options) {
  if (ConstantBytes(graph) <= options.external_data_threshold) {
    WriteFileAtomic(path, SerializeOnnx(graph, options));
    return {path};
  }
  // Beside the model, not beside a link to it.
  const std::filesystem::path place = FollowLinks(path);
  const std::string name = place.filename().string();
  const std::string data_name = name + ".data";
  DataLayout layout(data_name);
  const std::string bytes = Serialize(MakeModel(graph, options, &layout));
  if (layout.pieces().empty()) {
    WriteFileAtomic(path, bytes);
    return {path};
  }
  const auto folder =
      place.parent_path().empty() ? std::filesystem::path(".") : place.parent_path();
  OutputFiles files(folder);
  WriteData(files.Add(data_name), layout);
  WriteFileAtomic(files.Add(name), bytes);
  files.Commit();
  return {path, place.parent_path() / data_name};
}

}  // namespace octet
