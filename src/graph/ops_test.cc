// The operator table: shapes and types against values that onnx.shape_inference 1.23 and the
// operators' texts give.
#include "graph/ops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace octet {
namespace {

using ::testing::HasSubstr;
using Ints = std::vector<int64_t>;
using Attributes = std::map<std::string, Attribute>;

// An input of an operator under test: a type, or a constant.
struct In {
  ValueType type;
  std::shared_ptr<Tensor> constant;
  bool omitted = false;

  In(DType dtype, Ints dims, std::vector<std::string> symbols = {})
      : type{dtype, true, std::move(dims), std::move(symbols)} {}
  In(Tensor tensor)
      : type(ValueType::Of(tensor.dtype(), tensor.shape())),
        constant(std::make_shared<Tensor>(std::move(tensor))) {}
  In(ValueType t) : type(std::move(t)) {}
  static In None() {
    In in(ValueType{});
    in.omitted = true;
    return in;
  }
};

In F(Ints dims) { return {DType::kFloat32, std::move(dims)}; }
In U8(Ints dims) { return {DType::kUint8, std::move(dims)}; }
In I8(Ints dims) { return {DType::kInt8, std::move(dims)}; }
In Vector(const Ints& values) {
  return Tensor::Of<int64_t>({static_cast<int64_t>(values.size())},
                             std::span<const int64_t>(values));
}
In Floats(const std::vector<float>& values) {
  return Tensor::Of<float>({static_cast<int64_t>(values.size())}, std::span<const float>(values));
}

std::vector<std::string> InferAll(std::string op, const std::vector<In>& inputs,
                                  Attributes attributes = {}, std::string domain = "",
                                  size_t outputs = 1, int64_t opset = 13) {
  Graph graph;
  graph.opsets[""] = opset;
  Node node{std::move(op), std::move(domain), "n", {}, {}, std::move(attributes)};
  std::vector<const ValueType*> types;
  std::vector<const Tensor*> constants;
  for (size_t i = 0; i < inputs.size(); ++i) {
    node.inputs.push_back(inputs[i].omitted ? kNoValue : static_cast<ValueId>(i));
    types.push_back(inputs[i].omitted ? nullptr : &inputs[i].type);
    constants.push_back(inputs[i].constant.get());
  }
  for (size_t i = 0; i < outputs; ++i) node.outputs.push_back(static_cast<ValueId>(100 + i));
  std::vector<std::string> result;
  for (const ValueType& type : InferNode(graph, node, types, constants))
    result.push_back(type.ToString());
  return result;
}

std::string Infer(std::string op, const std::vector<In>& inputs, Attributes attributes = {},
                  std::string domain = "", int64_t opset = 13) {
  return InferAll(std::move(op), inputs, std::move(attributes), std::move(domain), 1, opset)
      .front();
}

std::string Refusal(std::string op, const std::vector<In>& inputs, Attributes attributes = {},
                    std::string domain = "", int64_t opset = 13) {
  try {
    return "no error: " +
           Infer(std::move(op), inputs, std::move(attributes), std::move(domain), opset);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadFile) << e.what();
    return e.what();
  }
}

TEST(Ops, TheTableHasNoDuplicates) {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const OpInfo* row : AllOps()) {
    EXPECT_TRUE(seen.emplace(row->op, row->domain).second) << row->op;
    EXPECT_EQ(FindOp(row->op, row->domain), row);
    EXPECT_TRUE(row->max_inputs < 0 || row->min_inputs <= row->max_inputs) << row->op;
  }
  EXPECT_GT(seen.size(), 100U);
  EXPECT_EQ(FindOp("Conv", "octet"), nullptr);
  EXPECT_EQ(FindOp("QGemm", "com.microsoft")->max_inputs, 9);
}

TEST(Ops, AnUnknownOperatorIsNamed) {
  try {
    (void)Infer("Blur", {F({1})});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(e.what(),
                HasSubstr("'n': the operator Blur of the domain 'ai.onnx' (operator set 13)"));
  }
}

TEST(Ops, TheNumberOfInputsIsChecked) {
  EXPECT_THAT(Refusal("Conv", {F({1, 1, 5, 5})}), HasSubstr("1 inputs, expected 2 to 3"));
  EXPECT_THAT(Refusal("Relu", {F({1}), F({1})}), HasSubstr("2 inputs, expected 1 to 1"));
  EXPECT_THAT(Refusal("Add", {F({1}), In::None()}), HasSubstr("input 1 is missing"));
}

TEST(Elementwise, Broadcasting) {
  EXPECT_EQ(Infer("Add", {F({2, 1, 4}), F({3, 1})}), "float32[2,3,4]");
  EXPECT_EQ(Infer("Add", {F({}), F({5})}), "float32[5]");
  EXPECT_EQ(Infer("Mul", {{DType::kFloat32, {-1, 3}, {"N", ""}}, F({1, 3})}), "float32[N,3]");
  EXPECT_EQ(Infer("Mul", {{DType::kFloat32, {-1}, {"N"}}, {DType::kFloat32, {-1}, {"N"}}}),
            "float32[N]");
  EXPECT_EQ(Infer("Mul", {{DType::kFloat32, {-1}, {"N"}}, {DType::kFloat32, {-1}, {"M"}}}),
            "float32[?]");
  EXPECT_EQ(Infer("Mul", {{DType::kFloat32, {-1}, {"N"}}, F({4})}), "float32[4]");
  EXPECT_EQ(Infer("Sub", {F({0, 3}), F({1, 3})}), "float32[0,3]");
  EXPECT_EQ(Infer("Max", {F({2, 1}), F({1, 3}), F({})}), "float32[2,3]");
  EXPECT_EQ(Infer("Less", {F({2, 1}), F({3})}), "bool[2,3]");
  EXPECT_EQ(Infer("Where", {{DType::kBool, {2, 1}}, F({3}), F({})}), "float32[2,3]");
  EXPECT_EQ(Infer("Pow", {F({2}), {DType::kInt64, {}}}), "float32[2]");
  EXPECT_THAT(Refusal("Add", {F({2, 3}), F({2, 4})}),
              HasSubstr("[2,3] and [2,4] do not broadcast"));
  EXPECT_THAT(Refusal("Add", {F({2}), I8({2})}), HasSubstr("input 1 is int8"));
}

TEST(Elementwise, SameShape) {
  EXPECT_EQ(Infer("Clip", {F({1, 2}), F({}), In::None()}), "float32[1,2]");
  EXPECT_THAT(Refusal("Clip", {F({1, 2}), F({2})}), HasSubstr("expected a scalar"));
  EXPECT_EQ(Infer("PRelu", {F({1, 2, 3}), F({2, 1})}), "float32[1,2,3]");
  EXPECT_THAT(Refusal("PRelu", {F({2}), F({2, 1})}), HasSubstr("does not broadcast"));
  EXPECT_EQ(Infer("Cast", {F({2})}, {{"to", int64_t{9}}}), "bool[2]");
  EXPECT_EQ(InferAll("Dropout", {F({2})}, {}, "", 2)[1], "bool[2]");
}

TEST(Elementwise, ModOfFloatsNeedsFmod) {
  EXPECT_EQ(Infer("Mod", {F({2, 1}), F({3})}, {{"fmod", int64_t{1}}}), "float32[2,3]");
  EXPECT_EQ(Infer("Mod", {I8({2}), I8({})}), "int8[2]");
  EXPECT_THAT(Refusal("Mod", {F({2}), F({2})}), HasSubstr("fmod is 0 with float32 inputs"));
}

TEST(Conv, Shapes) {
  EXPECT_EQ(
      Infer("Conv", {{DType::kFloat32, {-1, 3, 224, 224}, {"N", "", "", ""}}, F({8, 3, 3, 3})},
            {{"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}),
      "float32[N,8,112,112]");
  EXPECT_EQ(Infer("Conv", {{DType::kFloat32, {1, 3, -1, 10}}, F({8, 3, 3, 3})}),
            "float32[1,8,?,8]");
  EXPECT_THAT(Refusal("Conv", {F({1, 4, 5, 5}), F({8, 3, 3, 3})}), HasSubstr("channels"));
  EXPECT_THAT(Refusal("Conv", {F({1, 3, 2, 2}), F({8, 3, 3, 3})}), HasSubstr("a window of 3"));
  EXPECT_EQ(Infer("ConvTranspose", {F({1, 4, 5, 5}), F({4, 3, 2, 2})},
                  {{"group", int64_t{2}}, {"strides", Ints{2, 2}}}),
            "float32[1,6,10,10]");
  EXPECT_EQ(Infer("AveragePool", {F({1, 4, 6, 6})}, {{"kernel_shape", Ints{2, 3}}}),
            "float32[1,4,5,4]");
  EXPECT_EQ(InferAll("MaxPool", {F({1, 4, 6, 6})}, {{"kernel_shape", Ints{2, 2}}}, "", 2)[1],
            "int64[1,4,5,5]");
  EXPECT_EQ(Infer("GlobalAveragePool", {F({2, 4, 6, 7})}), "float32[2,4,1,1]");
}

TEST(Linear, Shapes) {
  EXPECT_EQ(Infer("Gemm", {F({5, 2}), F({3, 5})}, {{"transA", int64_t{1}}, {"transB", int64_t{1}}}),
            "float32[2,3]");
  EXPECT_THAT(Refusal("Gemm", {F({2, 5}), F({3, 5})}),
              HasSubstr("inner dimensions 5 and 3 differ"));
  EXPECT_EQ(Infer("MatMul", {F({2, 1, 4, 5}), F({3, 5, 6})}), "float32[2,3,4,6]");
  EXPECT_EQ(Infer("MatMul", {F({5}), F({3, 5, 6})}), "float32[3,6]");
  EXPECT_EQ(Infer("MatMul", {F({3, 4, 5}), F({5})}), "float32[3,4]");
  EXPECT_EQ(Infer("MatMul", {F({5}), F({5})}), "float32[]");
}

TEST(Normalize, Shapes) {
  EXPECT_EQ(Infer("BatchNormalization", {F({1, 3, 4, 4}), F({3}), F({3}), F({3}), F({3})}),
            "float32[1,3,4,4]");
  EXPECT_THAT(Refusal("BatchNormalization", {F({1, 3, 4, 4}), F({3}), F({4}), F({3}), F({3})}),
              HasSubstr("channels"));
  EXPECT_EQ(InferAll("LayerNormalization", {F({2, 3, 4}), F({4})}, {}, "", 3, 17)[1],
            "float32[2,3,1]");
  EXPECT_EQ(Infer("RMSNormalization", {F({2, 3, 4}), F({4})}, {}, "", 23), "float32[2,3,4]");
  EXPECT_EQ(Infer("GroupNormalization", {F({1, 4, 3, 3}), F({2}), F({2})},
                  {{"num_groups", int64_t{2}}}, "", 18),
            "float32[1,4,3,3]");
  EXPECT_THAT(Refusal("GroupNormalization", {F({1, 4, 3, 3}), F({2}), F({2})},
                      {{"num_groups", int64_t{2}}}, "", 21),
              HasSubstr("scale or bias"));
  EXPECT_THAT(Refusal("Softmax", {F({2, 3})}, {{"axis", int64_t{2}}}),
              HasSubstr("axis 2 of a tensor of rank 2"));
}

TEST(Reduce, AxesAreAnAttributeOrAnInput) {
  EXPECT_EQ(Infer("ReduceMean", {F({2, 3, 4})}, {{"axes", Ints{-1, 0}}}), "float32[1,3,1]");
  EXPECT_EQ(Infer("ReduceMean", {F({2, 3, 4}), Vector({1})}, {{"keepdims", int64_t{0}}}, "", 18),
            "float32[2,4]");
  EXPECT_EQ(Infer("ReduceSum", {F({2, 3, 4})}), "float32[1,1,1]");
  EXPECT_EQ(Infer("ReduceSum", {F({2, 3, 4}), Vector({})}, {{"noop_with_empty_axes", int64_t{1}}}),
            "float32[2,3,4]");
  EXPECT_EQ(Infer("ReduceMax", {F({2, 3}), {DType::kInt64, {1}}}, {}, "", 18), "float32[?,?]");
  EXPECT_THAT(Refusal("ReduceMean", {F({2, 3})}, {{"axes", Ints{1, -1}}}),
              HasSubstr("named twice"));
  EXPECT_EQ(Infer("ArgMax", {F({2, 3, 4})}, {{"axis", int64_t{1}}, {"keepdims", int64_t{0}}}),
            "int64[2,4]");
}

TEST(Reshape, ZeroCopiesAndMinusOneIsWorkedOut) {
  EXPECT_EQ(Infer("Reshape", {F({2, 3, 4}), Vector({0, -1})}), "float32[2,12]");
  EXPECT_EQ(Infer("Reshape", {F({2, 0}), Vector({0, 3})}, {{"allowzero", int64_t{1}}}),
            "float32[0,3]");
  const In batch{DType::kFloat32, {-1, 3, 4}, {"N", "", ""}};
  EXPECT_EQ(Infer("Reshape", {batch, Vector({0, -1})}), "float32[N,12]");
  EXPECT_EQ(Infer("Reshape", {batch, Vector({-1, 12})}), "float32[?,12]");
  EXPECT_THAT(Refusal("Reshape", {F({2, 3}), Vector({4, -1})}), HasSubstr("does not reshape"));
  EXPECT_THAT(Refusal("Reshape", {F({2, 3}), Vector({5})}), HasSubstr("does not reshape"));
  EXPECT_THAT(Refusal("Reshape", {F({2, 3}), Vector({-1, -1})}), HasSubstr("-1 twice"));
  EXPECT_THAT(Refusal("Reshape", {F({2}), Vector({2, 0})}), HasSubstr("copies dimension 1"));
  EXPECT_THAT(Refusal("Reshape", {F({2}), Vector({int64_t{1} << 62, 4})}), HasSubstr("overflows"));
}

TEST(ShapeOps, Moves) {
  EXPECT_EQ(Infer("Flatten", {F({2, 3, 4, 5})}, {{"axis", int64_t{-2}}}), "float32[6,20]");
  EXPECT_EQ(Infer("Flatten", {F({2, 3})}, {{"axis", int64_t{0}}}), "float32[1,6]");
  EXPECT_EQ(Infer("Transpose", {F({2, 3, 4})}), "float32[4,3,2]");
  EXPECT_EQ(Infer("Transpose", {F({2, 3, 4})}, {{"perm", Ints{1, 0, 2}}}), "float32[3,2,4]");
  EXPECT_THAT(Refusal("Transpose", {F({2, 3})}, {{"perm", Ints{0, 0}}}), HasSubstr("named twice"));
  EXPECT_EQ(Infer("Squeeze", {F({1, 3, 1}), Vector({-1})}), "float32[1,3]");
  EXPECT_EQ(Infer("Squeeze", {F({1, 3, 1})}), "float32[3]");
  EXPECT_THAT(Refusal("Squeeze", {F({2, 3}), Vector({0})}), HasSubstr("is not 1"));
  EXPECT_EQ(Infer("Unsqueeze", {F({3, 4}), Vector({0, -1})}), "float32[1,3,4,1]");
  EXPECT_EQ(Infer("Concat", {F({2, 3}), F({2, 5})}, {{"axis", int64_t{-1}}}), "float32[2,8]");
  EXPECT_THAT(Refusal("Concat", {F({2, 3}), F({3, 3})}, {{"axis", int64_t{1}}}),
              HasSubstr("dimensions 0"));
  EXPECT_EQ(Infer("Tile", {F({2, 3}), Vector({2, 0})}), "float32[4,0]");
  EXPECT_EQ(Infer("Expand", {F({3, 1}), Vector({2, 1, 6})}), "float32[2,3,6]");
  EXPECT_EQ(Infer("DepthToSpace", {F({1, 8, 2, 3})}, {{"blocksize", int64_t{2}}}),
            "float32[1,2,4,6]");
  EXPECT_EQ(Infer("SpaceToDepth", {F({1, 2, 4, 6})}, {{"blocksize", int64_t{2}}}),
            "float32[1,8,2,3]");
}

TEST(Split, EvenUnevenAndGiven) {
  EXPECT_EQ(InferAll("Split", {F({6})}, {}, "", 3)[2], "float32[2]");
  EXPECT_EQ(InferAll("Split", {F({7}), Vector({2, 5})}, {}, "", 2)[1], "float32[5]");
  EXPECT_EQ(InferAll("Split", {F({7})}, {{"num_outputs", int64_t{3}}}, "", 3, 18)[2], "float32[1]");
  EXPECT_THROW((void)InferAll("Split", {F({7})}, {}, "", 3), Error);
  EXPECT_THROW((void)InferAll("Split", {F({7}), Vector({2, 4})}, {}, "", 2), Error);
}

TEST(Slice, AsNumpy) {
  const In x = F({20, 10, 5});
  EXPECT_EQ(Infer("Slice", {x, Vector({0, 0}), Vector({3, 10}), Vector({0, 1})}),
            "float32[3,10,5]");
  EXPECT_EQ(Infer("Slice", {x, Vector({1}), Vector({-1}), Vector({1})}), "float32[20,8,5]");
  EXPECT_EQ(Infer("Slice", {x, Vector({1000}), Vector({1000}), Vector({1})}), "float32[20,0,5]");
  EXPECT_EQ(Infer("Slice", {x, Vector({20, 10, 4}), Vector({0, 0, 1}), Vector({0, 1, 2}),
                            Vector({-1, -3, -2})}),
            "float32[19,3,2]");
  EXPECT_EQ(Infer("Slice", {x, Vector({-1}), Vector({INT64_MIN}), Vector({2}), Vector({-1})}),
            "float32[20,10,5]");
  EXPECT_EQ(Infer("Slice", {F({0}), Vector({0}), Vector({-9}), Vector({0}), Vector({-1})}),
            "float32[0]");
  EXPECT_EQ(
      Infer("Slice", {F({9}), Vector({8}), Vector({INT64_MIN}), Vector({0}), Vector({INT64_MIN})}),
      "float32[1]");
  EXPECT_THAT(Refusal("Slice", {x, Vector({0}), Vector({1}), Vector({0}), Vector({0})}),
              HasSubstr("a step of 0"));
}

TEST(PadResize, Shapes) {
  EXPECT_EQ(Infer("Pad", {F({1, 2, 3}), Vector({0, 0, 1, 0, 0, -2})}), "float32[1,2,2]");
  EXPECT_EQ(Infer("Pad", {F({1, 2, 3}), Vector({1, 1}), In::None(), Vector({-1})}, {}, "", 18),
            "float32[1,2,5]");
  EXPECT_THAT(Refusal("Pad", {F({1, 2}), Vector({1, 1})}), HasSubstr("2 pads for 2 axes"));
  EXPECT_EQ(Infer("Resize", {F({1, 1, 2, 4}), In::None(), Floats({1, 1, 0.6F, 0.6F})}),
            "float32[1,1,1,2]");
  EXPECT_EQ(Infer("Resize", {F({1, 1, 2, 4}), In::None(), In::None(), Vector({1, 1, 7, 8})}),
            "float32[1,1,7,8]");
  EXPECT_EQ(Infer("Resize", {F({1, 1, 2, 4}), In::None(), In::None(), Vector({7, 8})},
                  {{"axes", Ints{2, 3}}, {"keep_aspect_ratio_policy", std::string("not_larger")}},
                  "", 18),
            "float32[1,1,4,8]");
  EXPECT_THAT(Refusal("Resize", {F({1}), In::None(), Floats({-1})}), HasSubstr("a scale of -1"));
}

TEST(Index, Shapes) {
  EXPECT_EQ(Infer("Gather", {F({4, 5, 6}), {DType::kInt64, {2, 3}}}, {{"axis", int64_t{1}}}),
            "float32[4,2,3,6]");
  EXPECT_EQ(Infer("GatherElements", {F({4, 5}), {DType::kInt64, {2, 3}}}), "float32[2,3]");
  EXPECT_EQ(Infer("GatherND", {F({4, 5, 6}), {DType::kInt64, {7, 2}}}), "float32[7,6]");
  EXPECT_EQ(
      Infer("GatherND", {F({4, 5, 6}), {DType::kInt64, {4, 1}}}, {{"batch_dims", int64_t{1}}}),
      "float32[4,6]");
  EXPECT_EQ(Infer("TopK", {F({4, 5}), Vector({3})}), "float32[4,3]");
  EXPECT_THAT(Refusal("TopK", {F({4, 5}), Vector({6})}), HasSubstr("k does not fit"));
  EXPECT_EQ(Infer("OneHot", {{DType::kInt64, {3}}, Vector({10}), F({2})}), "float32[3,10]");
  EXPECT_EQ(Infer("NonZero", {F({2, 3})}), "int64[2,?]");
  const auto range = [](int64_t a, int64_t b, int64_t c) {
    return Infer("Range", {Tensor::Scalar(a), Tensor::Scalar(b), Tensor::Scalar(c)});
  };
  EXPECT_EQ(range(0, 10, 3), "int64[4]");
  EXPECT_EQ(range(10, 4, -2), "int64[3]");
  EXPECT_EQ(range(5, 4, 1), "int64[0]");
  EXPECT_THROW((void)range(INT64_MIN, INT64_MAX, 1), Error);
}

TEST(Quantize, TypesComeFromTheZeroPoint) {
  EXPECT_EQ(Infer("QuantizeLinear", {F({2, 3}), F({})}), "uint8[2,3]");
  EXPECT_EQ(Infer("QuantizeLinear", {F({2, 3}), F({3}), I8({3})}), "int8[2,3]");
  EXPECT_EQ(Infer("QuantizeLinear", {F({2}), F({})}, {{"output_dtype", int64_t{3}}}, "", 21),
            "int8[2]");
  EXPECT_EQ(Infer("DequantizeLinear", {I8({2, 3}), F({2}), I8({2})}, {{"axis", int64_t{0}}}),
            "float32[2,3]");
  EXPECT_THAT(Refusal("DequantizeLinear", {I8({2, 3}), F({2}), I8({2})}), HasSubstr("dimension 1"));
  EXPECT_THAT(Refusal("DequantizeLinear", {I8({2, 3}), F({}), U8({})}),
              HasSubstr("input 2 is uint8"));
  EXPECT_THAT(Refusal("QuantizeLinear", {F({2, 3}), F({3}), I8({2})}),
              HasSubstr("scale and zero point"));
  EXPECT_EQ(InferAll("DynamicQuantizeLinear", {F({2})}, {}, "", 3),
            (std::vector<std::string>{"uint8[2]", "float32[]", "uint8[]"}));
}

TEST(Quantize, IntegerOperators) {
  const std::vector<In> conv = {U8({1, 3, 8, 8}), F({}),   U8({}), I8({4, 3, 3, 3}),
                                F({4}),           I8({4}), F({}),  I8({})};
  EXPECT_EQ(Infer("QLinearConv", conv), "int8[1,4,6,6]");
  EXPECT_EQ(
      Infer("QLinearMatMul", {U8({2, 3}), F({}), U8({}), U8({3, 4}), F({}), U8({}), F({}), U8({})}),
      "uint8[2,4]");
  EXPECT_EQ(Infer("ConvInteger", {U8({1, 3, 8, 8}), I8({4, 3, 3, 3})}), "int32[1,4,6,6]");
  EXPECT_EQ(Infer("MatMulInteger", {U8({2, 3}), I8({3, 4})}), "int32[2,4]");
}

TEST(Quantize, Microsoft) {
  const std::string ms = "com.microsoft";
  EXPECT_EQ(Infer("QLinearAdd", {U8({2, 1}), F({}), U8({}), U8({3}), F({}), U8({}), F({}), U8({})},
                  {}, ms),
            "uint8[2,3]");
  EXPECT_EQ(Infer("QLinearGlobalAveragePool", {U8({1, 5, 6, 7}), F({}), U8({}), F({}), U8({})},
                  {{"channels_last", int64_t{1}}}, ms),
            "uint8[1,1,1,7]");
  EXPECT_EQ(
      Infer("QLinearConcat", {F({}), U8({}), U8({1, 2}), F({}), U8({}), U8({1, 3}), F({}), U8({})},
            {{"axis", int64_t{1}}}, ms),
      "uint8[1,5]");
  EXPECT_THROW((void)Infer("QLinearConcat", {F({}), U8({}), U8({1, 2}), F({}), U8({}), U8({1, 3})},
                           {{"axis", int64_t{1}}}, ms),
               Error);
  const std::vector<In> gemm = {U8({2, 3}), F({}), U8({}), I8({3, 4}), F({}), I8({})};
  EXPECT_EQ(Infer("QGemm", gemm, {}, ms), "float32[2,4]");
}

TEST(Octet, LoweredOperators) {
  EXPECT_EQ(Infer("QConv", {U8({1, 3, 8, 8}), I8({4, 3, 3, 3})},
                  {{"output_dtype", int64_t{3}}, {"pads", Ints{1, 1, 1, 1}}}, "octet"),
            "int8[1,4,8,8]");
  EXPECT_EQ(Infer("QGemm", {U8({2, 7, 3}), I8({4, 3})}, {{"transB", int64_t{1}}}, "octet"),
            "uint8[2,7,4]");
  EXPECT_EQ(Infer("QAdd", {U8({2, 3}), U8({2, 3})}, {}, "octet"), "uint8[2,3]");
  EXPECT_THROW((void)Infer("QAdd", {U8({2, 3}), U8({2, 1})}, {}, "octet"), Error);
  EXPECT_EQ(Infer("QLookup", {U8({2, 3})}, {}, "octet"), "uint8[2,3]");
  EXPECT_EQ(Infer("QGlobalAveragePool", {U8({2, 3, 4, 4})}, {}, "octet"), "uint8[2,3,1,1]");
}

// What exporters make of x.view(x.size(0), -1): the batch stays symbolic, the rest is worked out.
TEST(InferShapes, SmallIntegersArePropagated) {
  Graph g;
  g.opsets[""] = 13;
  const ValueId x = g.AddInput("x", {DType::kFloat32, true, {-1, 3, 4}, {"N", "", ""}});
  const auto add = [&](std::string op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    const ValueId out = g.AddValue(op + "_out");
    g.AddNode({std::move(op), "", "", std::move(inputs), {out}, std::move(attributes)});
    return out;
  };
  const ValueId zero = g.AddConstant("zero", Tensor::Scalar<int64_t>(0));
  const ValueId axis = g.AddConstant("axis", Tensor::Of<int64_t>({1}, {0}));
  const ValueId shape = add("Shape", {x});
  const ValueId n = add("Gather", {shape, zero}, {{"axis", int64_t{0}}});
  const ValueId batch = add("Unsqueeze", {n, axis});
  const ValueId start = g.AddConstant("start", Tensor::Of<int64_t>({1}, {1}));
  const ValueId end = g.AddConstant("end", Tensor::Of<int64_t>({1}, {INT64_MAX}));
  const ValueId rest = add("ReduceProd", {add("Slice", {shape, start, end})});
  const ValueId two = g.AddConstant("two", Tensor::Of<int64_t>({1}, {2}));
  const ValueId doubled = add("Mul", {add("Div", {rest, two}), two});
  const ValueId target = add("Concat", {batch, doubled}, {{"axis", int64_t{0}}});
  const ValueId y = add("Reshape", {x, target});
  g.outputs = {y};
  InferShapes(g, true);
  EXPECT_EQ(g.value(y).type.ToString(), "float32[N,12]");
  EXPECT_EQ(g.value(target).constant, nullptr);  // known, but not folded
}

// perm_y permutes the product's axes; what is no permutation is refused by name.
TEST(InferShapes, PermutedProducts) {
  const std::vector<In> codes = {U8({2, 5, 3, 4}), I8({2, 7, 3, 4})};
  EXPECT_EQ(Infer("QMatMul", codes,
                  {{"perm_a", Ints{0, 2, 1, 3}},
                   {"perm_b", Ints{0, 2, 3, 1}},
                   {"perm_y", Ints{0, 2, 1, 3}},
                   {"output_dtype", int64_t{1}}},
                  "octet"),
            "float32[2,5,3,7]");
  for (const Ints& perm : {Ints{0, 2, 1}, Ints{0, 2, 2, 3}, Ints{0, 2, 1, 4}, Ints{-1, 0, 1, 2},
                           Ints{0, 1, 2, 3, 4}}) {
    EXPECT_THAT(Refusal("QMatMul", codes, {{"perm_a", perm}}, "octet"), HasSubstr("perm_a"));
  }
}

TEST(InferShapes, DeclaredTypesFillWhatInferenceLeavesOpen) {
  Graph g;
  g.opsets[""] = 13;
  const ValueId x = g.AddInput("x", {DType::kFloat32, true, {2, 3}, {}});
  const ValueId target = g.AddInput("target", {DType::kInt64, true, {2}, {}});
  const ValueId r = g.AddValue("r", {DType::kFloat32, true, {6, -1}, {"", "K"}});
  g.AddNode({"Reshape", "", "", {x, target}, {r}, {}});
  const ValueId relu = g.AddValue("relu", {DType::kFloat32, true, {99, 3}, {}});
  g.AddNode({"Relu", "", "", {x}, {relu}, {}});
  const ValueId custom = g.AddValue("custom", {DType::kFloat32, true, {7}, {}});
  g.AddNode({"Blur", "somewhere", "", {x}, {custom}, {}});
  g.outputs = {r, relu, custom};
  InferShapes(g, false);
  EXPECT_EQ(g.value(r).type.ToString(), "float32[6,K]");
  EXPECT_EQ(g.value(relu).type.ToString(), "float32[2,3]");  // inference wins
  EXPECT_EQ(g.value(custom).type.ToString(), "float32[7]");
  EXPECT_THROW(InferShapes(g, true), Error);
}

TEST(InferShapes, HugeDimensionsAreRefusedNotOverflown) {
  EXPECT_THAT(
      Refusal("Flatten", {F({int64_t{1} << 40, int64_t{1} << 40, 2})}, {{"axis", int64_t{0}}}),
      HasSubstr("overflows"));
  EXPECT_THAT(Refusal("Relu", {F({int64_t{1} << 41})}), HasSubstr("too large"));
}

}  // namespace
}  // namespace octet
