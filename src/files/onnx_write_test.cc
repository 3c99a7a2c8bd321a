// The writer: what is read back is what was written; files appear whole or not at all. That
// onnx.checker takes the files is checked by tests/interop.
#include "files/onnx_write.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/test_folder.h"
#include "files/onnx_testing.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;
using namespace testing_models;
using P = onnx::TensorProto;

class OnnxWrite : public ::testing::Test {
 protected:
  [[nodiscard]] std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      names.push_back(entry.path().filename());
    return names;
  }

  TestFolder folder_;
};

// x [N,4] -> MatMul with 4x600 floats (9600 bytes) -> Add 600 floats (2400 bytes) -> Clip by
// scalars -> octet.QLookup -> y
Graph SampleGraph() {
  Graph g;
  g.name = "sample";
  g.opsets[""] = 13;
  const ValueId x = g.AddInput("x", {DType::kFloat32, true, {kUnknownDim, 4}, {"N", ""}});
  Tensor w(DType::kFloat32, {4, 600});
  for (int64_t i = 0; i < w.elements(); ++i)
    w.mutable_data<float>()[static_cast<size_t>(i)] = static_cast<float>(i);
  const ValueId weights = g.AddConstant("w", std::move(w));
  const ValueId bias = g.AddConstant("bias", Tensor(DType::kFloat32, {600}));
  const ValueId low = g.AddConstant("low", Tensor::Scalar<float>(0.0F));
  (void)g.AddConstant("unused", Tensor::Scalar<float>(5.0F));
  const ValueId m = g.AddValue("m");
  const ValueId a = g.AddValue("a");
  const ValueId c = g.AddValue("c");
  const ValueId y = g.AddValue("y");
  // Consumers first: the file must be in topological order all the same.
  g.AddNode({"QLookup",
             "octet",
             "lookup",
             {c},
             {y},
             {{"ints", std::vector<int64_t>{1, -2}},
              {"floats", std::vector<float>{0.5F}},
              {"text", std::string("t")},
              {"texts", std::vector<std::string>{"a", "b"}},
              {"f", 0.1F},
              {"i", int64_t{7}},
              {"table", std::make_shared<const Tensor>(Tensor::Of<uint8_t>({2}, {3, 4}))}}});
  g.AddNode({"Clip", "", "clip", {a, low, kNoValue}, {c}, {}});
  g.AddNode({"Add", "", "add", {m, bias}, {a}, {}});
  g.AddNode({"MatMul", "", "matmul", {x, weights}, {m}, {}});
  for (const ValueId v : {m, a, c, y})
    g.value(v).type = {DType::kFloat32, true, {kUnknownDim, 600}, {"N", ""}};
  g.outputs = {y};
  return g;
}

onnx::ModelProto Parse(const std::string& bytes) {
  onnx::ModelProto model;
  EXPECT_TRUE(model.ParseFromString(bytes));
  return model;
}

TEST_F(OnnxWrite, WhatIsReadBackIsWhatWasWritten) {
  const Graph g = SampleGraph();
  const auto path = folder_ / "m.onnx";
  EXPECT_THAT(WriteOnnx(g, path), ElementsAre(path));
  EXPECT_THAT(Files(), ElementsAre("m.onnx"));
  const Graph back = ReadOnnx(path);
  EXPECT_EQ(back.name, "sample");
  EXPECT_EQ(back.opsets, (std::map<std::string, int64_t>{{"", 13}, {"octet", 1}}));
  EXPECT_EQ(back.Find("unused"), kNoValue);
  EXPECT_EQ(back.value(back.Find("m")).type.ToString(), "float32[N,600]");
  EXPECT_EQ(back.ConstantOf(back.Find("w"))->data<float>()[2399], 2399.0F);
  EXPECT_EQ(back.node(0).name, "matmul");
  EXPECT_THAT(back.node(back.FindNode("clip")).inputs,
              ElementsAre(back.Find("a"), back.Find("low"), kNoValue));
  const Node& node = back.node(back.FindNode("lookup"));
  EXPECT_THAT(node.GetInts("ints", {}), ElementsAre(1, -2));
  EXPECT_THAT(node.GetFloats("floats", {}), ElementsAre(0.5F));
  EXPECT_EQ(node.GetString("text", ""), "t");
  EXPECT_EQ(std::get<std::vector<std::string>>(node.attributes.at("texts")),
            (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(node.GetFloat("f", 0.0F), 0.1F);
  EXPECT_EQ(node.GetInt("i", 0), 7);
  EXPECT_THAT(std::get<ConstantPtr>(node.attributes.at("table"))->data<uint8_t>(),
              ElementsAre(3, 4));
  EXPECT_EQ(SerializeOnnx(back), SerializeOnnx(g));
}

TEST_F(OnnxWrite, TheLowestIrVersionForTheOperatorSet) {
  Graph g = SampleGraph();
  for (const auto& [opset, ir] :
       {std::pair(13, 7), std::pair(14, 7), std::pair(15, 8), std::pair(18, 8), std::pair(19, 9),
        std::pair(20, 9), std::pair(21, 10), std::pair(22, 10), std::pair(23, 11)}) {
    g.opsets[""] = opset;
    EXPECT_EQ(Parse(SerializeOnnx(g)).ir_version(), ir) << opset;
  }
  g.opsets[""] = 13;
  g.value(g.Find("m")).type.dtype = DType::kFloat8E5M2;
  EXPECT_EQ(Parse(SerializeOnnx(g)).ir_version(), 9);
}

TEST_F(OnnxWrite, MetadataReplacesAndResidueStays) {
  ModelBuilder b(13);
  b.Node("Relu", {"x"}, {"y"});
  b.model.set_doc_string("a description");
  b.model.mutable_graph()->set_doc_string("of the graph");
  for (const auto& [key, value] : {std::pair("author", "me"), std::pair("date", "then")}) {
    auto* entry = b.model.add_metadata_props();
    entry->set_key(key);
    entry->set_value(value);
  }
  b.model.GetReflection()->MutableUnknownFields(&b.model)->AddVarint(4000, 7);
  OnnxWriteOptions options;
  options.metadata = {{"date", "now"}, {"recipe", "r"}};
  const onnx::ModelProto model = Parse(SerializeOnnx(b.Read(), options));
  EXPECT_EQ(model.producer_name(), "octet");
  EXPECT_EQ(model.doc_string(), "a description");
  EXPECT_EQ(model.graph().doc_string(), "of the graph");
  EXPECT_EQ(model.GetReflection()->GetUnknownFields(model).field_count(), 1);
  std::vector<std::string> entries;
  for (const auto& e : model.metadata_props()) entries.push_back(e.key() + "=" + e.value());
  EXPECT_THAT(entries, ElementsAre("author=me", "date=now", "recipe=r"));
}

TEST_F(OnnxWrite, ExternalDataIsAlignedAndSmallTensorsStay) {
  const Graph g = SampleGraph();
  const auto path = folder_ / "m.onnx";
  OnnxWriteOptions options;
  options.external_data_threshold = 12003;  // w, bias and low together have one byte more
  EXPECT_EQ(WriteOnnx(g, path, options).size(), 2U);
  EXPECT_THAT(Files(), UnorderedElementsAre("m.onnx", "m.onnx.data"));
  const onnx::ModelProto model = Parse(ReadFile(path));
  std::map<std::string, const P*> tensors;
  for (const auto& t : model.graph().initializer()) tensors[t.name()] = &t;
  EXPECT_EQ(tensors.at("low")->data_location(), P::DEFAULT);
  EXPECT_EQ(tensors.at("w")->external_data(1).value(), "0");
  EXPECT_EQ(tensors.at("bias")->external_data(0).value(), "m.onnx.data");
  EXPECT_EQ(tensors.at("bias")->external_data(1).value(), "12288");  // 9600 rounded up to 4096
  EXPECT_EQ(tensors.at("bias")->external_data(2).value(), "2400");
  EXPECT_FALSE(tensors.at("w")->has_raw_data());
  EXPECT_EQ(std::filesystem::file_size(folder_ / "m.onnx.data"), 12288U + 2400U);
  const Graph back = ReadOnnx(path);
  EXPECT_EQ(SerializeOnnx(back), SerializeOnnx(g));
  // Over itself, while its constants are mapped from the file that is replaced.
  (void)WriteOnnx(back, path, options);
  EXPECT_EQ(SerializeOnnx(ReadOnnx(path)), SerializeOnnx(g));

  options.external_data_threshold = 12004;
  EXPECT_EQ(WriteOnnx(g, folder_ / "inside.onnx", options).size(), 1U);
}

TEST_F(OnnxWrite, FailureLeavesNothingBehind) {
  const Graph g = SampleGraph();
  OnnxWriteOptions options;
  options.external_data_threshold = 0;
  ExpectErrorSaying(ErrorCode::kIo, "none", [&] { (void)WriteOnnx(g, folder_ / "none/m.onnx"); });
  ExpectErrorSaying(ErrorCode::kIo, "none",
                    [&] { (void)WriteOnnx(g, folder_ / "none/m.onnx", options); });
  // The model's own name is a folder: the data must not stay there alone.
  std::filesystem::create_directory(folder_ / "m.onnx");
  EXPECT_THROW((void)WriteOnnx(g, folder_ / "m.onnx", options), Error);
  EXPECT_THAT(Files(), ElementsAre("m.onnx"));
}

TEST_F(OnnxWrite, ADomainThatIsNotImportedIsABrokenGraph) {
  Graph g = SampleGraph();
  g.node(g.FindNode("lookup")).domain = "elsewhere";
  ExpectErrorSaying(ErrorCode::kInternal, "'elsewhere'", [&] { (void)SerializeOnnx(g); });
}

}  // namespace
}  // namespace octet
