// The reader: what it takes, and what it says of bytes that are not what they claim.
#include "files/onnx_read.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/test_folder.h"
#include "files/onnx_testing.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using namespace testing_models;
using P = onnx::TensorProto;

ModelBuilder AddModel() {
  ModelBuilder b(13);
  auto* c = b.Initializer("c", P::FLOAT, {3});
  for (const float v : {1.0F, 2.0F, 3.0F}) c->add_float_data(v);
  b.Node("Add", {"x", "c"}, {"y"});
  return b;
}

TEST(OnnxRead, NodesValuesAndTypes) {
  const Graph g = AddModel().Read();
  EXPECT_EQ(g.opset(), 13);
  EXPECT_EQ(g.name, "g");
  ASSERT_EQ(g.inputs.size(), 1U);
  EXPECT_EQ(g.value(g.inputs[0]).type.ToString(), "float32[2,3]");
  ASSERT_EQ(g.outputs.size(), 1U);
  EXPECT_EQ(g.value(g.outputs[0]).type.ToString(), "float32[2,3]");  // inferred
  const Node& node = g.node(g.value(g.outputs[0]).producer);
  EXPECT_EQ(node.op, "Add");
  EXPECT_FALSE(node.name.empty());
  EXPECT_THAT(g.ConstantOf(node.inputs[1])->data<float>(), ElementsAre(1, 2, 3));
}

TEST(OnnxRead, EveryElementTypeFromTypedFields) {
  ModelBuilder b = AddModel();
  b.Initializer("i8", P::INT8, {2})->add_int32_data(-128);
  b.model.mutable_graph()->mutable_initializer(1)->add_int32_data(127);
  b.Initializer("u16", P::UINT16, {1})->add_int32_data(65535);
  b.Initializer("u32", P::UINT32, {1})->add_uint64_data(0xFFFFFFFFU);
  b.Initializer("f64", P::DOUBLE, {})->add_double_data(0.1);
  b.Initializer("half", P::FLOAT16, {1})->add_int32_data(0x3C00);
  b.Initializer("e4m3", 17, {1})->add_int32_data(0x7E);
  b.Initializer("e5m2fnuz", 20, {1})->set_raw_data("\x80");
  b.Initializer("flag", P::BOOL, {1})->add_int32_data(1);
  const Graph g = b.Read();
  EXPECT_THAT(g.ConstantOf(g.Find("i8"))->data<int8_t>(), ElementsAre(-128, 127));
  EXPECT_THAT(g.ConstantOf(g.Find("u16"))->data<uint16_t>(), ElementsAre(65535));
  EXPECT_THAT(g.ConstantOf(g.Find("u32"))->data<uint32_t>(), ElementsAre(0xFFFFFFFFU));
  EXPECT_THAT(g.ConstantOf(g.Find("f64"))->data<double>(), ElementsAre(0.1));
  EXPECT_EQ(g.ConstantOf(g.Find("half"))->dtype(), DType::kFloat16);
  EXPECT_EQ(std::memcmp(g.ConstantOf(g.Find("half"))->raw(), "\x00\x3C", 2), 0);
  EXPECT_EQ(g.ConstantOf(g.Find("e4m3"))->dtype(), DType::kFloat8E4M3Fn);
  EXPECT_EQ(*static_cast<const uint8_t*>(g.ConstantOf(g.Find("e4m3"))->raw()), 0x7E);
  EXPECT_EQ(g.ConstantOf(g.Find("e5m2fnuz"))->dtype(), DType::kFloat8E5M2FnUz);
  EXPECT_TRUE(g.ConstantOf(g.Find("flag"))->data<bool>()[0]);
}

TEST(OnnxRead, InitializersThatAreInputsAreConstants) {
  ModelBuilder b = AddModel();
  auto* input = b.model.mutable_graph()->add_input();
  input->set_name("c");
  SetShape(input, {3});
  const Graph g = b.Read();
  EXPECT_EQ(g.inputs.size(), 1U);
  EXPECT_NE(g.ConstantOf(g.Find("c")), nullptr);
}

TEST(OnnxRead, ConstantNodesBecomeConstants) {
  ModelBuilder b(13);
  auto* a = b.Node("Constant", {}, {"c"})->add_attribute();
  a->set_name("value_floats");
  a->set_type(onnx::AttributeProto::FLOATS);
  a->add_floats(4.0F);
  b.Node("Add", {"x", "c"}, {"y"});
  const Graph g = b.Read();
  EXPECT_EQ(g.node_count(), 1U);
  EXPECT_THAT(g.ConstantOf(g.Find("c"))->data<float>(), ElementsAre(4.0F));
}

TEST(OnnxRead, WhatTheGraphHasNoPlaceForIsKept) {
  ModelBuilder b = AddModel();
  auto* entry = b.model.add_metadata_props();
  entry->set_key("author");
  entry->set_value("me");
  b.model.GetReflection()->MutableUnknownFields(&b.model)->AddVarint(4000,
                                                                     7);  // of some later ONNX
  const Graph g = b.Read();
  onnx::ModelProto residue;
  ASSERT_TRUE(residue.ParseFromString(g.model_residue));
  EXPECT_EQ(residue.metadata_props(0).value(), "me");
  EXPECT_EQ(residue.graph().node_size(), 0);
  EXPECT_EQ(residue.graph().initializer_size(), 0);
  EXPECT_EQ(residue.GetReflection()->GetUnknownFields(residue).field(0).varint(), 7U);
}

TEST(OnnxRead, NestedGraphsWithoutCapturesAreKept) {
  ModelBuilder b(13);
  auto* node = b.Node("If", {"x"}, {"y"});
  auto* a = node->add_attribute();
  a->set_name("then_branch");
  a->set_type(onnx::AttributeProto::GRAPH);
  auto* inner = a->mutable_g()->add_node();
  inner->set_op_type("Constant");
  inner->add_output("k");
  auto* value = inner->add_attribute();
  value->set_name("value_float");
  value->set_type(onnx::AttributeProto::FLOAT);
  value->set_f(2.0F);
  a->mutable_g()->add_output()->set_name("k");
  const Graph g = b.Read();
  const auto& nested =
      std::get<std::shared_ptr<const Graph>>(g.node(0).attributes.at("then_branch"));
  EXPECT_NE(nested->ConstantOf(nested->outputs[0]), nullptr);

  a->mutable_g()->mutable_output(0)->set_name("x");
  ExpectErrorSaying(ErrorCode::kUnsupported,
                    "(If): attribute 'then_branch': nested graph output 'x'",
                    [&] { (void)b.Read(); });
}

TEST(OnnxRead, OperatorSets) {
  ModelBuilder b = AddModel();
  b.model.mutable_opset_import(0)->set_version(23);
  EXPECT_EQ(b.Read().opset(), 23);
  b.model.mutable_opset_import(0)->set_version(24);
  ExpectErrorSaying(ErrorCode::kUnsupported, "operator set 24", [&] { (void)b.Read(); });
  b.model.mutable_opset_import(0)->set_version(0);
  ExpectErrorSaying(ErrorCode::kBadFile, "operator set 0", [&] { (void)b.Read(); });
  b.model.mutable_opset_import(0)->set_version(13);
  b.model.set_ir_version(99);
  ExpectErrorSaying(ErrorCode::kUnsupported, "IR version 99", [&] { (void)b.Read(); });
}

TEST(OnnxRead, ExternalDataIsMappedFromTheModelsFolder) {
  const TestFolder folder;
  const float values[] = {0.0F, 7.0F, 8.0F, 9.0F};
  folder.Write("w.bin", std::string(reinterpret_cast<const char*>(values), sizeof(values)));
  ModelBuilder b(13);
  auto* c = b.Initializer("c", P::FLOAT, {3});
  c->set_data_location(P::EXTERNAL);
  const auto set = [&](const std::string& location, const std::string& offset,
                       const std::string& length) {
    c->clear_external_data();
    for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
             {"location", location}, {"offset", offset}, {"length", length}}) {
      auto* entry = c->add_external_data();
      entry->set_key(key);
      entry->set_value(value);
    }
  };
  b.Node("Add", {"x", "c"}, {"y"});
  set("w.bin", "4", "12");
  EXPECT_THAT(b.Read(folder.path()).ConstantOf(0)->data<float>(), ElementsAre(7, 8, 9));
  set("./w.bin", "4", "12");
  EXPECT_NO_THROW((void)b.Read(folder.path()));

  const auto refused = [&](ErrorCode code, const std::string& words) {
    ExpectErrorSaying(code, words, [&] { (void)b.Read(folder.path()); });
  };
  set("w.bin", "8", "12");
  refused(ErrorCode::kBadFile, "which has 16");
  set("w.bin", "9223372036854775807", "12");
  refused(ErrorCode::kBadFile, "which has 16");
  set("w.bin", "0", "16");
  refused(ErrorCode::kBadFile, "needs 12 bytes, got 16");
  set("w.bin", "-4", "12");
  refused(ErrorCode::kBadFile, "offset is '-4'");
  set("none.bin", "0", "12");
  refused(ErrorCode::kIo,
          "initializer 'c': its external data '" + (folder.path() / "none.bin").string());
  set("/etc/passwd", "0", "12");
  refused(ErrorCode::kBadFile, "'/etc/passwd'; expected a path within the model's folder");
  set("sub/../../w.bin", "0", "12");
  refused(ErrorCode::kBadFile, "within the model's folder");
  set("", "0", "12");
  refused(ErrorCode::kBadFile, "within the model's folder");
  set(".", "0", "12");
  EXPECT_THROW((void)b.Read(folder.path()), Error);

  const TestFolder elsewhere;
  elsewhere.Write("w.bin", std::string(16, '\0'));
  std::filesystem::create_symlink(elsewhere.path() / "w.bin", folder.path() / "link.bin");
  set("link.bin", "0", "12");
  refused(ErrorCode::kBadFile, "a link that leaves the model's folder");
}

TEST(OnnxRead, MisalignedExternalDataIsCopied) {
  const TestFolder folder;
  folder.Write("w.bin", std::string("?") + std::string("\x00\x00\x80\x3F", 4));  // 1.0F at offset 1
  ModelBuilder b(13);
  auto* c = b.Initializer("c", P::FLOAT, {1});
  c->set_data_location(P::EXTERNAL);
  for (const auto& [key, value] : {std::pair("location", "w.bin"), std::pair("offset", "1")}) {
    auto* entry = c->add_external_data();
    entry->set_key(key);
    entry->set_value(value);
  }
  b.Node("Add", {"x", "c"}, {"y"});
  const Graph g = b.Read(folder.path());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(g.ConstantOf(0)->raw()) % 4, 0U);
  EXPECT_EQ(g.ConstantOf(0)->data<float>()[0], 1.0F);
}

TEST(OnnxRead, TensorsThatDoNotHoldWhatTheySay) {
  const auto refused = [](ErrorCode code, const std::string& words, auto change) {
    ModelBuilder b = AddModel();
    change(b.model.mutable_graph()->mutable_initializer(0));
    ExpectErrorSaying(code, words, [&] { (void)b.Read(); });
  };
  refused(ErrorCode::kBadFile, "float32[3] needs 3 elements, got 2",
          [](P* t) { t->mutable_float_data()->RemoveLast(); });
  refused(ErrorCode::kBadFile, "needs 12 bytes, got 11",
          [](P* t) { t->set_raw_data(std::string(11, 'x')); });
  refused(ErrorCode::kBadFile, "negative dimension -3", [](P* t) { t->set_dims(0, -3); });
  refused(ErrorCode::kBadFile, "overflows", [](P* t) {
    t->set_dims(0, int64_t{1} << 62);
    t->add_dims(8);
  });
  refused(ErrorCode::kBadFile, "needs 1099511627776 elements, got 3",
          [](P* t) { t->set_dims(0, int64_t{1} << 40); });
  refused(ErrorCode::kUnsupported, "rank 9", [](P* t) {
    for (int i = 0; i < 8; ++i) t->add_dims(1);
  });
  refused(ErrorCode::kUnsupported, "string", [](P* t) { t->set_data_type(8); });
  refused(ErrorCode::kUnsupported, "int4", [](P* t) { t->set_data_type(22); });
  refused(ErrorCode::kBadFile, "no element type", [](P* t) { t->clear_data_type(); });
  refused(ErrorCode::kBadFile, "out of range for int8", [](P* t) {
    t->set_data_type(P::INT8);
    for (const int v : {1, 2, 128}) t->add_int32_data(v);
  });
  refused(ErrorCode::kBadFile, "neither 0 nor 1", [](P* t) {
    t->set_data_type(P::BOOL);
    t->set_raw_data(std::string("\1\0\2", 3));
  });
}

TEST(OnnxRead, GraphsThatContradictThemselves) {
  const auto refused = [](ErrorCode code, const std::string& words, auto change) {
    ModelBuilder b = AddModel();
    change(b);
    ExpectErrorSaying(code, words, [&] { (void)b.Read(); });
  };
  refused(ErrorCode::kBadFile, "'c': the name is taken",
          [](ModelBuilder& b) { b.Initializer("c", P::FLOAT, {0}); });
  refused(ErrorCode::kBadFile, "'x': the name is taken", [](ModelBuilder& b) {
    *b.model.mutable_graph()->add_input() = b.model.graph().input(0);
  });
  refused(ErrorCode::kBadFile, "'y': the name is taken",
          [](ModelBuilder& b) { b.Node("Relu", {"x"}, {"y"}); });
  refused(ErrorCode::kBadFile, "reads 'ghost'",
          [](ModelBuilder& b) { b.Node("Relu", {"ghost"}, {"z"}); });
  refused(ErrorCode::kBadFile, "graph output 'ghost'",
          [](ModelBuilder& b) { b.model.mutable_graph()->mutable_output(0)->set_name("ghost"); });
  refused(ErrorCode::kBadFile, "cycle", [](ModelBuilder& b) {
    b.Node("Relu", {"p"}, {"q"});
    b.Node("Relu", {"q"}, {"p"});
  });
  refused(ErrorCode::kBadFile, "attribute 'axis' twice", [](ModelBuilder& b) {
    auto* node = b.Node("Softmax", {"x"}, {"z"});
    SetInt(node, "axis", 1);
    SetInt(node, "axis", 0);
  });
  refused(ErrorCode::kBadFile, "domain 'elsewhere'",
          [](ModelBuilder& b) { b.Node("Relu", {"x"}, {"z"})->set_domain("elsewhere"); });
  refused(ErrorCode::kBadFile, "do not broadcast", [](ModelBuilder& b) {
    SetShape(b.model.mutable_graph()->mutable_input(0), {2, 4});
  });
  refused(ErrorCode::kBadFile, "no ir_version",
          [](ModelBuilder& b) { b.model.clear_ir_version(); });
  refused(ErrorCode::kBadFile, "no graph", [](ModelBuilder& b) { b.model.clear_graph(); });
  refused(ErrorCode::kBadFile, "no outputs",
          [](ModelBuilder& b) { b.model.mutable_graph()->clear_output(); });
  refused(ErrorCode::kBadFile, "graph input 'x': it has no element type", [](ModelBuilder& b) {
    b.model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(
        0);
  });
  refused(ErrorCode::kUnsupported, "not a tensor", [](ModelBuilder& b) {
    b.model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_sequence_type();
  });
}

TEST(OnnxRead, AnUnknownOperatorIsReadAndLeftUntyped) {
  ModelBuilder b = AddModel();
  b.Node("Blur", {"y"}, {"z"});
  const Graph g = b.Read();
  EXPECT_EQ(g.value(g.Find("z")).type.dtype, DType::kUndefined);
}

// Cut anywhere and with any byte changed, a model reads or is refused.
TEST(OnnxRead, TruncatedAndFlippedBytesNeverCrash) {
  const std::string bytes = AddModel().model.SerializeAsString();
  int refused = 0;
  const auto read = [&](const std::string& damaged) {
    try {
      (void)ParseOnnx(std::as_bytes(std::span(damaged)), "/nonexistent");
    } catch (const Error&) {
      ++refused;
    }
  };
  for (size_t n = 0; n < bytes.size(); ++n) read(bytes.substr(0, n));
  EXPECT_EQ(refused,
            static_cast<int>(bytes.size()));  // the graph is the last field: no prefix is whole
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      read(damaged);
    }
  }
}

TEST(OnnxRead, FilesAreNamedInErrors) {
  const TestFolder folder;
  folder.Write("bad.onnx", "this is not a model");
  ExpectErrorSaying(ErrorCode::kBadFile, "bad.onnx': not an ONNX model",
                    [&] { (void)ReadOnnx(folder.path() / "bad.onnx"); });
  ExpectErrorSaying(ErrorCode::kIo, "none.onnx",
                    [&] { (void)ReadOnnx(folder.path() / "none.onnx"); });
}

// The two trained networks of the development machine; skipped where they are not.
TEST(OnnxRead, RealNetworks) {
  const auto real = std::filesystem::path(OCTET_SOURCE_DIR) / "../shared/real";
  if (!std::filesystem::exists(real / "face_rfb_320.onnx")) GTEST_SKIP() << real << " is not there";
  const Graph face = ReadOnnx(real / "face_rfb_320.onnx");  // operator set 9
  EXPECT_EQ(face.opset(), 13);
  EXPECT_EQ(face.inputs.size(), 1U);
  EXPECT_EQ(face.value(face.outputs[0]).type.ToString(), "float32[1,4420,2]");
  EXPECT_EQ(face.value(face.outputs[1]).type.ToString(), "float32[1,4420,4]");
  const Graph mobilenet = ReadOnnx(real / "mobilenet_v1_025_224.onnx");
  EXPECT_EQ(mobilenet.value(mobilenet.outputs[0]).type.ToString(), "float32[N,1000]");
}

}  // namespace
}  // namespace octet
