// Small ONNX messages for the tests of the reader, the upgrade and the writer.
#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/test_folder.h"
#include "files/onnx_read.h"

namespace octet::testing_models {

inline void SetShape(onnx::ValueInfoProto* info, const std::vector<int64_t>& dims) {
  auto* tensor = info->mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(onnx::TensorProto::FLOAT);
  tensor->mutable_shape();
  for (int64_t d : dims) tensor->mutable_shape()->add_dim()->set_dim_value(d);
}

// A model that grows by calls: input "x", output "y".
class ModelBuilder {
 public:
  explicit ModelBuilder(int64_t opset, const std::vector<int64_t>& x_dims = {2, 3}) {
    model.set_ir_version(7);
    model.set_producer_name("somebody");
    model.add_opset_import()->set_version(opset);
    auto* graph = model.mutable_graph();
    graph->set_name("g");
    auto* x = graph->add_input();
    x->set_name("x");
    SetShape(x, x_dims);
    auto* y = graph->add_output();
    y->set_name("y");
    y->mutable_type()->mutable_tensor_type()->set_elem_type(onnx::TensorProto::FLOAT);
  }

  onnx::NodeProto* Node(const std::string& op, const std::vector<std::string>& inputs,
                        const std::vector<std::string>& outputs) {
    auto* node = model.mutable_graph()->add_node();
    node->set_op_type(op);
    for (const auto& s : inputs) node->add_input(s);
    for (const auto& s : outputs) node->add_output(s);
    return node;
  }

  onnx::TensorProto* Initializer(const std::string& name, int32_t type,
                                 const std::vector<int64_t>& dims) {
    auto* tensor = model.mutable_graph()->add_initializer();
    tensor->set_name(name);
    tensor->set_data_type(type);
    for (int64_t d : dims) tensor->add_dims(d);
    return tensor;
  }

  [[nodiscard]] Graph Read(const std::filesystem::path& folder = "/nonexistent") const {
    const std::string bytes = model.SerializePartialAsString();
    return ParseOnnx(std::as_bytes(std::span(bytes)), folder);
  }

  onnx::ModelProto model;
};

inline void SetInt(onnx::NodeProto* node, const std::string& key, int64_t value) {
  auto* a = node->add_attribute();
  a->set_name(key);
  a->set_type(onnx::AttributeProto::INT);
  a->set_i(value);
}
inline void SetFloat(onnx::NodeProto* node, const std::string& key, float value) {
  auto* a = node->add_attribute();
  a->set_name(key);
  a->set_type(onnx::AttributeProto::FLOAT);
  a->set_f(value);
}
inline void SetString(onnx::NodeProto* node, const std::string& key, const std::string& value) {
  auto* a = node->add_attribute();
  a->set_name(key);
  a->set_type(onnx::AttributeProto::STRING);
  a->set_s(value);
}
inline void SetInts(onnx::NodeProto* node, const std::string& key,
                    const std::vector<int64_t>& values) {
  auto* a = node->add_attribute();
  a->set_name(key);
  a->set_type(onnx::AttributeProto::INTS);
  for (int64_t v : values) a->add_ints(v);
}

// Runs f, which must throw an Error of this code whose text holds these words.
template <typename F>
void ExpectErrorSaying(ErrorCode code, const std::string& words, const F& f) {
  ExpectError(code, f, words);
}

}  // namespace octet::testing_models
