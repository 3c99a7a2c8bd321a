#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/test_folder.h"

namespace octet {
namespace {

TEST(DType, NamesAndSizes) {
  for (int i = 1; i <= static_cast<int>(DType::kFloat8E5M2FnUz); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(ParseDType(NameOf(dtype)), dtype);
    EXPECT_GT(SizeOf(dtype), 0);
  }
  EXPECT_EQ(SizeOf(DType::kFloat64), 8);
  EXPECT_EQ(SizeOf(DType::kBFloat16), 2);
  EXPECT_EQ(SizeOf(DType::kUndefined), 0);
  EXPECT_TRUE(IsInteger(DType::kInt8) && IsInteger(DType::kUint64));
  EXPECT_FALSE(IsInteger(DType::kBool) || IsInteger(DType::kFloat32) ||
               IsInteger(DType::kFloat8E4M3Fn));
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)ParseDType("undefined"); }, "undefined");
}

TEST(Shape, ElementsAndProducts) {
  EXPECT_EQ(Shape{}.elements(), 1);
  EXPECT_EQ((Shape{2, 3, 4}.elements()), 24);
  EXPECT_EQ((Shape{2, 0, 4}.elements()), 0);
  EXPECT_EQ((Shape{2, 3, 4}.product(1, 3)), 12);
  EXPECT_EQ((Shape{2, 3, 4}.product(3, 3)), 1);
  EXPECT_EQ((Shape{1, 3, 224}.ToString()), "[1,3,224]");
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));
}

TEST(Shape, HostileDimensions) {
  const int64_t big = int64_t{1} << 40;
  ExpectError(
      ErrorCode::kUnsupported,
      [] {
        const Shape s({1, -1});
      },
      "-1");
  ExpectError(
      ErrorCode::kUnsupported, [] { const Shape s(std::vector<int64_t>(9, 1)); }, "rank 9");
  ExpectError(
      ErrorCode::kUnsupported,
      [&] {
        (void)Shape({big, big}).elements();
      },
      "too many elements");
  // A zero hides no overflow of the others.
  ExpectError(
      ErrorCode::kUnsupported,
      [&] {
        (void)Shape({big, 0, big}).elements();
      },
      "too many");
  ExpectError(
      ErrorCode::kUnsupported, [&] { const Tensor t(DType::kFloat64, Shape{int64_t{1} << 61}); },
      "too large");
  ExpectError(
      ErrorCode::kUnsupported, [&] { const Tensor t(DType::kUint8, Shape{int64_t{1} << 60}); },
      "no memory");
}

TEST(Tensor, IsZeroedAlignedAndMoves) {
  Tensor t(DType::kFloat32, Shape{3, 5});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(t.raw()) % 64, 0u);
  for (const float v : t.data<float>()) EXPECT_EQ(v, 0.0F);
  t.mutable_data<float>()[14] = 2.5F;
  const Tensor copy = t.Clone();
  const void* at = t.raw();
  const Tensor moved = std::move(t).Reshaped(Shape{15});
  EXPECT_EQ(moved.raw(), at);
  EXPECT_EQ(moved.data<float>()[14], 2.5F);
  EXPECT_EQ(copy.data<float>()[14], 2.5F);
  EXPECT_NE(copy.raw(), at);
}

TEST(Tensor, BorrowedIsReadOnlyAndKeepsItsOwner) {
  auto owner = std::make_shared<std::vector<int32_t>>(std::vector<int32_t>{1, 2, 3});
  const std::weak_ptr<std::vector<int32_t>> watch = owner;
  {
    const void* data = owner->data();
    Tensor t = Tensor::Borrow(DType::kInt32, Shape{3}, data, std::move(owner));
    EXPECT_EQ(t.data<int32_t>()[2], 3);
    ExpectError(ErrorCode::kInternal, [&] { (void)t.mutable_raw(); });
    EXPECT_FALSE(watch.expired());
  }
  EXPECT_TRUE(watch.expired());
}

TEST(Tensor, TypeAndSizeAreChecked) {
  const Tensor t = Tensor::Of<float>(Shape{2}, {1, 2});
  ExpectError(ErrorCode::kInternal, [&] { (void)t.data<int32_t>(); });
  ExpectError(ErrorCode::kInternal, [] { (void)Tensor::Of<float>(Shape{2}, {1, 2, 3}); });
  ExpectError(ErrorCode::kInternal,
              [] { (void)Tensor(DType::kInt8, Shape{4}).Reshaped(Shape{5}); });
  EXPECT_EQ(Tensor::Scalar(int64_t{7}).data<int64_t>()[0], 7);
  EXPECT_EQ(Tensor(DType::kFloat32, Shape{0, 3}).Clone().bytes(), 0);
}

}  // namespace
}  // namespace octet
