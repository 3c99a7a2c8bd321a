// Layers whose multiplier is a user's table: with exact products they are integer arithmetic, zero
// points and padding included, and equal to the INT8 kernels.
#include "runtime/approx_node.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/test_folder.h"
#include "runtime/test_graph.h"

namespace octet {
namespace {

using namespace testing_graph;  // NOLINT
using I = std::vector<int64_t>;

template <typename T>
Tensor Codes(const Shape& shape, uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_int_distribution<int> any(std::numeric_limits<T>::lowest(),
                                         std::numeric_limits<T>::max());
  Tensor t(DTypeOf<T>(), shape);
  for (T& v : t.mutable_data<T>()) v = static_cast<T>(any(engine));
  return t;
}

int64_t ValueOf(bool is_signed, int byte) { return is_signed ? static_cast<int8_t>(byte) : byte; }

// Products of the codes themselves times `times`.
Tensor Products(bool x_signed, bool w_signed, int64_t times) {
  Tensor t(DType::kInt64, Shape{256, 256});
  auto out = t.mutable_data<int64_t>();
  for (int x = 0; x < 256; ++x)
    for (int w = 0; w < 256; ++w)
      out[static_cast<size_t>(x * 256 + w)] = ValueOf(x_signed, x) * ValueOf(w_signed, w) * times;
  return t;
}

struct Case {
  int x_zero, w_zero;
  const char* unit;
  int64_t times;  // of products: 1 / unit
};

constexpr Case kCases[] = {
    {0, 0, "", 1}, {37, 0, "", 1}, {255, -3, "", 1}, {128, 5, ",unit=0.25", 4}};

template <typename X>
Attributes Attribute(const Case& c) {
  const bool is_signed = std::is_signed_v<X>;
  const std::string name = is_signed ? "int8" : "uint8";
  Attributes a = {{"multiplier", std::string("table:t.npy,x=") + name + ",w=int8" + c.unit},
                  {"x_format", name},
                  {"w_format", std::string("int8")},
                  {"result_format", std::string("int8")}};
  if (c.x_zero != 0) a["x_zero_point"] = int64_t{c.x_zero - (is_signed ? 128 : 0)};
  if (c.w_zero != 0) a["w_zero_point"] = int64_t{c.w_zero};
  return a;
}

// float32 results of both operators, sums below 2^24 apart by nothing.
template <typename X>
void CheckConv(const Case& c) {
  const Shape xs = {2, 6, 9, 7}, ws = {8, 3, 3, 3};
  const Tensor x = Codes<X>(xs, 1), w = Codes<int8_t>(ws, 2);
  const Attributes window = {
      {"group", int64_t{2}}, {"pads", I{1, 2, 2, 1}}, {"strides", I{2, 1}}, {"dilations", I{1, 2}}};
  const int x_zero = c.x_zero == 0 ? 0 : c.x_zero - (std::is_signed_v<X> ? 128 : 0);
  TestGraph g;
  const ValueId in = g.Input({2, 6, 9, 7}, DTypeOf<X>());
  const ValueId wi = g.Constant(w.Clone());
  g.Output(g.Op("ConvInteger",
                {in, wi, g.Constant(Tensor::Scalar<X>(static_cast<X>(x_zero))),
                 g.Constant(Tensor::Scalar<int8_t>(static_cast<int8_t>(c.w_zero)))},
                window));
  Attributes attributes = Attribute<X>(c);
  attributes.insert(window.begin(), window.end());
  const ValueId one = g.Constant(Floats({1}, {1.0F}));
  g.Output(
      g.Op("ApproxConv",
           {in, one, wi, one, kNoValue, g.Constant(Products(std::is_signed_v<X>, true, c.times))},
           attributes, "octet"));
  const auto y = g.Run({&x});
  ASSERT_EQ(y[0].shape(), y[1].shape());
  for (int64_t i = 0; i < y[0].elements(); ++i) {
    const auto at = static_cast<size_t>(i);
    ASSERT_EQ(static_cast<float>(y[0].data<int32_t>()[at]), y[1].data<float>()[at])
        << i << " with zero points " << x_zero << ", " << c.w_zero << c.unit;
  }
}

TEST(UserTables, OfExactProductsAreConvInteger) {
  for (const Case& c : kCases) {
    CheckConv<uint8_t>(c);
    CheckConv<int8_t>(c);
  }
}

TEST(UserTables, OfExactProductsAreMatMulInteger) {
  const Tensor a = Codes<uint8_t>({5, 70}, 3), b = Codes<int8_t>({70, 9}, 4);
  for (const Case& c : kCases) {
    TestGraph g;
    const ValueId in = g.Input({5, 70}, DType::kUint8), w = g.Constant(b.Clone());
    g.Output(g.Op("MatMulInteger",
                  {in, w, g.Constant(Tensor::Scalar<uint8_t>(static_cast<uint8_t>(c.x_zero))),
                   g.Constant(Tensor::Scalar<int8_t>(static_cast<int8_t>(c.w_zero)))}));
    const ValueId one = g.Constant(Floats({1}, {1.0F}));
    g.Output(g.Op("ApproxMatMul",
                  {in, one, w, one, kNoValue, g.Constant(Products(false, true, c.times))},
                  Attribute<uint8_t>(c), "octet"));
    const auto y = g.Run({&a});
    for (size_t i = 0; i < 45; ++i)
      ASSERT_EQ(static_cast<float>(y[0].data<int32_t>()[i]), y[1].data<float>()[i]) << i;
  }
}

// Every entry 7 off: 7 a product, padding too; terms of zero points stay exact.
TEST(UserTables, ZeroPointsAreExactAdders) {
  const Tensor a = Codes<uint8_t>({3, 20}, 5), b = Codes<int8_t>({20, 4}, 6);
  const auto run = [&](int64_t off) {
    TestGraph g;
    Tensor products = Products(false, true, 1);
    for (int64_t& v : products.mutable_data<int64_t>()) v += off;
    const ValueId one = g.Constant(Floats({1}, {1.0F}));
    g.Output(g.Op("ApproxMatMul",
                  {g.Input({3, 20}, DType::kUint8), one, g.Constant(b.Clone()), one, kNoValue,
                   g.Constant(std::move(products))},
                  Attribute<uint8_t>(kCases[1]), "octet"));
    return std::move(g.Run({&a})[0]);
  };
  const Tensor exact = run(0), wrong = run(7);
  for (size_t i = 0; i < 12; ++i)
    EXPECT_EQ(wrong.data<float>()[i] - exact.data<float>()[i], 140.0F);
}

TEST(UserTables, RefuseZeroPointsThatMakeNoSense) {
  Node node;
  node.op = "ApproxMatMul";
  node.domain = "octet";
  node.name = "fc";
  node.inputs = {0, 1, 2, 3, kNoValue, 5};
  const Tensor one = Floats({1}, {1.0F}), w = Codes<int8_t>({4, 4}, 1);
  const Tensor products = Products(false, true, 1);
  const auto constant = [&](size_t i) { return i == 2 ? &w : i == 5 ? &products : &one; };
  const auto refused = [&](const char* multiplier, const char* format, const char* word) {
    node.attributes = {{"multiplier", std::string(multiplier)},
                       {"x_format", std::string(format)},
                       {"w_format", std::string(format)},
                       {"result_format", std::string(format)},
                       {"x_zero_point", int64_t{3}}};
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)ReadApproxNode(node, constant); }, "fc", word);
  };
  refused("table:t.npy,x=uint8,w=int8,unit=1.5", "int8", "whole number");
  refused("table:t.npy,x=e4m3,w=e4m3", "e4m3", "float codes");
  refused("hw:d=3", "e4m3:bias=int", "zero points");
}

}  // namespace
}  // namespace octet
